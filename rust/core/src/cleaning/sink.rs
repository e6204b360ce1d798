//! The sink of decisions: takes chunks in row order, finds duplicates, and fills and publishes shards. It holds the
//! fingerprints, the open shard, the shards whose duplicates are not known yet, and the counts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cleaning::decisions::Decisions;
use crate::cleaning::disk_estimate::{Need, total_bytes};
use crate::cleaning::examples::{Examples, example};
use crate::cleaning::fingerprint_shards::FingerprintColumns;
use crate::cleaning::open_shard::{DecidedRows, OpenShard};
use crate::cleaning::reasons::{OF_TWO_SIDES, REASONS, places};
use crate::cleaning::repairs;
use crate::cleaning::request::{CleanRequest, Cleaned, Prefer, RowCounts};
use crate::cleaning::shards::{Published, ShardLayout, reason};
use crate::cleaning::state::State;
use crate::cleaning::test_sets::Exclusion;
use crate::cleaning::waiting_shard::LateDuplicate;
use crate::cleaning::waiting_shards::{Publishing, WaitingShards};
use crate::columns::external::{ExternalColumn, ExternalReading};
use crate::columns::float32::order;
use crate::columns::shards::SHARD_ROWS;
use crate::corpus::files_read::{CorpusRead, InputRead};
use crate::corpus::read_pairs::{ReadPairsRequest, read_pairs};
use crate::duplicates::candidates::Layout;
use crate::duplicates::exact::{Duplicates, Keyed, Survivors};
use crate::duplicates::fingerprints::Key;
use crate::duplicates::first_rows::ELSEWHERE;
use crate::duplicates::near::buckets::NearDuplicates;
use crate::io::disk;
use crate::io::threads::Background;
use crate::text::side::{MEASURES, MONOLINGUAL_MEASURES};
use crate::{Error, Progress, Result};

/// Rows after which the needed disk space is estimated.
const ESTIMATE_ROWS: u64 = 1 << 18;
/// Memory that the pass needs beside the fingerprints: buffers of the shards that are written.
const FIXED_BYTES: usize = 40 << 20;

/// The most different tags, and bytes of their names: their counts are in memory and in the manifest.
const MOST_TAGS: usize = 1 << 16;
const TAG_BYTES: usize = 16 << 20;

pub struct DecisionSink<'a> {
    request: &'a CleanRequest,
    layout: Arc<ShardLayout>,
    progress: &'a Progress,
    /// Size, time and inode of every file when the cleaning started.
    looks: Vec<[i64; 3]>,
    /// The inputs that were read to their end.
    ended: Vec<InputRead>,
    /// An earlier cleaning decided about the rows before this one.
    from_row: u64,
    /// None once resolved.
    duplicates: Option<Duplicates>,
    near: Option<NearDuplicates>,
    /// The column that ranks duplicates, and the position where it is read.
    best: Option<(&'a ExternalColumn, ExternalReading<'a>)>,
    shard: Option<OpenShard>,
    /// The shard before, which a thread publishes.
    publishing: Option<Background<()>>,
    waiting: WaitingShards,
    published: Arc<Published>,
    estimated: bool,
    /// Size of all files on disk, and the share of it that was read.
    total_bytes: u64,
    share_read: f64,
    /// Memory for exact duplicates, in bytes.
    memory: usize,
    examples: Examples,
    /// Rows that have each reason, and those that have no other.
    reasons: [(u64, u64); REASONS.len()],
    cleaned: Cleaned,
    /// Bytes of the names of all tags.
    tag_bytes: usize,
}

impl<'a> DecisionSink<'a> {
    /// The layout of the shards that a request asks for.
    fn layout(request: &CleanRequest) -> ShardLayout {
        let measures = match (request.rules.is_empty(), request.corpus.is_monolingual()) {
            (true, _) => [0, 0],
            (false, false) => [MEASURES.len(); 2],
            (false, true) => [0, MONOLINGUAL_MEASURES],
        };
        ShardLayout {
            out: request.out.clone(),
            plan: request.plan.clone(),
            measures,
            tagged: request.corpus.tags.is_some(),
            key: request.duplicates,
        }
    }

