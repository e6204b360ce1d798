//! Duplicates that are found after the text has passed, in any order and from several threads: in a temporary file, by
//! the shard that waits for them.

use std::path::Path;

use crate::io::spool::{Block, Spool};
use crate::{Progress, Result};

const RECORD: usize = 16;

/// Two rows: a duplicate and the one that is kept in its place.
pub fn record(row: u64, of: u64) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[..8].copy_from_slice(&row.to_le_bytes());
    record[8..].copy_from_slice(&of.to_le_bytes());
    record
}

/// The duplicates in some blocks of records.
pub fn read(spool: &Spool, blocks: &[Block]) -> Result<Vec<(u64, u64)>> {
    let (mut both, mut buffer) = (Vec::new(), Vec::new());
    for &block in blocks {
        let (records, _) = spool.read(block, &mut buffer)?.as_chunks::<RECORD>();
        both.extend(records.iter().map(|&record| {
            let both = u128::from_le_bytes(record);
            (both as u64, (both >> 64) as u64)
        }));
    }
    Ok(both)
}

/// Takes duplicates as they are found.
pub struct LateCollector {
    /// Where each shard ends.
    ends: Vec<u64>,
    spool: Spool,
}

/// All that were found.
pub struct LateDuplicates {
    spool: Spool,
    shards: usize,
}

/// Less would be a call to the system, and a block to remember, for every few duplicates of a shard.
const LEAST_BUFFER: usize = 1 << 10;

impl LateCollector {
    /// For shards that end at these rows; `memory` bounds what waits to be written to a file in `folder`.
    pub fn new(ends: Vec<u64>, folder: &Path, memory: usize) -> Result<Self> {
        let spool = Spool::new(folder, ends.len(), memory.max(ends.len() * LEAST_BUFFER))?;
        Ok(Self { ends, spool })
    }

    /// Adds a duplicate; the same one may come again.
    pub fn push(&mut self, row: u64, of: u64) -> Result<()> {
        self.spool.push(self.ends.partition_point(|&end| end <= row), &record(row, of))
    }

    /// There are no more.
    pub fn finish(mut self) -> Result<LateDuplicates> {
        self.spool.flush()?;
        Ok(LateDuplicates { spool: self.spool, shards: self.ends.len() })
    }
}

impl LateDuplicates {
    /// Tells `see` every row, some more than once.
    pub fn see(&self, progress: &Progress, mut see: impl FnMut(u64)) -> Result<()> {
        for block in (0..self.shards).flat_map(|shard| self.spool.blocks(shard)) {
            progress.check()?;
            read(&self.spool, &[*block])?.iter().for_each(|&(row, _)| see(row));
        }
        Ok(())
    }

    /// Those of one shard: ascending rows, each once, with the lowest of the rows that are kept in its place.
    pub fn of_shard(&self, shard: usize) -> Result<Vec<(u64, u64)>> {
        let mut found = read(&self.spool, self.spool.blocks(shard))?;
        found.sort_unstable();
        found.dedup_by_key(|&mut (row, _)| row);
        Ok(found)
    }
}
