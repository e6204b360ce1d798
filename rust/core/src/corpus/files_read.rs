//! Sizes and digests of the files that were read, to detect a file that has changed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One file that was read to its end.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct FileRead {
    pub path: PathBuf,
    pub bytes: u64,
    /// xxh3-128 of the bytes as they are on disk.
    pub digest: String,
}

/// One input that was read: rows `first..end`, and its files, the source's first.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct InputRead {
    pub first: u64,
    pub end: u64,
    pub files: Vec<FileRead>,
}

/// A corpus that was read; empty if the reading stopped early.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct CorpusRead {
    pub inputs: Vec<InputRead>,
    pub tags: Option<FileRead>,
}

impl CorpusRead {
    /// Fails if a file has other bytes than when it was read `earlier`. The tags come last, if they were read.
    pub fn compare(&self, earlier: &[FileRead]) -> Result<()> {
        let now = self.inputs.iter().flat_map(|input| &input.files).chain(&self.tags);
        if now.clone().count() != earlier.len() {
            return Err(Error::input(
                "the corpus has another number of files than were cleaned: clean again with force = true",
            ));
        }
        for (now, earlier) in now.zip(earlier) {
            if now.digest != earlier.digest {
                return Err(Error::input(format!(
                    "{} changed since it was cleaned ({} bytes then, {} now): restore the file, or clean again with force = true",
                    now.path.display(),
                    earlier.bytes,
                    now.bytes
                )));
            }
        }
        Ok(())
    }
}