    pub fn new(
        request: &'a CleanRequest,
        exclusion: &Exclusion,
        best: Option<&'a ExternalColumn>,
        looks: Vec<[i64; 3]>,
        progress: &'a Progress,
    ) -> Result<Self> {
        let cleaned = Cleaned {
            read: CorpusRead::default(),
            total: RowCounts::default(),
            inputs: vec![RowCounts::default(); request.corpus.inputs.len()],
            tags: BTreeMap::new(),
            reasons: BTreeMap::new(),
            only: BTreeMap::new(),
            examples: BTreeMap::new(),
            repairs: repairs::no_counts(&request.corpus.repair),
            excluded: exclusion.sets.clone(),
            shards: Vec::new(),
            fingerprints: Vec::new(),
            duplicates: Vec::new(),
        };
        let candidates = Layout { priority: !matches!(request.prefer, Prefer::First), text: request.verify };
        let keys = request.duplicates.parts().len();
        let memory = exact_memory(request, exclusion);
        let near = match &request.near_duplicates {
            Some(near) => Some(NearDuplicates::new(near, &request.tmp, memory)?),
            None => None,
        };
        let mut duplicates = Duplicates::new(keys, candidates, memory, &request.tmp)?;
        for path in &request.against {
            add_fingerprints(&mut duplicates, path, request.duplicates, false, progress)?;
        }
        let best = best.map(|column| (column, column.read(0..column.len())));
        let layout = Arc::new(Self::layout(request));
        let last = request.continued.as_ref().filter(|last| last.end % SHARD_ROWS > 0);
        let shard = last.map(|last| OpenShard::reopen(&layout, last)).transpose()?;
        Ok(Self {
            request,
            layout,
            progress,
            looks,
            ended: Vec::new(),
            from_row: 0,
            duplicates: Some(duplicates),
            near,
            best,
            shard,
            publishing: None,
            waiting: WaitingShards::default(),
            published: Arc::default(),
            estimated: false,
            total_bytes: total_bytes(request)?.max(1),
            share_read: 0.0,
            memory,
            examples: Examples::default(),
            reasons: [(0, 0); REASONS.len()],
            cleaned,
            tag_bytes: 0,
        })
    }

    pub fn add(&mut self, mut decisions: Decisions) -> Result<()> {
        self.estimate(decisions.chunk.first - self.request.corpus.first_row)?;
        self.ended.append(&mut decisions.chunk.ended);
        let duplicates = self.find_duplicates(&mut decisions)?;
        let (mut first, end) = (decisions.chunk.first.max(self.from_row), decisions.chunk.end());
        while first < end {
            let mut shard = match self.shard.take() {
                Some(shard) => shard,
                None => OpenShard::open(&self.layout, first)?,
            };
            let rows = first..end.min(shard.limit());
            first = rows.end;
            self.fill(&decisions, &duplicates, rows, &mut shard)?;
            let is_full = shard.is_full();
            self.shard = Some(shard);
            if is_full {
                self.close_shard()?;
            }
        }
        Ok(())
    }

    /// Gives duplicates their reason; returns those that are known already, with the rows that are kept instead.
    fn find_duplicates(&mut self, decisions: &mut Decisions) -> Result<Vec<(u64, u64)>> {
        let Decisions { chunk, reasons, survivors, sketches, bands, .. } = decisions;
        let mut known = Vec::new();
        let priorities = self.priorities(chunk.input, &survivors.rows)?;
        let Some(duplicates) = &mut self.duplicates else { return Ok(known) };
        let priority = |index: usize| priorities.get(index).copied().unwrap_or(0);
        duplicates.add(survivors, priority, |index, of| {
            let row = survivors.rows[index];
            reasons[(row - chunk.first) as usize] = reason(of);
            known.push((row, of));
        })?;
        let deferred = duplicates.are_deferred() || self.near.is_some();
        let of_a_pair = self.request.near_duplicates.as_ref().map_or(1, |near| near.bands);
        let mut bands = bands.chunks_exact(of_a_pair);
        for (index, &row) in survivors.rows.iter().enumerate() {
            let place = (row - chunk.first) as usize;
            let signature =
                sketches.get(index).copied().flatten().and_then(|sketch| Some((bands.next()?, sketch)));
            if reasons[place] == 0 {
                if let (Some(near), Some((bands, sketch))) = (&mut self.near, signature) {
                    near.add(row, bands, sketch, self.share_read)?;
                }
                if deferred {
                    self.examples.offer_candidate(row, || example(chunk, place));
                }
            }
        }
        Ok(known)
    }

