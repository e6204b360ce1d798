//! Late duplicates: found after the whole text was read, in any order and from several threads. They are kept in a
//! temporary file, by the shard that waits for them.

use std::path::Path;

use crate::io::spool::{Block, Spool};
use crate::{Progress, Result};

const RECORD: usize = 16;

/// A record of a duplicate and the row that is kept instead.
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

/// Collects duplicates as they are found.
pub struct LateCollector {
    /// Where each shard ends.
    ends: Vec<u64>,
    spool: Spool,
}

/// All late duplicates, by shard.
pub struct LateDuplicates {
    spool: Spool,
    shards: usize,
}

/// Bytes of the smallest buffer: a smaller one would need a system call and a block for every few duplicates.
const LEAST_BUFFER: usize = 1 << 10;

impl LateCollector {
    /// For shards that end at these rows; `memory` bounds the buffers of the file in `folder`.
    pub fn new(ends: Vec<u64>, folder: &Path, memory: usize) -> Result<Self> {
        let spool = Spool::new(folder, ends.len(), memory.max(ends.len() * LEAST_BUFFER))?;
        Ok(Self { ends, spool })
    }

    /// Adds a duplicate; it may be added more than once.
    pub fn push(&mut self, row: u64, of: u64) -> Result<()> {
        self.spool.push(self.ends.partition_point(|&end| end <= row), &record(row, of))
    }

    /// Ends the collection.
    pub fn finish(mut self) -> Result<LateDuplicates> {
        self.spool.flush()?;
        Ok(LateDuplicates { spool: self.spool, shards: self.ends.len() })
    }
}

impl LateDuplicates {
    /// Calls `see` for every row, for some rows more than once.
    pub fn see(&self, progress: &Progress, mut see: impl FnMut(u64)) -> Result<()> {
        for block in (0..self.shards).flat_map(|shard| self.spool.blocks(shard)) {
            progress.check()?;
            read(&self.spool, &[*block])?.iter().for_each(|&(row, _)| see(row));
        }
        Ok(())
    }

    /// The duplicates of one shard: each row once, ascending, with the lowest of the rows that are kept instead.
    pub fn of_shard(&self, shard: usize) -> Result<Vec<(u64, u64)>> {
        let mut pairs = read(&self.spool, self.spool.blocks(shard))?;
        pairs.sort_unstable();
        pairs.dedup_by_key(|&mut (row, _)| row);
        Ok(pairs)
    }
}
