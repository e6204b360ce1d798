//! Connected components of rows in bounded memory: links go from a row to an earlier one, and the label of a row is the
//! first row of its component.
//!
//! Rows are cut into ranges that fit into memory. Going down from the last range to the first, the links of a range are
//! joined in memory; a component of a range keeps its lowest neighbour below the range, and its other neighbours
//! below are linked with that one instead, which says the same and concerns lower ranges only. Going up again, labels
//! are known for all lower ranges, so each component takes the label of its neighbour. A link goes down a range at most
//! once a range, and only one range is held at a time. Components do not depend on how their links are ordered,
//! so the labels do not depend on the ranges.

use std::path::Path;

use crate::io::spool::Spool;
use crate::{Progress, Result};

/// Bytes of a row in a range.
const ROW_BYTES: usize = 12;
const NONE: u64 = u64::MAX;

/// Two rows.
type Two = [u8; 16];

fn two(one: u64, other: u64) -> Two {
    let mut record = [0; 16];
    record[..8].copy_from_slice(&one.to_le_bytes());
    record[8..].copy_from_slice(&other.to_le_bytes());
    record
}

fn untwo(record: Two) -> (u64, u64) {
    let both = u128::from_le_bytes(record);
    (both as u64, (both >> 64) as u64)
}

/// Consecutive rows as a forest; the root of a tree is its lowest row.
struct Range {
    first: u64,
    /// Offset of a row of the same tree, nearer to its root; a root is its own.
    parents: Vec<u32>,
    /// For a root: the lowest row below the range that its tree is linked with; in the end the label of that row.
    outside: Vec<u64>,
}

impl Range {
    fn new(first: u64, rows: u64) -> Self {
        Self { first, parents: (0..rows as u32).collect(), outside: vec![NONE; rows as usize] }
    }

    fn root(&mut self, row: u64) -> usize {
        let mut at = (row - self.first) as usize;
        while self.parents[at] as usize != at {
            self.parents[at] = self.parents[self.parents[at] as usize];
            at = self.parents[at] as usize;
        }
        at
    }

    fn label(&mut self, row: u64) -> u64 {
        let root = self.root(row);
        if self.outside[root] == NONE { self.first + root as u64 } else { self.outside[root] }
    }

    /// Joins a row of the range with an earlier one; returns the link between lower rows that follows from it, if any.
    fn link(&mut self, row: u64, earlier: u64) -> Option<(u64, u64)> {
        let mut root = self.root(row);
        let mut below = earlier;
        if earlier >= self.first {
            let other = self.root(earlier);
            if root == other {
                return None;
            }
            let gone = root.max(other);
            root = root.min(other);
            self.parents[gone] = root as u32;
            below = self.outside[gone];
        }
        let held = self.outside[root];
        self.outside[root] = held.min(below);
        (held != below && held != NONE && below != NONE).then(|| (held.max(below), held.min(below)))
    }
}

/// Collects links.
pub struct Components {
    rows: u64,
    range_rows: u64,
    /// The current range: the last one until `finish`.
    range: Range,
    links: Spool,
    buffer_memory: usize,
    folder: std::path::PathBuf,
}

impl Components {
    /// For rows below `rows`; `memory` bounds the current range, and also the buffers of the files in `folder`.
    pub fn new(rows: u64, folder: &Path, memory: usize) -> Result<Self> {
        let range_rows = (memory / ROW_BYTES).clamp(1, u32::MAX as usize) as u64;
        let ranges = rows.div_ceil(range_rows).max(1);
        let first = (ranges - 1) * range_rows;
        Ok(Self {
            rows,
            range_rows,
            range: Range::new(first, rows - first),
            links: Spool::new(folder, ranges as usize, memory / 4)?,
            buffer_memory: memory / 4,
            folder: folder.to_owned(),
        })
    }

    /// Notes that a row and an earlier one belong together.
    pub fn link(&mut self, row: u64, earlier: u64) -> Result<()> {
        let mut link = Some((row, earlier));
        if row >= self.range.first {
            link = self.range.link(row, earlier);
        }
        let Some((row, earlier)) = link else { return Ok(()) };
        // A link that follows from another concerns rows below the current range.
        self.links.push((row / self.range_rows) as usize, &two(row, earlier))
    }

