//! What a request says of a corpus: its inputs, their formats, and where the tags are.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::corpus::fields::Fields;

/// Default limit of a line in bytes; a longer line is dropped with a reason and never held whole.
pub const MAX_LINE_BYTES: usize = 16_384;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "lowercase")]
pub enum Input {
    /// Two files of equal line count.
    Moses { source: PathBuf, target: PathBuf },
    /// One file of text, a line a record.
    Text { path: PathBuf },
    /// One file of tab-separated columns, numbered from 1.
    Tsv {
        path: PathBuf,
        #[serde(default)]
        source_column: Option<usize>,
        target_column: usize,
    },
    /// One file of JSON objects, one a line.
    Jsonl {
        path: PathBuf,
        #[serde(flatten)]
        fields: Fields,
    },
    /// One Parquet file; its rows come with all their columns, or with the two alone.
    Parquet {
        path: PathBuf,
        #[serde(flatten)]
        fields: Fields,
        #[serde(default)]
        whole: bool,
    },
    /// One TMX file; a unit is as many records as it has pairs of variants in the two languages.
    /// Units that are one record come whole if the input says so.
    Tmx {
        path: PathBuf,
        source_language: String,
        target_language: String,
        #[serde(default)]
        whole: bool,
    },
}

impl Input {
    /// Its files, the source's first.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let (one, other) = match self {
            Self::Moses { source, target } => (source, Some(target)),
            Self::Text { path }
            | Self::Tsv { path, .. }
            | Self::Jsonl { path, .. }
            | Self::Parquet { path, .. }
            | Self::Tmx { path, .. } => (path, None),
        };
        std::iter::once(one.as_path()).chain(other.map(PathBuf::as_path))
    }

    /// Whether its records have no source.
    pub fn is_monolingual(&self) -> bool {
        match self {
            Self::Text { .. } => true,
            Self::Tsv { source_column, .. } => source_column.is_none(),
            Self::Jsonl { fields, .. } | Self::Parquet { fields, .. } => fields.source_field.is_none(),
            Self::Moses { .. } | Self::Tmx { .. } => false,
        }
    }
}

/// Which records a pass reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Corpus {
    pub inputs: Vec<Input>,
    /// One line a record over all inputs.
    #[serde(default)]
    pub tags: Option<PathBuf>,
    /// Shards of a selection, whose scores are read along.
    #[serde(default)]
    pub scores: Vec<PathBuf>,
    #[serde(default = "max_line_bytes")]
    pub max_line_bytes: usize,
    /// The row of the first record: inputs that were joined to others go on from their rows.
    #[serde(default)]
    pub first_row: u64,
}

impl Corpus {
    /// Whether its records have no source; all inputs are alike in that.
    pub fn is_monolingual(&self) -> bool {
        self.inputs.iter().any(Input::is_monolingual)
    }
}

fn max_line_bytes() -> usize {
    MAX_LINE_BYTES
}
