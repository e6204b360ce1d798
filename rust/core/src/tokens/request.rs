//! The request and the result of `tokenize`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::corpus::files_read::FileRead;
use crate::corpus::request::Corpus;
use crate::corpus::row_filter::WantedRows;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizeRequest {
    pub corpus: Corpus,
    /// The files that cleaning read, to detect a changed file.
    pub files: Vec<FileRead>,
    pub kept: WantedRows,
    pub tokenizer: PathBuf,
    /// A pair with more tokens on a side, end-of-sentence included, gets no tokens.
    pub max_tokens: usize,
    /// Whether the unigram counts stay unchanged, as for appended rows.
    pub frozen: bool,
    /// The last block of the rows before, which appended rows continue; None if the rows begin a block.
    #[serde(default)]
    pub continued: Option<PathBuf>,
    pub out: PathBuf,
    pub plan: String,
    pub threads: usize,
}

/// A published block in the manifest: the rows `first..end`, and numbers of pairs and tokens.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BlockShard {
    pub file: String,
    pub first: u64,
    pub end: u64,
    pub digest: String,
    pub pairs: u64,
    pub too_long: u64,
    pub source_tokens: u64,
    pub target_tokens: u64,
}

#[derive(Debug, Default, Serialize)]
pub struct Tokenized {
    pub shards: Vec<BlockShard>,
    /// Digest of `unigrams.safetensors`; empty if the counts are frozen.
    pub unigrams: String,
}
