//! What was read of files and inputs: sizes and digests, to notice a file that has changed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What was read of one file, once it has ended.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct FileRead {
    pub path: PathBuf,
    pub bytes: u64,
    /// xxh3-128 of the bytes as they are on disk.
    pub digest: String,
}

/// What was read of one input.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct InputRead {
    pub first: u64,
    pub end: u64,
    pub files: Vec<FileRead>,
}

/// What was read of a corpus.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct CorpusRead {
    pub inputs: Vec<InputRead>,
    pub tags: Option<FileRead>,
}

impl CorpusRead {
    /// Fails if a file's bytes are not those of an earlier reading, the tags last where they were read.
    pub fn compare(&self, earlier: &[FileRead]) -> Result<()> {
        let now = self.inputs.iter().flat_map(|input| &input.files).chain(&self.tags);
        if now.clone().count() != earlier.len() {
            return Err(Error::input(
                "the corpus has other files than were cleaned: clean again with --force",
            ));
        }
        for (now, earlier) in now.zip(earlier) {
            if now.digest != earlier.digest {
                return Err(Error::input(format!(
                    "{} changed since it was cleaned ({} bytes then, {} now): restore it, or clean again with --force",
                    now.path.display(),
                    earlier.bytes,
                    now.bytes
                )));
            }
        }
        Ok(())
    }
}