    /// The priority of each row: the lowest number is kept, 0 is a row of another corpus. Empty if the first row is kept.
    fn priorities(&mut self, input: usize, rows: &[u64]) -> Result<Vec<u32>> {
        if let Some((_, reading)) = &mut self.best {
            let mut values = Vec::with_capacity(rows.len());
            reading.join(rows, &mut values)?;
            let best_first = |value: f32| if value.is_nan() { u32::MAX } else { (!order(value)).max(1) };
            return Ok(values.into_iter().map(best_first).collect());
        }
        Ok(match &self.request.prefer {
            Prefer::Inputs(inputs) => {
                let place = inputs.iter().position(|&listed| listed == input).unwrap_or(inputs.len());
                vec![place as u32 + 1; rows.len()]
            }
            Prefer::First | Prefer::Column { .. } => Vec::new(),
        })
    }

    /// Adds `rows` of a chunk to the shard, and counts them.
    fn fill(
        &mut self,
        decisions: &Decisions,
        duplicates: &[(u64, u64)],
        rows: Range<u64>,
        shard: &mut OpenShard,
    ) -> Result<()> {
        let Decisions { chunk, reasons, survivors, .. } = decisions;
        for &(row, of) in duplicates.iter().filter(|(row, _)| rows.contains(row)) {
            shard.add_duplicate(row, of);
        }
        let before = |bound: u64| survivors.rows.partition_point(|&row| row < bound);
        for index in before(rows.start)..before(rows.end) {
            let row = survivors.rows[index];
            if reasons[(row - chunk.first) as usize] == 0 {
                shard.add_fingerprints(row, survivors.keys.iter().map(|key| key.fingerprints[index]))?;
            }
        }
        self.count(decisions, rows, shard)
    }

    fn count(&mut self, decisions: &Decisions, rows: Range<u64>, shard: &mut OpenShard) -> Result<()> {
        let chunk = &decisions.chunk;
        let cleaned = &mut self.cleaned;
        for (_, set) in decisions.excluded.iter().filter(|(row, _)| rows.contains(row)) {
            cleaned.excluded[*set as usize].pairs += 1;
        }
        let places = (rows.start - chunk.first) as usize..(rows.end - chunk.first) as usize;
        repairs::add(&mut cleaned.repairs, chunk, &places);
        let decided = &decisions.reasons[places.clone()];
        let kept = decided.iter().filter(|&&reasons| reasons == 0).count() as u64;
        for counts in [&mut cleaned.total, &mut cleaned.inputs[chunk.input]] {
            counts.rows += decided.len() as u64;
            counts.kept += kept;
        }
        let mut tags = Vec::new();
        if chunk.tags.is_some() {
            for (place, &reasons) in places.clone().zip(decided) {
                let tag = chunk.tag(&self.request.corpus, place)?;
                if !cleaned.tags.contains_key(tag) {
                    self.tag_bytes += tag.len();
                    if cleaned.tags.len() == MOST_TAGS || self.tag_bytes > TAG_BYTES {
                        return Err(too_many_tags(self.request, chunk.first + place as u64));
                    }
                    cleaned.tags.insert(tag.to_owned(), RowCounts::default());
                }
                if let Some(counts) = cleaned.tags.get_mut(tag) {
                    counts.rows += 1;
                    counts.kept += u64::from(reasons == 0);
                }
                tags.push(tag);
            }
        }
        shard.add(&DecidedRows {
            reasons: decided,
            measures: &decisions.measures,
            first: places.start,
            tags: &tags,
        })?;
        for (place, &reasons) in places.zip(decided).filter(|&(_, &reasons)| reasons != 0) {
            add_reasons(&mut self.reasons, reasons);
            self.examples.offer(reasons, chunk.first + place as u64, || example(chunk, place));
        }
        Ok(())
    }

    fn close_shard(&mut self) -> Result<()> {
        let Some(shard) = self.shard.take() else { return Ok(()) };
        if self.near.is_some() || self.duplicates.as_ref().is_some_and(Duplicates::are_deferred) {
            return self.waiting.add(shard, &self.request.tmp);
        }
        // Shards are published one after the other.
        self.publishing.take().map_or(Ok(()), Background::join)?;
        let state = self.state(shard.end());
        let publishing = shard.publish(&self.published, move |published| match state {
            Some((path, state)) => State { shards: published.listed(), ..state }.write(&path),
            None => Ok(()),
        })?;
        self.publishing = Some(publishing);
        Ok(())
    }

