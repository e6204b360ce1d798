//! Duplicates that were found after the text had passed: rows and the rows that are kept in their place, ascending, in
//! temporary files; and their merging.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;
use std::rc::Rc;
use std::vec;

use crate::spool::{Block, Spool};
use crate::{Result, Watch};

const RECORD: usize = 16;
const BUFFER_BYTES: usize = 1 << 16;

/// Adds a duplicate to a partition.
pub fn push(spool: &mut Spool, partition: usize, row: u64, of: u64) -> Result<()> {
    let mut record = [0; RECORD];
    record[..8].copy_from_slice(&row.to_le_bytes());
    record[8..].copy_from_slice(&of.to_le_bytes());
    spool.push(partition, &record)
}

/// The duplicates of one partition.
pub struct Found {
    spool: Rc<Spool>,
    blocks: vec::IntoIter<Block>,
    buffer: Vec<u8>,
    at: usize,
}

impl Found {
    /// Those of all partitions that have any.
    pub fn all(mut spool: Spool, partitions: usize) -> Result<Vec<Self>> {
        let blocks = (0..partitions).map(|number| spool.blocks(number)).collect::<Result<Vec<_>>>()?;
        let spool = Rc::new(spool);
        let with_any = blocks.into_iter().filter(|blocks| !blocks.is_empty()).map(Vec::into_iter);
        let found = |blocks| Self { spool: Rc::clone(&spool), blocks, buffer: Vec::new(), at: 0 };
        Ok(with_any.map(found).collect())
    }

    fn next(&mut self) -> Result<Option<(u64, u64)>> {
        if self.at == self.buffer.len() {
            let Some(block) = self.blocks.next() else { return Ok(None) };
            self.spool.read(block, &mut self.buffer)?;
            self.at = 0;
        }
        let Some(record) = self.buffer[self.at..].first_chunk::<RECORD>() else { return Ok(None) };
        self.at += RECORD;
        let both = u128::from_le_bytes(*record);
        Ok(Some((both as u64, (both >> 64) as u64)))
    }
}

/// Those of several partitions: ascending rows, each once, with the lowest of the rows that are kept in its place.
pub struct Merged {
    parts: Vec<Found>,
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    last: Option<u64>,
}

impl Merged {
    pub fn of(parts: Vec<Found>) -> Result<Self> {
        let mut merged = Self { parts, heap: BinaryHeap::new(), last: None };
        for number in 0..merged.parts.len() {
            merged.advance(number)?;
        }
        Ok(merged)
    }

    fn advance(&mut self, number: usize) -> Result<()> {
        if let Some((row, of)) = self.parts[number].next()? {
            self.heap.push(Reverse((row, of, number)));
        }
        Ok(())
    }

    /// Tells `see` every row, and gives the same once more.
    pub fn revisit(mut self, folder: &Path, watch: &Watch, mut see: impl FnMut(u64)) -> Result<Self> {
        let mut spool = Spool::new(folder, 1, BUFFER_BYTES)?;
        self.drain(watch, |row, of| {
            see(row);
            push(&mut spool, 0, row, of)
        })?;
        Self::of(Found::all(spool, 1)?)
    }

    /// Hands over all that is left.
    pub fn drain(&mut self, watch: &Watch, mut take: impl FnMut(u64, u64) -> Result<()>) -> Result<()> {
        let mut count = 0_usize;
        while let Some((row, of)) = self.next_below(u64::MAX)? {
            count += 1;
            if count.is_multiple_of(1 << 16) {
                watch.check()?;
            }
            take(row, of)?;
        }
        Ok(())
    }

    /// The next duplicate, if its row lies below `end`.
    pub fn next_below(&mut self, end: u64) -> Result<Option<(u64, u64)>> {
        while let Some(&Reverse((row, of, number))) = self.heap.peek()
            && row < end
        {
            self.heap.pop();
            self.advance(number)?;
            if self.last != Some(row) {
                self.last = Some(row);
                return Ok(Some((row, of)));
            }
        }
        Ok(None)
    }
}
