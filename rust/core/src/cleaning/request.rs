//! What `clean` is asked for, and what it reports.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cleaning::examples::Example;
use crate::cleaning::rules::Rules;
use crate::cleaning::test_sets::{Excluded, TestSet};
use crate::columns::shards::PublishedShard;
use crate::corpus::files_read::CorpusRead;
use crate::corpus::request::Corpus;
use crate::duplicates::fingerprints::Key;
use crate::duplicates::near::signature::NearOptions;
use crate::text::normal_form::Form;

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
    pub fn band_bytes(&self) -> usize {
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
    /// Of these the rows that have no other.
    pub only: BTreeMap<&'static str, u64>,
    pub examples: BTreeMap<&'static str, Vec<Example>>,
    /// Of each test set, in the order given.
    pub excluded: Vec<Excluded>,
    pub shards: Vec<PublishedShard>,
    pub fingerprints: Vec<PublishedShard>,
    pub duplicates: Vec<PublishedShard>,
}
