//! The `stats` pass: statistics of a corpus for every input, every tag and in total, in one pass over the text. A cleaned
//! corpus also gets statistics of its kept pairs.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::corpus::chunk::Chunk;
use crate::corpus::files_read::CorpusRead;
use crate::corpus::files_read::FileRead;
use crate::corpus::pipeline::stream;
use crate::corpus::request::Corpus;
use crate::corpus::row_filter::WantedRows;
use crate::duplicates::fingerprints::{Fingerprints, Key};
use crate::stats::cardinality::{Cardinality, Count};
use crate::stats::group_statistics::{Compressed, Duplicates, Figures, GroupStatistics};
use crate::text::normal_form::{Form, Normaliser};
use crate::{Error, Progress, Result};

/// Each tag has its own counts in memory. A file with more tags probably names records, not components.
const MOST_TAGS: usize = 1000;
/// Memory for the counts of a group: two sketches of 16 KiB, and histograms of lengths and ratios.
const GROUP_BYTES: usize = 160 << 10;
/// Groups that may be counted whatever the memory: by all threads together, and by a thread on its own.
const FEW_GROUPS: usize = 64;
const FEW_OPEN_GROUPS: usize = 16;
const LEVEL: i32 = 3;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsRequest {
    pub corpus: Corpus,
    /// What cleaning read, to notice a changed file; None where nothing was cleaned.
    pub files: Option<Vec<FileRead>>,
    pub kept: WantedRows,
    pub duplicates_form: Form,
    /// Whether the language of each side is identified.
    pub identify_language: bool,
    /// The tags that are counted separately; records with other tags count only for their input. None: all tags.
    #[serde(default)]
    pub tags: Option<BTreeSet<String>>,
    /// Bytes for the fingerprints of duplicates; with tags, half of them are for the counts of inputs and tags.
    pub memory: usize,
    pub threads: usize,
}

/// The figures of all rows and of the kept rows.
#[derive(Debug, Serialize)]
pub struct Part {
    pub all: Figures,
    pub kept: Option<Figures>,
}

#[derive(Debug, Serialize)]
pub struct Stats {
    pub total: Part,
    pub inputs: Vec<Part>,
    pub tags: BTreeMap<String, Part>,
}

/// Input, tag (None if it is not counted separately), whether kept.
type Place = (usize, Option<String>, bool);

/// The counts of one thread; their sum does not depend on how chunks were distributed.
#[derive(Default)]
struct Counts {
    groups: BTreeMap<Place, GroupStatistics>,
    /// By input, of all rows and of the kept ones.
    zstd: BTreeMap<(usize, bool), [Compressed; 2]>,
}

/// The hashes of the pairs of a chunk, which must be processed in row order.
struct Hashes {
    input: usize,
    rows: u64,
    /// The tags of the chunk; and for each pair the number of its tag, whether it is kept, and its hashes.
    tags: Vec<Option<String>>,
    pairs: Vec<(u32, bool, [u64; 3])>,
}

pub fn stats(request: &StatsRequest, progress: &Progress) -> Result<Stats> {
    let pool: Mutex<Vec<Counts>> = Mutex::default();
    let take = || pool.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
    let shared = SharedCounts::new(request);
    let cleaned = !matches!(request.kept, WantedRows::All);
    let normaliser = Normaliser::new(request.duplicates_form);
    let monolingual = request.corpus.is_monolingual();
    let memory = if request.corpus.tags.is_some() { request.memory / 2 } else { request.memory };
    let mut repeats = Repeats::new(memory, cleaned, monolingual);
    let read = stream(
        &request.corpus.within(request.memory),
        &request.kept,
        request.threads,
        progress,
        |chunk| {
            let mut counts = take();
            let hashes = count(request, &normaliser, &chunk, &mut counts, &shared)?;
            pool.lock().unwrap_or_else(PoisonError::into_inner).push(counts);
            Ok(hashes)
        },
        |hashes| {
            progress.add(0, hashes.rows);
            repeats.add(&hashes);
            Ok(true)
        },
    )?;
    if let Some(files) = &request.files {
        read.compare(files)?;
    }
    for mut counts in pool.into_inner().unwrap_or_else(PoisonError::into_inner) {
        shared.add(&mut counts)?;
    }
    let mut counts = shared.counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    counts.merge(Counts { groups: std::mem::take(&mut repeats.groups), ..Counts::default() });
    let tagged = request.corpus.tags.is_some();
    let identified = request.identify_language;
    Ok(Summary { counts, repeats, cleaned, tagged, identified }.stats(&read))
}

/// The counts that threads have handed over. With tags, they take a quarter of the memory, and those that threads hold
/// another quarter: every group is counted once here, not once in each thread.
struct SharedCounts<'a> {
    request: &'a StatsRequest,
    counts: Mutex<Counts>,
    most_groups: usize,
    most_open: usize,
}