    /// Joins all ranges from the last to the first.
    pub fn finish(mut self, progress: &Progress) -> Result<Labels> {
        let last = (self.range.first / self.range_rows) as usize;
        let spool = || Spool::new(&self.folder, last + 1, self.buffer_memory);
        let (mut asked, answers) = (spool()?, spool()?);
        let mut ranges = Spool::new(&self.folder, last + 1, self.buffer_memory)?;
        let mut buffer = Vec::new();
        for number in (0..=last).rev() {
            if number < last {
                self.put_away(&mut ranges, &mut asked)?;
                self.range = Range::new(number as u64 * self.range_rows, self.range_rows);
            }
            let mut links = self.links.take(number)?;
            while let Some(records) = self.links.read(&mut links, &mut buffer)? {
                progress.check()?;
                for &record in records.as_chunks().0 {
                    let (row, earlier) = untwo(record);
                    self.link(row, earlier)?;
                }
            }
        }
        let labels = Labels {
            rows: self.rows,
            range_rows: self.range_rows,
            range: self.range,
            next: 0,
            ranges,
            asked,
            answers,
        };
        Ok(labels)
    }

    /// Writes the current range, and records which labels it needs from lower ranges.
    fn put_away(&self, ranges: &mut Spool, asked: &mut Spool) -> Result<()> {
        let number = (self.range.first / self.range_rows) as usize;
        for (offset, (parent, &outside)) in self.range.parents.iter().zip(&self.range.outside).enumerate() {
            let mut record = [0; ROW_BYTES];
            record[..4].copy_from_slice(&parent.to_le_bytes());
            record[4..].copy_from_slice(&outside.to_le_bytes());
            ranges.push(number, &record)?;
            if *parent as usize == offset && outside != NONE {
                let row = self.range.first + offset as u64;
                asked.push((outside / self.range_rows) as usize, &two(outside, row))?;
            }
        }
        Ok(())
    }
}

/// The rows that are not the first of their component, ascending, each with that first row.
pub struct Labels {
    rows: u64,
    range_rows: u64,
    range: Range,
    next: u64,
    ranges: Spool,
    asked: Spool,
    answers: Spool,
}

impl Labels {
    /// Answers the requests of later ranges to the current range, and loads the next range.
    fn advance(&mut self) -> Result<()> {
        let number = (self.range.first / self.range_rows) as usize;
        let mut buffer = Vec::new();
        let mut requests = self.asked.take(number)?;
        while let Some(records) = self.asked.read(&mut requests, &mut buffer)? {
            for &record in records.as_chunks().0 {
                let (row, asker) = untwo(record);
                let label = self.range.label(row);
                self.answers.push((asker / self.range_rows) as usize, &two(asker, label))?;
            }
        }
        self.range.first += self.range_rows;
        self.range.parents.clear();
        self.range.outside.clear();
        let mut ranges = self.ranges.take(number + 1)?;
        while let Some(records) = self.ranges.read(&mut ranges, &mut buffer)? {
            for record in records.as_chunks::<ROW_BYTES>().0 {
                let [parent @ .., _, _, _, _, _, _, _, _] = *record;
                let [_, _, _, _, outside @ ..] = *record;
                self.range.parents.push(u32::from_le_bytes(parent));
                self.range.outside.push(u64::from_le_bytes(outside));
            }
        }
        let mut answers = self.answers.take(number + 1)?;
        while let Some(records) = self.answers.read(&mut answers, &mut buffer)? {
            for &record in records.as_chunks().0 {
                let (row, label) = untwo(record);
                self.range.outside[(row - self.range.first) as usize] = label;
            }
        }
        Ok(())
    }
}

impl Iterator for Labels {
    type Item = Result<(u64, u64)>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next < self.rows {
            if self.next >= self.range.first + self.range_rows
                && let Err(error) = self.advance()
            {
                self.next = self.rows;
                return Some(Err(error));
            }
            let (row, label) = (self.next, self.range.label(self.next));
            self.next += 1;
            if label != row {
                return Some(Ok((row, label)));
            }
        }
        None
    }
}
