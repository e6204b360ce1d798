//! The part of a request that describes a corpus: its inputs, their formats, and the file of the tags.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::corpus::fields::Fields;
use crate::corpus::files_read::InputRead;
use crate::text::repair::Repair;

/// Default limit of a line in bytes; a longer line is dropped with a reason and never held whole.
pub const MAX_LINE_BYTES: usize = 16_384;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "lowercase")]
pub enum Input {
    /// Two text files with the same number of lines.
    Moses { source: PathBuf, target: PathBuf },
    /// One text file of a monolingual corpus, one record per line.
    Text { path: PathBuf },
    /// One file of tab-separated columns, numbered from 1. Without a source column the corpus is monolingual.
    Tsv {
        path: PathBuf,
        #[serde(default)]
        source_column: Option<usize>,
        target_column: usize,
        /// Whether the first line holds names and is no record.
        #[serde(default)]
        header: bool,
    },
    /// One file of JSON objects, one per line.
    Jsonl {
        path: PathBuf,
        #[serde(flatten)]
        fields: Fields,
    },
    /// One Parquet file; `whole` reads all columns, otherwise only those with the text.
    Parquet {
        path: PathBuf,
        #[serde(flatten)]
        fields: Fields,
        #[serde(default)]
        whole: bool,
    },
    /// One TMX file; a unit gives one record per pair of variants in the two languages.
    /// `whole` also copies units that give one record.
    Tmx {
        path: PathBuf,
        source_language: String,
        target_language: String,
        #[serde(default)]
        whole: bool,
    },
}

impl Input {
    /// The files of the input, the source's first.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let (first, second) = match self {
            Self::Moses { source, target } => (source, Some(target)),
            Self::Text { path }
            | Self::Tsv { path, .. }
            | Self::Jsonl { path, .. }
            | Self::Parquet { path, .. }
            | Self::Tmx { path, .. } => (path, None),
        };
        std::iter::once(first.as_path()).chain(second.map(PathBuf::as_path))
    }

    /// Whether the records have no source.
    pub fn is_monolingual(&self) -> bool {
        match self {
            Self::Text { .. } => true,
            Self::Tsv { source_column, .. } => source_column.is_none(),
            Self::Jsonl { fields, .. } | Self::Parquet { fields, .. } => fields.source_field.is_none(),
            Self::Moses { .. } | Self::Tmx { .. } => false,
        }
    }
}

/// The records that a pass reads.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Corpus {
    pub inputs: Vec<Input>,
    /// A file with one tag per record over all inputs.
    #[serde(default)]
    pub tags: Option<PathBuf>,
    /// Shards of a selection, whose scores are read along.
    #[serde(default)]
    pub scores: Vec<PathBuf>,
    #[serde(default = "max_line_bytes")]
    pub max_line_bytes: usize,
    /// Text is repaired where it is read.
    #[serde(default)]
    pub repair: Vec<Repair>,
    /// The row of the first record: appended inputs continue the rows of the earlier ones.
    #[serde(default)]
    pub first_row: u64,
    /// The first inputs, if an earlier pass read them to their end: they are not read again.
    #[serde(skip)]
    pub read_before: Vec<InputRead>,
    /// Chunks that end before this row are read, but not passed on.
    #[serde(skip)]
    pub from_row: u64,
    /// Bytes of the pass: text whose decompression needs more than a share of them is refused.
    #[serde(skip, default = "unlimited")]
    pub memory: usize,
}

impl Corpus {
    /// Whether the records have no source; this is the same for all inputs of a corpus.
    pub fn is_monolingual(&self) -> bool {
        self.inputs.iter().any(Input::is_monolingual)
    }

    /// The corpus as a pass with this many bytes of memory reads it.
    #[must_use]
    pub fn within(&self, memory: usize) -> Self {
        Self { memory, ..self.clone() }
    }

    /// The line of a row in the file of the tags, from 1.
    pub fn tag_line(&self, row: u64) -> u64 {
        row - self.first_row + 1
    }
}

fn max_line_bytes() -> usize {
    MAX_LINE_BYTES
}

fn unlimited() -> usize {
    usize::MAX
}
