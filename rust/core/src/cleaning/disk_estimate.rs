//! Estimates the disk space that the columns and the spilled fingerprints of a corpus need.

use crate::cleaning::request::{CleanRequest, Prefer};
use crate::corpus::request::Input;
use crate::duplicates::first_rows::FirstRows;
use crate::{Error, Result};

/// Bytes of disk that a corpus needs.
pub struct Need {
    pub columns: u64,
    pub partitions: u64,
}

impl Need {
    /// Bytes per row as measured (docs/explanation/cost.md), rounded up.
    pub fn of(request: &CleanRequest, memory: usize, rows: u64, text: u64) -> Self {
        let keys = request.duplicates.parts().len() as u64;
        let columns = if request.rules.is_empty() { 2 } else { 26 } + 20 * keys;
        let always = request.verify || !matches!(request.prefer, Prefer::First);
        let full = FirstRows::capacity(memory / keys.max(1) as usize) as u64;
        let spills = keys > 0 && (always || rows > full);
        let waits = spills || request.near_duplicates.is_some();
        // Waiting shards are written twice. A record of a partition is one slot, and a record of a late duplicate is as long.
        let partitions = rows * keys * 36 + if request.verify { text } else { 0 };
        Self {
            columns: rows * columns * if waits { 2 } else { 1 },
            partitions: if spills { partitions } else { 0 },
        }
    }
}

/// Size of all files of the corpus on disk, in bytes.
pub fn total_bytes(request: &CleanRequest) -> Result<u64> {
    let mut total = 0;
    for path in request.corpus.inputs.iter().flat_map(Input::paths).chain(request.corpus.tags.as_deref()) {
        total += std::fs::metadata(path).map_err(Error::io(path))?.len();
    }
    Ok(total)
}
