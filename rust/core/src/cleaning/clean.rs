//! Cleaning: one pass over the text that judges every pair by the rules, drops exact duplicates among the
//! survivors, and writes verdicts and measures as columns beside the corpus.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cleaning::examples::Example;
use crate::cleaning::rules::{EXCLUDED, Judge, Measures, Rules, judge_structure};
use crate::cleaning::sink::Ledger;
use crate::cleaning::test_sets::{Excluded, Exclusion, TestSet};
use crate::columns::external::Column;
use crate::columns::shards::Shard;
use crate::corpus::chunk::Chunk;
use crate::corpus::files_read::CorpusRead;
use crate::corpus::pipeline::{UnderWay, stream_within};
use crate::corpus::request::Corpus;
use crate::corpus::row_filter::KeptIn;
use crate::duplicates::exact::{Keyed, Survivors};
use crate::duplicates::fingerprints::{Fingerprints, Key};
use crate::duplicates::near::signature::{NearOptions, Signatures};
use crate::text::normal_form::{Form, Normaliser};
use crate::{Error, Result, Watch};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanRequest {
    pub corpus: Corpus,
    /// Of each input; none at all: only what is no pair of text is dropped, and nothing is measured.
    pub rules: Vec<Rules>,
    pub duplicates: Key,
    pub duplicates_form: Form,
    /// Looked for among what the rules and exact duplicates leave.
    #[serde(default)]
    pub near_duplicates: Option<NearOptions>,
    #[serde(default)]
    pub exclude: Vec<TestSet>,
    /// Whether keys are compared byte for byte and not by their fingerprints alone.
    pub verify: bool,
    pub prefer: Prefer,
    /// Shards of fingerprints that another corpus keeps.
    pub against: Vec<PathBuf>,
    pub out: PathBuf,
    /// The folder of temporary files, which have no names.
    pub tmp: PathBuf,
    /// The digest of the plan, for the metadata of the shards.
    pub plan: String,
    pub threads: usize,
    /// Bytes of the pass's own, text under way included.
    pub memory: usize,
}

impl CleanRequest {
    /// Bytes of a record's signature on its way.
    fn band_bytes(&self) -> usize {
        self.near_duplicates.as_ref().map_or(0, |near| 8 * near.bands + size_of::<Option<u128>>())
    }
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
pub struct Yield {
    pub rows: u64,
    pub kept: u64,
}

#[derive(Debug, Serialize)]
pub struct Cleaned {
    pub read: CorpusRead,
    pub total: Yield,
    pub inputs: Vec<Yield>,
    pub tags: BTreeMap<String, Yield>,
    /// Rows that have each reason; a row may have several.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Of these the rows that have no other.
    pub only: BTreeMap<&'static str, u64>,
    pub examples: BTreeMap<&'static str, Vec<Example>>,
    /// Of each test set, in the order given.
    pub excluded: Vec<Excluded>,
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
    /// Of the survivors: a sketch of each that has shingles, and the bands of those.
    pub sketches: Vec<Option<u128>>,
    pub bands: Vec<u64>,
    /// Pairs that stand in each test set.
    pub excluded: Vec<u64>,
}

/// Text under way may take this share of the memory.
const TEXT_SHARE: usize = 8;

pub fn clean(request: &CleanRequest, watch: &Watch) -> Result<Cleaned> {
    let exact = request.duplicates != Key::None;
    let folders = [("duplicates", exact || request.near_duplicates.is_some()), ("fingerprints", exact)];
    for (name, _) in folders.iter().filter(|(_, wanted)| *wanted) {
        let folder = request.out.join(name);
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    }
    let exclusion = Exclusion::read(&request.exclude, request.corpus.max_line_bytes, request.memory, watch)?;
    let judges = Judges {
        request,
        exclusion: &exclusion,
        exact: Normaliser::new(request.duplicates_form),
        near: Normaliser::new(Form::NORMALISED),
    };
    let kind = Ledger::kind(request);
    let best = match &request.prefer {
        Prefer::Column { path, column } => Some(Column::open(std::slice::from_ref(path), column)?),
        Prefer::First | Prefer::Inputs(_) => None,
    };
    let mut ledger = Ledger::new(request, &kind, &exclusion, best.as_ref(), watch)?;
    let read = stream_within(
        UnderWay { bytes: request.memory / TEXT_SHARE, record_bytes: request.band_bytes() },
        &request.corpus,
        &KeptIn::All,
        request.threads,
        watch,
        |chunk| judges.judge(chunk),
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

/// What the workers judge by.
struct Judges<'a> {
    request: &'a CleanRequest,
    exclusion: &'a Exclusion,
    exact: Normaliser,
    near: Normaliser,
}

impl Judges<'_> {
    fn judge(&self, chunk: Chunk) -> Result<Verdicts> {
        let request = self.request;
        let parts = request.duplicates.parts();
        let mut fingerprints = Fingerprints::new(&self.exact, request.duplicates_form);
        let mut signatures = request.near_duplicates.as_ref().map(|near| Signatures::new(near, &self.near));
        let mut judge = request.rules.get(chunk.input).map(Judge::new).transpose()?;
        let mut normal = String::new();
        let monolingual = chunk.monolingual;
        let mut verdicts = Verdicts::new(chunk, parts.len(), self.exclusion.sets.len());
        for index in 0..verdicts.chunk.len() {
            let record = verdicts.chunk.record(index);
            let (mut reasons, text) = match &mut judge {
                Some(judge) => {
                    let judged = if monolingual { judge.judge_target(record) } else { judge.judge(record) };
                    verdicts.measures.push([judged.source, judged.target]);
                    (judged.reasons, judged.text)
                }
                None => judge_structure(record),
            };
            for set in text
                .into_iter()
                .flat_map(|(source, target)| self.exclusion.find([source, target], &mut normal))
            {
                verdicts.excluded[set as usize] += 1;
                reasons |= EXCLUDED;
            }
            verdicts.reasons.push(reasons);
            let Some((source, target)) = text.filter(|_| reasons == 0) else { continue };
            verdicts.survivors.rows.push(verdicts.chunk.first + index as u64);
            for (&part, keyed) in parts.iter().zip(&mut verdicts.survivors.keys) {
                keyed.fingerprints.push(fingerprints.of(part, source, target));
                if request.verify {
                    fingerprints.append_text(part, source, target, &mut keyed.texts);
                    keyed.ends.push(keyed.texts.len());
                }
            }
            if let Some(signatures) = &mut signatures {
                verdicts.sketches.push(signatures.of(source, target, &mut verdicts.bands));
            }
        }
        Ok(verdicts)
    }
}

impl Verdicts {
    fn new(chunk: Chunk, parts: usize, sets: usize) -> Self {
        let count = chunk.len();
        let keys = vec![Keyed::default(); parts];
        Self {
            chunk,
            reasons: Vec::with_capacity(count),
            measures: Vec::new(),
            survivors: Survivors { rows: Vec::with_capacity(count), keys },
            sketches: Vec::new(),
            bands: Vec::new(),
            excluded: vec![0; sets],
        }
    }
}
