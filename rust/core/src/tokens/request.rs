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
    /// What cleaning read, to notice a changed file.
    pub files: Vec<FileRead>,
    pub kept: WantedRows,
    pub tokenizer: PathBuf,
    /// A pair with more tokens on a side, end-of-sentence included, carries none.
    pub max_tokens: usize,
    /// Whether the unigram counts stay as they are: of a corpus that rows are joined to.
    pub frozen: bool,
    pub out: PathBuf,
    pub plan: String,
    pub threads: usize,
}

/// A published block, as the manifest lists it.
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
    /// Digest of `unigrams.safetensors`; empty if that stays as it is.
    pub unigrams: String,
}
