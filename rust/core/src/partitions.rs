//! Duplicates beyond memory: fingerprints and rows are spilled in partitions by their leading bits, and each partition is
//! resolved in memory by itself.

use std::path::{Path, PathBuf};

use crate::best_rows::BestRows;
use crate::first_rows::{ELSEWHERE, FirstRows, Slot, row};
use crate::found::{Found, Merged, push};
use crate::spool::{Block, Spool};
use crate::{Error, Result, Watch};

/// Leading bits that tell the partitions of one level apart; one that is too large is parted again by the next bits.
const LEVEL_BITS: u32 = 8;
const PARTS: usize = 1 << LEVEL_BITS;
/// Records that are looked up together.
const BATCH: usize = 1024;

/// What stands in a record beside the slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// How much the row is wished for: the lowest of equal keys is kept, not the first.
    pub priority: bool,
    /// What the fingerprint is of, to be compared byte for byte.
    pub text: bool,
}

impl Layout {
    /// Whether the first row of a fingerprint is always the one that is kept.
    pub fn is_plain(self) -> bool {
        self == Self::default()
    }
}

/// A row that may be a duplicate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Candidate<'a> {
    pub slot: Slot,
    pub priority: u32,
    pub text: &'a [u8],
}

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

    /// Tells the duplicates of all partitions. `memory` bounds the tables.
    pub fn resolve(mut self, memory: usize, watch: &Watch) -> Result<Vec<Found>> {
        let mut found = Spool::new(&self.folder, PARTS, (memory / 8).max(PARTS << 10))?;
        for number in 0..PARTS {
            let blocks = self.spool.blocks(number)?;
            let whole = if self.layout.is_plain() {
                self.first_of(&blocks, memory, watch, |row, of| push(&mut found, number, row, of))?
            } else {
                self.best_of(&blocks, memory, watch, |row, of| push(&mut found, number, row, of))?
            };
            if !whole {
                found.forget(number);
                let mut merged = self.split(&blocks, memory, watch)?;
                merged.drain(watch, |row, of| push(&mut found, number, row, of))?;
            }
        }
        Found::all(found, PARTS)
    }

    /// Resolves a partition by the first row of each fingerprint; false if there are too many for the memory.
    fn first_of(
        &self,
        blocks: &[Block],
        memory: usize,
        watch: &Watch,
        mut found: impl FnMut(u64, u64) -> Result<()>,
    ) -> Result<bool> {
        let mut table = FirstRows::new(memory, self.shared + LEVEL_BITS);
        let mut buffer = Vec::new();
        for &block in blocks {
            watch.check()?;
            let (records, _) = self.spool.read(block, &mut buffer)?.as_chunks();
            let slots: Vec<Slot> = records.iter().map(|&record| Slot::from_le_bytes(record)).collect();
            for slots in slots.chunks(BATCH) {
                if !table.reserve(slots.len()) {
                    return Ok(false);
                }
                let mut outcome = Ok(());
                table.insert(slots, |index, earlier| {
                    let row = row(slots[index]);
                    if let (Some(of), Ok(())) = (earlier, &outcome)
                        && row != ELSEWHERE
                    {
                        outcome = found(row, of);
                    }
                });
                outcome?;
            }
        }
        Ok(true)
    }

    /// Resolves a partition by the best row of each key, told apart byte for byte where the records hold their text.
    fn best_of(
        &self,
        blocks: &[Block],
        memory: usize,
        watch: &Watch,
        mut found: impl FnMut(u64, u64) -> Result<()>,
    ) -> Result<bool> {
        let mut table = BestRows::new(memory, self.shared + LEVEL_BITS);
        let mut buffer = Vec::new();
        for &block in blocks {
            watch.check()?;
            for record in self.records(self.spool.read(block, &mut buffer)?) {
                if !table.offer(record) {
                    return Ok(false);
                }
            }
        }
        for &block in blocks {
            watch.check()?;
            for record in self.records(self.spool.read(block, &mut buffer)?) {
                if let Some(best) = table.best(record).filter(|&best| best != row(record.slot)) {
                    found(row(record.slot), best)?;
                }
            }
        }
        Ok(true)
    }

    /// Parts a partition by the next bits of its fingerprints.
    fn split(&self, blocks: &[Block], memory: usize, watch: &Watch) -> Result<Merged> {
        let shared = self.shared + LEVEL_BITS;
        // The slots tell 88 bits apart; keys that share nearly all of them are not parted by more bits.
        if shared + LEVEL_BITS > 64 {
            return Err(Error::input("a part of the fingerprints does not fit into memory: raise --memory"));
        }
        let mut parts = Self::at_level(&self.folder, self.layout, shared, memory / 8)?;
        let mut buffer = Vec::new();
        for &block in blocks {
            watch.check()?;
            for record in self.records(self.spool.read(block, &mut buffer)?) {
                parts.add(record)?;
            }
        }
        Merged::of(parts.resolve(memory, watch)?)
    }

    fn records<'b>(&self, bytes: &'b [u8]) -> Records<'b> {
        Records { bytes, layout: self.layout }
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
