//! Cleaning: one pass over the text that judges every pair by the rules, drops exact duplicates among the
//! survivors, and writes verdicts and measures as columns beside the corpus.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::columns::Shard;
use crate::corpus::{Chunk, Corpus, CorpusRead};
use crate::duplicates::{Keyed, Survivors};
use crate::examples::Example;
use crate::fingerprints::{Fingerprints, Key};
use crate::kept::KeptIn;
use crate::ledger::Ledger;
use crate::normal::{Form, Normaliser};
use crate::rules::{Measures, Rules, judge_structure};
use crate::stream::stream_within;
use crate::{Error, Result, Watch};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanRequest {
    pub corpus: Corpus,
    /// None: only what is no pair of text is dropped, and nothing is measured.
    pub rules: Option<Rules>,
    pub duplicates: Key,
    pub duplicates_form: Form,
    /// Whether keys are compared byte for byte and not by their fingerprints alone.
    pub verify: bool,
    pub prefer: Prefer,
    /// Shards of fingerprints that another corpus keeps.
    pub against: Vec<PathBuf>,
    pub out: PathBuf,
    /// Where partitions of fingerprints may stand; made and removed by the pass.
    pub tmp: PathBuf,
    /// The digest of the plan, for the metadata of the shards.
    pub plan: String,
    pub threads: usize,
    /// Bytes of the pass's own, text under way included.
    pub memory: usize,
}

/// Which of duplicate rows is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Prefer {
    First,
    /// The first row of the input that stands first in this list (numbers of inputs); others come after.
    Inputs(Vec<usize>),
    /// The row with the highest value in a column of a Parquet file with `row`; one without a value comes last.
    Column {
        path: PathBuf,
        column: String,
    },
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
    pub examples: BTreeMap<&'static str, Vec<Example>>,
    pub shards: Vec<Shard>,
    pub fingerprints: Vec<Shard>,
    pub duplicates: Vec<Shard>,
}

/// What a worker finds out about a chunk.
pub struct Verdicts {
    pub chunk: Chunk,
    pub reasons: Vec<u32>,
    /// Of every row, or empty.
    pub measures: Vec<[Measures; 2]>,
    /// The rows without a reason.
    pub survivors: Survivors,
}

/// Text under way may take this share of the memory.
const TEXT_SHARE: usize = 8;

pub fn clean(request: &CleanRequest, watch: &Watch) -> Result<Cleaned> {
    if request.duplicates != Key::None {
        for name in ["duplicates", "fingerprints"] {
            let folder = request.out.join(name);
            fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        }
    }
    clear(&request.tmp)?;
    let outcome = clean_into(request, watch);
    clear(&request.tmp)?;
    outcome
}

/// Removes what an interrupted pass left of its partitions.
fn clear(tmp: &PathBuf) -> Result<()> {
    match fs::remove_dir_all(tmp) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(tmp)(error)),
        _ => Ok(()),
    }
}

fn clean_into(request: &CleanRequest, watch: &Watch) -> Result<Cleaned> {
    let normaliser = Normaliser::new(request.duplicates_form);
    let kind = Ledger::kind(request);
    let mut ledger = Ledger::new(request, &kind, watch)?;
    let read = stream_within(
        request.memory / TEXT_SHARE,
        &request.corpus,
        &KeptIn::All,
        request.threads,
        watch,
        |chunk| Ok(judge(request, &normaliser, chunk)),
        |verdicts| {
            watch.add(0, verdicts.chunk.len() as u64);
            ledger.add(verdicts)?;
            Ok(true)
        },
    );
    match read.and_then(|read| ledger.finish(read)) {
        Ok(()) => Ok(ledger.into_cleaned()),
        // What was read is not a corpus: nothing of it stays.
        Err(error @ Error::Input(_)) => {
            ledger.discard()?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

fn judge(request: &CleanRequest, normaliser: &Normaliser, chunk: Chunk) -> Verdicts {
    let mut fingerprints = Fingerprints::new(normaliser, request.duplicates_form);
    let parts = request.duplicates.parts();
    let count = chunk.len();
    let mut reasons = Vec::with_capacity(count);
    let mut measures = Vec::with_capacity(if request.rules.is_some() { count } else { 0 });
    let mut survivors =
        Survivors { rows: Vec::with_capacity(count), keys: vec![Keyed::default(); parts.len()] };
    for index in 0..count {
        let record = chunk.record(index);
        let (row_reasons, text) = match &request.rules {
            Some(rules) => {
                let judged = rules.judge(record);
                measures.push([judged.source, judged.target]);
                (judged.reasons, judged.text)
            }
            None => judge_structure(record),
        };
        reasons.push(row_reasons);
        let Some((source, target)) = text.filter(|_| row_reasons == 0) else { continue };
        survivors.rows.push(chunk.first + index as u64);
        for (&part, keyed) in parts.iter().zip(&mut survivors.keys) {
            keyed.fingerprints.push(fingerprints.of(part, source, target));
            if request.verify {
                fingerprints.append_text(part, source, target, &mut keyed.texts);
                keyed.ends.push(keyed.texts.len());
            }
        }
    }
    Verdicts { chunk, reasons, measures, survivors }
}