    /// Whether all that is decided is published, so that a killed cleaning can go on. Fingerprints of dropped rows are
    /// not kept, which decide in a key of two parts.
    fn is_resumable(&self) -> bool {
        let is_decided =
            self.near.is_none() && !self.duplicates.as_ref().is_some_and(Duplicates::are_deferred);
        is_decided && self.request.duplicates.parts().len() < 2
    }

    /// The state after the shard that ends before row `end`, but for its files, and where it is kept.
    fn state(&self, end: u64) -> Option<(PathBuf, State)> {
        let path = self.request.state.clone().filter(|_| self.is_resumable())?;
        let state = State {
            plan: self.request.plan.clone(),
            end,
            looks: self.looks.clone(),
            ended: self.ended.clone(),
            total: self.cleaned.total,
            inputs: self.cleaned.inputs.clone(),
            tags: self.cleaned.tags.clone(),
            reasons: self.reasons.to_vec(),
            examples: self.examples.clone(),
            repairs: self.cleaned.repairs.clone(),
            excluded: self.cleaned.excluded.iter().map(|set| set.pairs).collect(),
            shards: Default::default(),
        };
        Some((path, state))
    }

    /// Goes on from the state of a killed cleaning.
    pub fn restore(&mut self, state: State) -> Result<()> {
        let files = state.ended.iter().flat_map(|input| &input.files);
        self.progress.add(files.map(|file| file.bytes).sum(), state.total.rows);
        self.shard = None;
        self.from_row = state.end;
        self.ended = state.ended;
        (self.cleaned.total, self.cleaned.inputs) = (state.total, state.inputs);
        self.tag_bytes = state.tags.keys().map(String::len).sum();
        self.cleaned.tags = state.tags;
        for (counts, earlier) in self.reasons.iter_mut().zip(state.reasons) {
            *counts = earlier;
        }
        self.examples = state.examples;
        self.cleaned.repairs = state.repairs;
        for (set, pairs) in self.cleaned.excluded.iter_mut().zip(state.excluded) {
            set.pairs = pairs;
        }
        self.estimated = true;
        if let Some(duplicates) = &mut self.duplicates {
            for shard in &state.shards[1] {
                let path = self.request.out.join(&shard.file);
                add_fingerprints(duplicates, &path, self.layout.key, true, self.progress)?;
            }
        }
        self.published.restore(state.shards);
        Ok(())
    }

    /// Fails, before much is written, if the disk has no space for the columns and fingerprints of the corpus.
    fn estimate(&mut self, rows: u64) -> Result<()> {
        self.share_read = self.progress.done().0 as f64 / self.total_bytes as f64;
        if self.estimated || rows < ESTIMATE_ROWS {
            return Ok(());
        }
        self.estimated = true;
        let need = Need::of(
            self.request,
            self.memory,
            (rows as f64 / self.share_read.min(1.0)) as u64,
            self.total_bytes,
        );
        if disk::are_one(&self.request.out, &self.request.tmp)? {
            return disk::require(
                &self.request.out,
                need.columns + need.partitions,
                "the columns and spilled fingerprints of this corpus (in tmp_dir)",
            );
        }
        disk::require(&self.request.out, need.columns, "the columns of this corpus")?;
        disk::require(
            &self.request.tmp,
            need.partitions,
            "the spilled fingerprints of this corpus (in tmp_dir)",
        )
    }

    /// Resolves late duplicates and publishes the remaining shards.
    pub fn finish(&mut self, read: CorpusRead) -> Result<()> {
        self.close_shard()?;
        self.publishing.take().map_or(Ok(()), Background::join)?;
        if let Some((column, _)) = &self.best {
            column.check_end(self.cleaned.total.rows)?;
        }
        self.cleaned.read = read;
        let Some(duplicates) = self.duplicates.take().filter(|_| !self.waiting.is_empty()) else {
            return Ok(());
        };
        let (waiting, near) = (std::mem::take(&mut self.waiting), self.near.take());
        let late = waiting.resolve(duplicates, near, self.request.threads, self.progress)?;
        let (layout, published) = (Arc::clone(&self.layout), Arc::clone(&self.published));
        let publishing = Publishing {
            layout: &layout,
            published: &published,
            threads: self.request.threads,
            memory: self.memory,
            progress: self.progress,
        };
        waiting.publish(late, &publishing, |late, tags| self.uncount(late, tags))?;
        self.complete_examples()
    }

