//! Cleaning: one pass over the text that judges every pair by the rules, drops exact duplicates among the
//! survivors, and writes verdicts and measures as columns beside the corpus.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, Int64Array, UInt32Array};
use serde::{Deserialize, Serialize};

use crate::columns::{Shard, shard_name, write_shard};
use crate::corpus::{Chunk, Corpus, CorpusRead, Record};
use crate::duplicates::{Fingerprints, FirstRows, Form, Key};
use crate::kept::KeptIn;
use crate::rules::{DUPLICATE, Judge, MEASURES, Measures, REASONS, Rules};
use crate::stream::stream;
use crate::{Error, Result, Watch};

/// Rows of a shard; shards restart at every input.
const SHARD_ROWS: u64 = 1 << 20;
/// Examples kept of each reason, and how much of a side they show.
const EXAMPLES: usize = 3;
const EXAMPLE_CHARACTERS: usize = 200;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanRequest {
    pub corpus: Corpus,
    /// Of each input.
    pub rules: Vec<Rules>,
    pub duplicates: Key,
    pub duplicates_form: Form,
    pub out: PathBuf,
    /// Only count, and write nothing.
    pub dry_run: bool,
    /// The digest of the plan, for the metadata of the shards.
    pub plan: String,
    pub threads: usize,
    pub memory: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct Example {
    pub row: u64,
    pub source: String,
    pub target: String,
}

/// How many rows there were and how many were kept.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Tally {
    pub rows: u64,
    pub kept: u64,
}

#[derive(Debug, Serialize)]
pub struct Cleaned {
    pub read: CorpusRead,
    pub total: Tally,
    pub inputs: Vec<Tally>,
    pub tags: BTreeMap<String, Tally>,
    /// Rows that have each reason; a row may have several.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Of these the rows that have no other.
    pub only: BTreeMap<&'static str, u64>,
    pub examples: BTreeMap<&'static str, Vec<Example>>,
    pub shards: Vec<Shard>,
    pub duplicates: Vec<Shard>,
}

/// What a worker finds out about a chunk.
struct Verdicts {
    chunk: Chunk,
    reasons: Vec<u32>,
    source: Vec<Measures>,
    target: Vec<Measures>,
    /// Of the rows without a reason, in order.
    fingerprints: Vec<u128>,
}