impl<'a> SharedCounts<'a> {
    fn new(request: &'a StatsRequest) -> Self {
        let groups = request.memory / 4 / GROUP_BYTES;
        Self {
            request,
            counts: Mutex::default(),
            most_groups: groups.max(FEW_GROUPS),
            // Not more than there may be tags, so that too many are refused before the end of the corpus.
            most_open: (groups / request.threads.max(1)).clamp(FEW_OPEN_GROUPS, MOST_TAGS),
        }
    }

    /// Takes the counts of a thread over.
    fn add(&self, counts: &mut Counts) -> Result<()> {
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        all.merge(std::mem::take(counts));
        self.check(&all)
    }

    fn check(&self, counts: &Counts) -> Result<()> {
        let mut tags: Vec<&String> = counts.groups.keys().filter_map(|(_, tag, _)| tag.as_ref()).collect();
        let groups = tags.len();
        tags.sort_unstable();
        tags.dedup();
        let path = self.request.corpus.tags.as_deref().unwrap_or(Path::new("tags")).display();
        if tags.len() > MOST_TAGS {
            return Err(Error::input(format!(
                "{path} has more than {MOST_TAGS} different tags: leave the tags out, or give coarser ones"
            )));
        }
        if groups > self.most_groups {
            return Err(Error::input(format!(
                "{path}: the counts of the tags of every input do not fit into memory: give memory of more than {} MiB, \
                 leave the tags out, or give coarser ones",
                self.request.memory >> 20
            )));
        }
        Ok(())
    }
}

/// Counts a chunk, except for duplicates, which need the rows before it.
fn count(
    request: &StatsRequest,
    normaliser: &Normaliser,
    chunk: &Chunk,
    counts: &mut Counts,
    shared: &SharedCounts<'_>,
) -> Result<Hashes> {
    let mut hashes =
        Hashes { input: chunk.input, rows: chunk.len() as u64, tags: Vec::new(), pairs: Vec::new() };
    let mut numbers: BTreeMap<Option<&str>, u32> = BTreeMap::new();
    let mut texts = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    let mut fingerprints = Fingerprints::new(normaliser, request.duplicates_form);
    let first = usize::from(chunk.monolingual);
    for index in 0..chunk.len() {
        let kept = chunk.kept.get(index).copied().unwrap_or(true);
        let tag = Some(chunk.tag(&request.corpus, index)?)
            .filter(|&tag| request.tags.as_ref().is_none_or(|tags| tags.contains(tag)));
        let number = *numbers.entry(tag).or_insert_with(|| {
            hashes.tags.push(tag.map(str::to_owned));
            hashes.tags.len() as u32 - 1
        });
        if counts.groups.len() > shared.most_open {
            shared.add(counts)?;
        }
        let statistics = counts.statistics(chunk.input, tag, kept);
        let Some(sides) = statistics.add(chunk.record(index), request.identify_language, chunk.monolingual)
        else {
            continue;
        };
        hashes.pairs.push((number, kept, keys(&mut fingerprints, sides, chunk.monolingual)));
        for text in &mut texts[..=usize::from(kept && !chunk.kept.is_empty())] {
            for (text, side) in text.iter_mut().zip(sides).skip(first) {
                text.extend_from_slice(side.as_bytes());
                text.push(b'\n');
            }
        }
    }
    for (kept, text) in [false, true].into_iter().zip(&texts) {
        counts.compress(chunk.input, kept, text)?;
    }
    Ok(hashes)
}

/// The keys of duplicates.
const KEYS: [Key; 3] = [Key::Pair, Key::Source, Key::Target];

/// The lower half of the fingerprints of each of `KEYS`; without a source, of the target alone.
fn keys(
    fingerprints: &mut Fingerprints<'_>,
    [source, target]: [&str; 2],
    monolingual: bool,
) -> [u64; KEYS.len()] {
    if monolingual {
        return [0, 0, fingerprints.of(Key::Target, source, target) as u64];
    }
    KEYS.map(|key| fingerprints.of(key, source, target) as u64)
}

impl Counts {
    fn statistics(&mut self, input: usize, tag: Option<&str>, kept: bool) -> &mut GroupStatistics {
        self.groups.entry((input, tag.map(str::to_owned), kept)).or_default()
    }