    /// Corrects the counts for rows that were counted as kept but are late duplicates.
    fn uncount(&mut self, late: &[LateDuplicate], tags: BTreeMap<String, u64>) {
        let cleaned = &mut self.cleaned;
        cleaned.total.kept -= late.len() as u64;
        for late in late {
            let input = cleaned.read.inputs.partition_point(|input| input.end <= late.row);
            cleaned.inputs[input].kept -= 1;
        }
        for (tag, rows) in tags {
            if let Some(counts) = cleaned.tags.get_mut(&tag) {
                counts.kept -= rows;
            }
        }
        for late in late {
            add_reasons(&mut self.reasons, late.reason);
            self.examples.offer_late(late.reason, late.row);
        }
    }

    /// Reads the text of examples that was not kept.
    fn complete_examples(&mut self) -> Result<()> {
        let request = ReadPairsRequest { corpus: self.request.corpus.clone(), rows: self.examples.wanting() };
        let pairs = read_pairs(&request, self.progress)?;
        for (&row, (source, target)) in request.rows.iter().zip(&pairs) {
            self.examples.complete(row, source, target);
        }
        Ok(())
    }

    /// Removes the published shards.
    pub fn discard(&mut self) -> Result<()> {
        self.publishing = None;
        self.published.discard(&self.request.out)
    }

    pub fn into_cleaned(self) -> Cleaned {
        let others = if self.request.corpus.is_monolingual() { OF_TWO_SIDES } else { 0 };
        let reasons = REASONS.into_iter().zip(self.reasons).enumerate();
        let [shards, fingerprints, duplicates] = self.published.listed();
        let counts = reasons.filter(|(bit, _)| others & 1 << bit == 0).map(|(_, counted)| counted);
        Cleaned {
            reasons: counts.clone().map(|(reason, (rows, _))| (reason, rows)).collect(),
            only: counts.map(|(reason, (_, only))| (reason, only)).collect(),
            examples: self.examples.into_reasons(),
            shards,
            fingerprints,
            duplicates,
            ..self.cleaned
        }
    }
}

/// The error of a tag that is one too many.
fn too_many_tags(request: &CleanRequest, row: u64) -> Error {
    let path = request.corpus.tags.as_deref().unwrap_or(Path::new("tags")).display();
    Error::input(format!(
        "{path}, line {}: more than {MOST_TAGS} different tags, or {} MiB of them: give tags that name groups of pairs",
        request.corpus.tag_line(row),
        TAG_BYTES >> 20
    ))
}

/// Counts a row for each of its reasons.
fn add_reasons(counts: &mut [(u64, u64); REASONS.len()], reasons: u32) {
    for reason in places(reasons) {
        let (rows, only) = &mut counts[reason];
        *rows += 1;
        *only += u64::from(reasons.is_power_of_two());
    }
}

/// Memory for exact duplicates in bytes; near duplicates get the same amount.
fn exact_memory(request: &CleanRequest, exclusion: &Exclusion) -> usize {
    let memory = (request.memory - request.memory / 8).saturating_sub(FIXED_BYTES + exclusion.bytes());
    if request.near_duplicates.is_some() { memory / 2 } else { memory }
}

/// Adds the fingerprints of a shard: of rows of this corpus, which an earlier cleaning kept, or of another corpus.
fn add_fingerprints(
    duplicates: &mut Duplicates,
    path: &Path,
    key: Key,
    is_own: bool,
    progress: &Progress,
) -> Result<()> {
    for columns in FingerprintColumns::open(path, key)? {
        progress.check()?;
        let FingerprintColumns { mut rows, parts } = columns?;
        if !is_own {
            rows.fill(ELSEWHERE);
        }
        let keys = parts.into_iter().map(|fingerprints| Keyed { fingerprints, ..Keyed::default() }).collect();
        duplicates.add(&Survivors { rows, keys }, |_| 0, |_, _| {})?;
    }
    Ok(())
}
