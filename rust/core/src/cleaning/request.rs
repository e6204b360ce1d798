//! The request and the result of `clean`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cleaning::examples::Example;
use crate::cleaning::repairs::RepairCounts;
use crate::cleaning::rules::Rules;
use crate::cleaning::test_sets::Excluded;
use crate::columns::shards::PublishedShard;
use crate::corpus::files_read::CorpusRead;
use crate::corpus::request::Corpus;
use crate::corpus::segments::TestSet;
use crate::duplicates::fingerprints::Key;
use crate::duplicates::near::signature::NearOptions;
use crate::text::normal_form::Form;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanRequest {
    pub corpus: Corpus,
    /// One for each input. If empty, only records that are not text are dropped, and nothing is measured.
    pub rules: Vec<Rules>,
    pub duplicates: Key,
    pub duplicates_form: Form,
    /// Searched among the records that the rules and exact duplicates leave.
    #[serde(default)]
    pub near_duplicates: Option<NearOptions>,
    #[serde(default)]
    pub exclude: Vec<TestSet>,
    /// Whether keys are compared byte for byte, not only by their fingerprints.
    pub verify: bool,
    pub prefer: Prefer,
    /// Shards with the fingerprints of another corpus, whose pairs count as earlier.
    pub against: Vec<PathBuf>,
    /// The last shard of the rows before, which appended rows continue if it is not full.
    #[serde(default)]
    pub continued: Option<LastShard>,
    pub out: PathBuf,
    /// Where the state of the cleaning is kept, from which the same request goes on after a kill; None: nowhere.
    #[serde(default)]
    pub state: Option<PathBuf>,
    /// The folder of temporary files, which have no names.
    pub tmp: PathBuf,
    /// The digest of the plan, for the metadata of the shards.
    pub plan: String,
    pub threads: usize,
    /// Memory of the pass in bytes, including the text in flight.
    pub memory: usize,
}

impl CleanRequest {
    /// Bytes of a record's near-duplicate signature while it is in flight.
    pub fn band_bytes(&self) -> usize {
        self.near_duplicates.as_ref().map_or(0, |near| 8 * near.bands + size_of::<Option<u128>>())
    }
}

/// The published files of a shard that ends where the rows of a corpus end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastShard {
    pub first: u64,
    pub end: u64,
    pub decisions: PathBuf,
    /// None if no fingerprints are kept.
    pub fingerprints: Option<PathBuf>,
    /// None if the shard has no duplicates.
    pub duplicates: Option<PathBuf>,
}

/// Which row of equal keys is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Prefer {
    First,
    /// The first row of the input that comes first in this list of input numbers; unlisted inputs come last.
    Inputs(Vec<usize>),
    /// The row with the highest value in a column of a Parquet file with `row`; rows without a value come last.
    Column {
        path: PathBuf,
        column: String,
    },
}

/// How many rows there were and how many were kept.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct RowCounts {
    pub rows: u64,
    pub kept: u64,
}

#[derive(Debug, Serialize)]
pub struct Cleaned {
    pub read: CorpusRead,
    pub total: RowCounts,
    pub inputs: Vec<RowCounts>,
    pub tags: BTreeMap<String, RowCounts>,
    /// Rows that have each reason; a row may have several.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Rows that have this reason and no other.
    pub only: BTreeMap<&'static str, u64>,
    pub examples: BTreeMap<&'static str, Vec<Example>>,
    /// The records that each repair of the corpus changed.
    pub repairs: BTreeMap<String, RepairCounts>,
    /// For each test set, in the order of the request.
    pub excluded: Vec<Excluded>,
    pub shards: Vec<PublishedShard>,
    pub fingerprints: Vec<PublishedShard>,
    pub duplicates: Vec<PublishedShard>,
}
