//! Late duplicates: found after the whole text was read, in any order and from several threads. They are kept in a
//! temporary file, by the shard that waits for them.

use std::path::Path;

use crate::io::spool::{Blocks, Spool};
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
pub fn read(spool: &Spool, mut blocks: Blocks) -> Result<Vec<(u64, u64)>> {
    let (mut both, mut buffer) = (Vec::new(), Vec::new());
    while let Some(records) = spool.read(&mut blocks, &mut buffer)? {
        both.extend(pairs(records));
    }
    Ok(both)
}

fn pairs(records: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    records.as_chunks::<RECORD>().0.iter().map(|&record| {
        let both = u128::from_le_bytes(record);
        (both as u64, (both >> 64) as u64)
    })
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
        let mut buffer = Vec::new();
        for shard in 0..self.shards {
            let mut blocks = self.spool.blocks(shard);
            while let Some(records) = self.spool.read(&mut blocks, &mut buffer)? {
                progress.check()?;
                pairs(records).for_each(|(row, _)| see(row));
            }
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
