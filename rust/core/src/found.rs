//! Duplicates that are found after the text has passed, in any order and from several threads: in a temporary file, by
//! the shard that waits for them.

use std::path::Path;

use crate::spool::{Block, Spool};
use crate::{Result, Watch};

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

pub struct Found {
    /// Where each shard ends.
    ends: Vec<u64>,
    spool: Spool,
}

impl Found {
    /// `memory` bounds what waits to be written to a file in `folder`.
    pub fn new(ends: Vec<u64>, folder: &Path, memory: usize) -> Result<Self> {
        let spool = Spool::new(folder, ends.len(), memory)?;
        Ok(Self { ends, spool })
    }

    /// Adds a duplicate; the same one may come again.
    pub fn push(&mut self, row: u64, of: u64) -> Result<()> {
        self.spool.push(self.ends.partition_point(|&end| end <= row), &record(row, of))
    }

    /// Tells `see` every row, some more than once.
    pub fn see(&mut self, watch: &Watch, mut see: impl FnMut(u64)) -> Result<()> {
        for shard in 0..self.ends.len() {
            for block in self.spool.blocks(shard)? {
                watch.check()?;
                read(&self.spool, &[block])?.iter().for_each(|&(row, _)| see(row));
            }
        }
        Ok(())
    }

    /// Writes what waits: `of_shard` tells the rest.
    pub fn flush(&mut self) -> Result<()> {
        (0..self.ends.len()).try_for_each(|shard| self.spool.blocks(shard).map(drop))
    }

    /// Those of one shard: ascending rows, each once, with the lowest of the rows that are kept in its place.
    pub fn of_shard(&self, shard: usize) -> Result<Vec<(u64, u64)>> {
        let mut found = read(&self.spool, self.spool.written(shard))?;
        found.sort_unstable();
        found.dedup_by_key(|&mut (row, _)| row);
        Ok(found)
    }
}
