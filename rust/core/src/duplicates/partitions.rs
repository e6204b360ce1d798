//! Exact duplicates beyond memory: fingerprints and rows are spilled to partitions by their leading bits, and each
//! partition is resolved in memory.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::duplicates::best_rows::BestRows;
use crate::duplicates::candidates::{Candidate, Layout};
use crate::duplicates::first_rows::{ELSEWHERE, FirstRows, Slot, row};
use crate::duplicates::late::LateCollector;
use crate::io::spool::{Blocks, Spool};
use crate::io::threads::on_threads;
use crate::{Error, Progress, Result};

/// Leading bits that select a partition of one level; a partition that is too large is split by the next bits.
const LEVEL_BITS: u32 = 8;
const PARTS: usize = 1 << LEVEL_BITS;
/// Records that are looked up together.
const BATCH: usize = 1024;
/// A table needs at most this many times the bytes of its partition. A table of first rows needs four: while it grows it
/// exists twice, and half of its slots may be free. A table of best rows, with entries and their places, needs just
/// under six.
const TABLE_SHARE: usize = 6;
/// The least memory of a table: an empty table already needs a part of it.
const LEAST_TABLE: usize = 1 << 18;

pub struct Partitions {
    folder: PathBuf,
    layout: Layout,
    /// Leading bits that were used up by the levels above.
    shared: u32,
    spool: Spool,
    /// The buffer of a record.
    record: Vec<u8>,
}

impl Partitions {
    /// Spills to a temporary file in `folder`; `buffers` bounds the bytes that wait in memory.
    pub fn create(folder: &Path, layout: Layout, buffers: usize) -> Result<Self> {
        Self::at_level(folder, layout, 0, buffers)
    }

    fn at_level(folder: &Path, layout: Layout, shared: u32, buffers: usize) -> Result<Self> {
        // Smaller buffers would need a system call for every few records.
        let spool = Spool::new(folder, PARTS, buffers.max(PARTS << 12))?;
        Ok(Self { folder: folder.to_owned(), layout, shared, spool, record: Vec::new() })
    }

    /// Adds a record. Records of equal fingerprints must come in the order of their rows.
    pub fn add(&mut self, candidate: Candidate<'_>) -> Result<()> {
        let number = ((candidate.slot << self.shared) >> (u128::BITS - LEVEL_BITS)) as usize;
        self.record.clear();
        self.record.extend_from_slice(&candidate.slot.to_le_bytes());
        if self.layout.priority {
            self.record.extend_from_slice(&candidate.priority.to_le_bytes());
        }
        if self.layout.text {
            self.record.extend_from_slice(&(candidate.text.len() as u32).to_le_bytes());
            self.record.extend_from_slice(candidate.text);
        }
        self.spool.push(number, &self.record)
    }

    /// Finds the duplicates of all partitions. `memory` bounds the tables of all threads together.
    pub fn resolve(
        mut self,
        late: &Mutex<LateCollector>,
        threads: usize,
        memory: usize,
        progress: &Progress,
    ) -> Result<()> {
        self.spool.flush()?;
        let largest = (0..PARTS).map(|number| self.spool.bytes(number)).max().unwrap_or(0);
        // Fewer threads are better than splitting a partition that fits into one table.
        let workers = threads.min(memory / (TABLE_SHARE * largest).max(LEAST_TABLE)).max(1);
        let (room, shared) = (memory / workers, self.shared + LEVEL_BITS);
        let tables = || (FirstRows::new(room, shared), BestRows::new(room, shared));
        let whole = on_threads(workers, PARTS, tables, |(first_rows, best_rows), number| {
            let mut duplicates = Pending { late, waiting: Vec::with_capacity(BATCH) };
            let blocks = self.spool.blocks(number);
            let whole = if self.layout.is_plain() {
                self.first_of(blocks, first_rows, progress, &mut duplicates)?
            } else {
                self.best_of(blocks, best_rows, progress, &mut duplicates)?
            };
            duplicates.hand_over()?;
            Ok(whole)
        })?;
        // Duplicates that were found in such a partition are correct, and will be found again.
        for number in (0..PARTS).filter(|&number| !whole[number]) {
            self.split(number, memory, progress)?.resolve(late, threads, memory, progress)?;
        }
        Ok(())
    }