    /// Compresses the sides of a chunk, each in its own frame, so that the sum does not depend on the number of threads.
    fn compress(&mut self, input: usize, kept: bool, texts: &[Vec<u8>; 2]) -> Result<()> {
        let sums = self.zstd.entry((input, kept)).or_default();
        for (sum, text) in sums.iter_mut().zip(texts).filter(|(_, text)| !text.is_empty()) {
            let compressed =
                zstd::bulk::compress(text, LEVEL).map_err(|error| Error::input(format!("zstd: {error}")))?;
            sum.bytes += text.len() as u64;
            sum.compressed += compressed.len() as u64;
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        for (place, statistics) in other.groups {
            match self.groups.entry(place) {
                Entry::Occupied(mut entry) => entry.get_mut().merge(&statistics),
                Entry::Vacant(entry) => _ = entry.insert(statistics),
            }
        }
        for (place, sides) in other.zstd {
            add_sides(self.zstd.entry(place).or_default(), &sides);
        }
    }
}

fn add_sides(sums: &mut [Compressed; 2], sides: &[Compressed; 2]) {
    for (sum, side) in sums.iter_mut().zip(sides) {
        sum.bytes += side.bytes;
        sum.compressed += side.compressed;
    }
}

/// Duplicates by `KEYS`, for all rows and for the kept rows.
struct Repeats {
    /// The first key that is counted; a monolingual corpus has only the last.
    first: usize,
    all: [Cardinality; 3],
    kept: Option<[Cardinality; 3]>,
    groups: BTreeMap<Place, GroupStatistics>,
}

impl Repeats {
    fn new(memory: usize, cleaned: bool, monolingual: bool) -> Self {
        let first = if monolingual { KEYS.len() - 1 } else { 0 };
        let share = memory / (KEYS.len() - first) / if cleaned { 2 } else { 1 };
        let distinct = || std::array::from_fn(|_| Cardinality::new(share));
        Self { first, all: distinct(), kept: cleaned.then(distinct), groups: BTreeMap::new() }
    }

    fn add(&mut self, hashes: &Hashes) {
        for (number, kept, keys) in &hashes.pairs {
            let mut repeats = [[0; 3]; 2];
            for (key, hash) in keys.iter().enumerate().skip(self.first) {
                repeats[0][key] = u64::from(self.all[key].insert(*hash) == Some(false));
                if let Some(distinct) = self.kept.as_mut().filter(|_| *kept) {
                    repeats[1][key] = u64::from(distinct[key].insert(*hash) == Some(false));
                }
            }
            if repeats != [[0; 3]; 2] {
                let place = (hashes.input, hashes.tags[*number as usize].clone(), *kept);
                self.groups.entry(place).or_default().add_repeats(&repeats);
            }
        }
    }
}

/// The counts of the whole corpus, from which the figures are computed.
struct Summary {
    counts: Counts,
    repeats: Repeats,
    cleaned: bool,
    tagged: bool,
    identified: bool,
}

impl Summary {
    fn stats(&self, read: &CorpusRead) -> Stats {
        let mut tags = BTreeMap::new();
        if self.tagged {
            for (_, tag, _) in self.counts.groups.keys() {
                if let Some(name) = tag.as_ref().filter(|&name| !tags.contains_key(name)) {
                    tags.insert(name.clone(), self.part(&|(_, other, _)| other == tag, None, false));
                }
            }
        }
        let count = read.inputs.len();
        Stats {
            total: self.part(&|_| true, Some(&|_| true), true),
            inputs: (0..count)
                .map(|input| self.part(&|place| place.0 == input, Some(&|other| other == input), count == 1))
                .collect(),
            tags,
        }
    }

    fn part(
        &self,
        belongs: &dyn Fn(&Place) -> bool,
        input_belongs: Option<&dyn Fn(usize) -> bool>,
        whole: bool,
    ) -> Part {
        let figures = |kept: bool| {
            let mut sum = GroupStatistics::default();
            let groups = self.counts.groups.iter();
            groups
                .filter(|(place, _)| belongs(place) && (place.2 || !kept))
                .for_each(|(_, statistics)| sum.merge(statistics));
            let zstd = input_belongs.map(|belongs| {
                let mut sums = <[Compressed; 2]>::default();
                let sides = self.counts.zstd.iter();
                sides
                    .filter(|((input, of), _)| *of == kept && belongs(*input))
                    .for_each(|(_, s)| add_sides(&mut sums, s));
                sums
            });
            sum.figures(self.duplicates(&sum, kept, whole), zstd, self.identified, self.repeats.first > 0)
        };
        Part { all: figures(false), kept: self.cleaned.then(|| figures(true)) }
    }

    fn duplicates(&self, statistics: &GroupStatistics, kept: bool, whole: bool) -> Duplicates {
        let Some(distinct) = (if kept { self.repeats.kept.as_ref() } else { Some(&self.repeats.all) }) else {
            return Duplicates::default();
        };
        let [pair, source, target] = [0, 1, 2].map(|key| match distinct[key].count() {
            _ if key < self.repeats.first => None,
            Count { exact: true, .. } => {
                Some(Count { count: statistics.repeats[usize::from(kept)][key], exact: true })
            }
            Count { count, .. } => {
                whole.then(|| Count { count: statistics.pairs().saturating_sub(count), exact: false })
            }
        });
        Duplicates { pair, source, target }
    }
}