pub fn clean(request: &CleanRequest, watch: &Watch) -> Result<Cleaned> {
    let duplicates_folder = request.out.join("duplicates");
    if request.duplicates != Key::None && !request.dry_run {
        std::fs::create_dir_all(&duplicates_folder).map_err(Error::io(&duplicates_folder))?;
    }
    let mut ledger = Ledger::new(request);
    let read = stream(
        &request.corpus,
        &KeptIn::All,
        request.threads,
        watch,
        |chunk| judge(request, chunk),
        |verdicts| {
            watch.add(0, verdicts.chunk.len() as u64);
            ledger.add(verdicts)?;
            Ok(true)
        },
    );
    match read {
        Ok(read) => ledger.finish(read),
        // What was read is not a corpus: nothing of it stays.
        Err(error @ Error::Input(_)) => {
            ledger.discard()?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

fn judge(request: &CleanRequest, chunk: Chunk) -> Result<Verdicts> {
    let rules = request.rules.get(chunk.input).ok_or_else(|| Error::input("an input has no rules"))?;
    let mut judge = Judge::new(rules)?;
    let mut fingerprinter = Fingerprints::new(request.duplicates, request.duplicates_form);
    let count = chunk.len();
    let mut reasons = Vec::with_capacity(count);
    let mut source = Vec::with_capacity(count);
    let mut target = Vec::with_capacity(count);
    let mut fingerprints = Vec::new();
    for index in 0..count {
        let judged = judge.judge(chunk.record(index));
        reasons.push(judged.reasons);
        source.push(judged.source);
        target.push(judged.target);
        if judged.reasons == 0
            && request.duplicates != Key::None
            && let Some((source, target)) = judged.text
        {
            fingerprints.push(fingerprinter.of(source, target));
        }
    }
    Ok(Verdicts { chunk, reasons, source, target, fingerprints })
}

/// What the pass keeps from chunk to chunk: the fingerprints, the shard being filled, the counts.
struct Ledger<'a> {
    request: &'a CleanRequest,
    first_rows: FirstRows,
    shard: Filling,
    input: usize,
    cleaned: Cleaned,
}

/// The columns of a shard that is being filled.
#[derive(Default)]
struct Filling {
    first: u64,
    reasons: Vec<u32>,
    measures: [[Vec<u32>; MEASURES.len()]; 2],
    tags: StringDictionaryBuilder<Int32Type>,
    duplicates: Vec<i64>,
    duplicate_of: Vec<i64>,
}

impl<'a> Ledger<'a> {
    fn new(request: &'a CleanRequest) -> Self {
        let cleaned = Cleaned {
            read: CorpusRead::default(),
            total: Tally::default(),
            inputs: vec![Tally::default(); request.corpus.inputs.len()],
            tags: BTreeMap::new(),
            reasons: REASONS.into_iter().map(|reason| (reason, 0)).collect(),
            only: REASONS.into_iter().map(|reason| (reason, 0)).collect(),
            examples: BTreeMap::new(),
            shards: Vec::new(),
            duplicates: Vec::new(),
        };
        let first_rows = FirstRows::new(request.memory);
        Self { request, first_rows, shard: Filling::default(), input: 0, cleaned }
    }

    fn add(&mut self, mut verdicts: Verdicts) -> Result<()> {
        let (input, first) = (verdicts.chunk.input, verdicts.chunk.first);
        if input != self.input || self.shard.reasons.len() as u64 >= SHARD_ROWS {
            self.publish_shard()?;
            self.input = input;
            self.shard.first = first;
        }
        self.drop_duplicates(&mut verdicts)?;
        self.shard.reasons.extend(&verdicts.reasons);
        for (side, measures) in [&verdicts.source, &verdicts.target].into_iter().enumerate() {
            for (measure, column) in self.shard.measures[side].iter_mut().enumerate() {
                column.extend(measures.iter().map(|measures| measures.values()[measure]));
            }
        }
        self.count(&verdicts)
    }

    fn drop_duplicates(&mut self, verdicts: &mut Verdicts) -> Result<()> {
        let first = verdicts.chunk.first;
        let survivors = verdicts.reasons.iter_mut().enumerate().filter(|(_, reasons)| **reasons == 0);
        for ((index, reasons), &fingerprint) in survivors.zip(&verdicts.fingerprints) {
            let row = first + index as u64;
            if let Some(of) = self.first_rows.insert(fingerprint, row)? {
                *reasons = DUPLICATE;
                self.shard.duplicates.push(row as i64);
                self.shard.duplicate_of.push(of as i64);
            }
        }
        Ok(())
    }

    fn count(&mut self, verdicts: &Verdicts) -> Result<()> {
        let chunk = &verdicts.chunk;
        let cleaned = &mut self.cleaned;
        for (index, &reasons) in verdicts.reasons.iter().enumerate() {
            let row = chunk.first + index as u64;
            let kept = u64::from(reasons == 0);
            for tally in [&mut cleaned.total, &mut cleaned.inputs[chunk.input]] {
                tally.rows += 1;
                tally.kept += kept;
            }
            if let Some(tags) = &chunk.tags {
                let tag = tag(self.request, tags.line(index), row)?;
                self.shard.tags.append_value(tag);
                if !cleaned.tags.contains_key(tag) {
                    cleaned.tags.insert(tag.to_owned(), Tally::default());
                }
                if let Some(tally) = cleaned.tags.get_mut(tag) {
                    tally.rows += 1;
                    tally.kept += kept;
                }
            }
            if reasons != 0 {
                count_reasons(cleaned, reasons, row, || example(chunk, index));
            }
        }
        Ok(())
    }

    fn publish_shard(&mut self) -> Result<()> {
        let shard = std::mem::take(&mut self.shard);
        let rows = shard.reasons.len() as u64;
        if rows == 0 || self.request.dry_run {
            return Ok(());
        }
        let (first, end) = (shard.first, shard.first + rows);
        let file = shard_name(first, end);
        let (columns, duplicates) = shard.into_columns(self.request.corpus.tags.is_some());
        let mut metadata = BTreeMap::from([("plan".to_owned(), self.request.plan.clone())]);
        if let Some((columns, rows)) = duplicates {
            let path = self.request.out.join("duplicates").join(&file);
            let digest = write_shard(&path, columns, &metadata)?;
            self.cleaned.duplicates.push(Shard {
                file: format!("duplicates/{file}"),
                first,
                end,
                digest,
                rows,
            });
        }
        metadata.insert("reasons".to_owned(), REASONS.join(","));
        let digest = write_shard(&self.request.out.join(&file), columns, &metadata)?;
        self.cleaned.shards.push(Shard { file, first, end, digest, rows });
        Ok(())
    }

    /// Removes the shards.
    fn discard(&self) -> Result<()> {
        for shard in self.cleaned.shards.iter().chain(&self.cleaned.duplicates) {
            let path = self.request.out.join(&shard.file);
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
        Ok(())
    }

    fn finish(mut self, read: CorpusRead) -> Result<Cleaned> {
        self.publish_shard()?;
        self.cleaned.read = read;
        Ok(self.cleaned)
    }
}

type Columns = Vec<(String, ArrayRef)>;

impl Filling {
    /// The shard's columns, and those of its duplicates with their number, if it has any.
    fn into_columns(mut self, tagged: bool) -> (Columns, Option<(Columns, u64)>) {
        let rows = self.first as i64..self.first as i64 + self.reasons.len() as i64;
        let mut columns: Columns = vec![
            ("row".to_owned(), Arc::new(Int64Array::from_iter_values(rows))),
            ("reasons".to_owned(), Arc::new(UInt32Array::from(self.reasons))),
        ];
        for (side, measures) in ["source", "target"].into_iter().zip(self.measures) {
            for (name, values) in MEASURES.into_iter().zip(measures) {
                columns.push((format!("{side}_{name}"), Arc::new(UInt32Array::from(values))));
            }
        }
        if tagged {
            columns.push(("tag".to_owned(), Arc::new(self.tags.finish())));
        }
        let count = self.duplicates.len() as u64;
        let duplicates: Columns = vec![
            ("row".to_owned(), Arc::new(Int64Array::from(self.duplicates))),
            ("duplicate_of".to_owned(), Arc::new(Int64Array::from(self.duplicate_of))),
        ];
        (columns, (count > 0).then_some((duplicates, count)))
    }
}

fn tag<'t>(request: &CleanRequest, line: &'t [u8], row: u64) -> Result<&'t str> {
    std::str::from_utf8(line).map_err(|_| {
        let path = request.corpus.tags.as_deref().unwrap_or(Path::new("tags")).display();
        Error::input(format!("{path}, line {}: the tag is not valid UTF-8", row + 1))
    })
}

/// Counts the reasons of a dropped row, and keeps it as an example where its hash is among the lowest: the
/// examples come from all over the corpus and are the same at every run.
fn count_reasons(cleaned: &mut Cleaned, reasons: u32, row: u64, example: impl Fn() -> Example) {
    let order = |row: u64| xxhash_rust::xxh3::xxh3_64(&row.to_le_bytes());
    for (_, reason) in REASONS.into_iter().enumerate().filter(|(bit, _)| reasons >> bit & 1 == 1) {
        *cleaned.reasons.entry(reason).or_default() += 1;
        *cleaned.only.entry(reason).or_default() += u64::from(reasons.is_power_of_two());
        let examples = cleaned.examples.entry(reason).or_default();
        let place = examples.partition_point(|example| order(example.row) < order(row));
        if place < EXAMPLES {
            examples.insert(place, example());
            examples.truncate(EXAMPLES);
        }
    }
}

/// A record without two sides is shown as it stands, as far as it was held.
fn example(chunk: &Chunk, index: usize) -> Example {
    let shown = |side: &[u8]| {
        let text = String::from_utf8_lossy(side);
        let mut shown: String = text.chars().take(EXAMPLE_CHARACTERS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        shown
    };
    let (source, target) = match chunk.record(index) {
        Record::Pair { source, target } => (shown(source), shown(target)),
        Record::Malformed => (shown(chunk.whole(index).unwrap_or_default()), String::new()),
        Record::TooLong => (String::new(), String::new()),
    };
    Example { row: chunk.first + index as u64, source, target }
}