    /// Resolves a partition by the first row of each fingerprint; false if there are too many for the memory.
    fn first_of(
        &self,
        blocks: Blocks,
        table: &mut FirstRows,
        progress: &Progress,
        duplicates: &mut Pending<'_>,
    ) -> Result<bool> {
        table.clear();
        let (mut blocks, mut buffer) = (blocks, Vec::new());
        while let Some(records) = self.spool.read(&mut blocks, &mut buffer)? {
            progress.check()?;
            let (records, _) = records.as_chunks();
            let slots: Vec<Slot> = records.iter().map(|&record| Slot::from_le_bytes(record)).collect();
            for slots in slots.chunks(BATCH) {
                if !table.reserve(slots.len()) {
                    return Ok(false);
                }
                table.insert(slots, |index, earlier| {
                    let row = row(slots[index]);
                    if let Some(of) = earlier.filter(|_| row != ELSEWHERE) {
                        duplicates.waiting.push((row, of));
                    }
                });
                duplicates.hand_over()?;
            }
        }
        Ok(true)
    }

    /// Resolves a partition by the best row of each key, compared byte for byte if the records contain their text.
    fn best_of(
        &self,
        blocks: Blocks,
        table: &mut BestRows,
        progress: &Progress,
        duplicates: &mut Pending<'_>,
    ) -> Result<bool> {
        table.clear();
        let (mut all, mut buffer) = (blocks, Vec::new());
        while let Some(records) = self.spool.read(&mut all, &mut buffer)? {
            progress.check()?;
            for record in self.records(records) {
                if !table.offer(record) {
                    return Ok(false);
                }
            }
        }
        let mut again = blocks;
        while let Some(records) = self.spool.read(&mut again, &mut buffer)? {
            progress.check()?;
            for record in self.records(records) {
                if let Some(best) = table.best(record).filter(|&best| best != row(record.slot)) {
                    duplicates.waiting.push((row(record.slot), best));
                }
            }
            duplicates.hand_over()?;
        }
        Ok(true)
    }

    /// Splits a partition by the next bits of its fingerprints.
    fn split(&self, number: usize, memory: usize, progress: &Progress) -> Result<Self> {
        let shared = self.shared + LEVEL_BITS;
        // Slots hold 88 bits; keys that share nearly all of them cannot be split further.
        if shared + LEVEL_BITS > 64 {
            return Err(Error::input(
                "a partition of the fingerprints does not fit into memory: raise memory",
            ));
        }
        let mut parts = Self::at_level(&self.folder, self.layout, shared, memory / 8)?;
        let (mut blocks, mut buffer) = (self.spool.blocks(number), Vec::new());
        while let Some(records) = self.spool.read(&mut blocks, &mut buffer)? {
            progress.check()?;
            for record in self.records(records) {
                parts.add(record)?;
            }
        }
        Ok(parts)
    }

    fn records<'b>(&self, bytes: &'b [u8]) -> Records<'b> {
        Records { bytes, layout: self.layout }
    }
}

/// Duplicates that one thread has found and not handed over yet.
struct Pending<'f> {
    late: &'f Mutex<LateCollector>,
    waiting: Vec<(u64, u64)>,
}

impl Pending<'_> {
    fn hand_over(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.drain(..).try_for_each(|(row, of)| late.push(row, of))
    }
}

/// The records of a block.
struct Records<'b> {
    bytes: &'b [u8],
    layout: Layout,
}

impl Records<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (&taken, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(taken)
    }
}

impl<'b> Iterator for Records<'b> {
    type Item = Candidate<'b>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut candidate = Candidate { slot: Slot::from_le_bytes(self.take()?), ..Candidate::default() };
        if self.layout.priority {
            candidate.priority = u32::from_le_bytes(self.take()?);
        }
        if self.layout.text {
            let length = u32::from_le_bytes(self.take()?) as usize;
            (candidate.text, self.bytes) = self.bytes.split_at_checked(length)?;
        }
        Some(candidate)
    }
}
