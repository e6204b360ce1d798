//! Duplicates beyond memory: fingerprints and rows are spilled in partitions by their leading bits, and each partition is
//! resolved in memory by itself.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::duplicates::best_rows::BestRows;
use crate::duplicates::candidates::{Candidate, Layout};
use crate::duplicates::first_rows::{ELSEWHERE, FirstRows, Slot, row};
use crate::duplicates::late::LateCollector;
use crate::io::spool::{Block, Spool};
use crate::io::threads::on_threads;
use crate::{Error, Progress, Result};

/// Leading bits that tell the partitions of one level apart; one that is too large is parted again by the next bits.
const LEVEL_BITS: u32 = 8;
const PARTS: usize = 1 << LEVEL_BITS;
/// Records that are looked up together.
const BATCH: usize = 1024;
/// A table takes at most so many times the bytes of its partition: of first rows four (growing it is there twice, and
/// half of the larger one's slots may be free), of best rows, which have entries and their places, just under six.
const TABLE_SHARE: usize = 6;
/// No table gets less: an empty one takes a part of this already.
const LEAST_TABLE: usize = 1 << 18;

pub struct Partitions {
    folder: PathBuf,
    layout: Layout,
    /// Leading bits that were used up by the levels above.
    shared: u32,
    spool: Spool,
    /// A record on its way.
    record: Vec<u8>,
}

impl Partitions {
    /// Spills to a temporary file in `folder`; `buffers` is what may wait in memory.
    pub fn create(folder: &Path, layout: Layout, buffers: usize) -> Result<Self> {
        Self::at_level(folder, layout, 0, buffers)
    }

    fn at_level(folder: &Path, layout: Layout, shared: u32, buffers: usize) -> Result<Self> {
        // Less would be a call to the system for every few records.
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

    /// Tells the duplicates of all partitions. `memory` bounds the tables of all threads together.
    pub fn resolve(
        mut self,
        found: &Mutex<LateCollector>,
        threads: usize,
        memory: usize,
        progress: &Progress,
    ) -> Result<()> {
        self.spool.flush()?;
        let largest = (0..PARTS).map(|number| self.spool.bytes(number)).max().unwrap_or(0);
        // Fewer threads are better than parting a partition that one table would hold.
        let workers = threads.min(memory / (TABLE_SHARE * largest).max(LEAST_TABLE)).max(1);
        let (room, shared) = (memory / workers, self.shared + LEVEL_BITS);
        let tables = || (FirstRows::new(room, shared), BestRows::new(room, shared));
        let whole = on_threads(workers, PARTS, tables, |(first_rows, best_rows), number| {
            let mut duplicates = OnTheirWay { found, waiting: Vec::with_capacity(BATCH) };
            let blocks = self.spool.blocks(number);
            let whole = if self.layout.is_plain() {
                self.first_of(blocks, first_rows, progress, &mut duplicates)?
            } else {
                self.best_of(blocks, best_rows, progress, &mut duplicates)?
            };
            duplicates.hand_over()?;
            Ok(whole)
        })?;
        // What was found in a part of these is right, and will be found again.
        for number in (0..PARTS).filter(|&number| !whole[number]) {
            self.split(number, memory, progress)?.resolve(found, threads, memory, progress)?;
        }
        Ok(())
    }

    /// Resolves a partition by the first row of each fingerprint; false if there are too many for the memory.
    fn first_of(
        &self,
        blocks: &[Block],
        table: &mut FirstRows,
        progress: &Progress,
        duplicates: &mut OnTheirWay<'_>,
    ) -> Result<bool> {
        table.clear();
        let mut buffer = Vec::new();
        for &block in blocks {
            progress.check()?;
            let (records, _) = self.spool.read(block, &mut buffer)?.as_chunks();
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

    /// Resolves a partition by the best row of each key, told apart byte for byte where the records hold their text.
    fn best_of(
        &self,
        blocks: &[Block],
        table: &mut BestRows,
        progress: &Progress,
        duplicates: &mut OnTheirWay<'_>,
    ) -> Result<bool> {
        table.clear();
        let mut buffer = Vec::new();
        for &block in blocks {
            progress.check()?;
            for record in self.records(self.spool.read(block, &mut buffer)?) {
                if !table.offer(record) {
                    return Ok(false);
                }
            }
        }
        for &block in blocks {
            progress.check()?;
            for record in self.records(self.spool.read(block, &mut buffer)?) {
                if let Some(best) = table.best(record).filter(|&best| best != row(record.slot)) {
                    duplicates.waiting.push((row(record.slot), best));
                }
            }
            duplicates.hand_over()?;
        }
        Ok(true)
    }

    /// Parts a partition by the next bits of its fingerprints.
    fn split(&self, number: usize, memory: usize, progress: &Progress) -> Result<Self> {
        let shared = self.shared + LEVEL_BITS;
        // The slots tell 88 bits apart; keys that share nearly all of them are not parted by more bits.
        if shared + LEVEL_BITS > 64 {
            return Err(Error::input("a part of the fingerprints does not fit into memory: raise --memory"));
        }
        let mut parts = Self::at_level(&self.folder, self.layout, shared, memory / 8)?;
        let mut buffer = Vec::new();
        for &block in self.spool.blocks(number) {
            progress.check()?;
            for record in self.records(self.spool.read(block, &mut buffer)?) {
                parts.add(record)?;
            }
        }
        Ok(parts)
    }

    fn records<'b>(&self, bytes: &'b [u8]) -> Records<'b> {
        Records { bytes, layout: self.layout }
    }
}

/// Duplicates on their way from one of the threads.
struct OnTheirWay<'f> {
    found: &'f Mutex<LateCollector>,
    waiting: Vec<(u64, u64)>,
}

impl OnTheirWay<'_> {
    fn hand_over(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.drain(..).try_for_each(|(row, of)| found.push(row, of))
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
