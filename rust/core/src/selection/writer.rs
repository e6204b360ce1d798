//! The shards of a selection: `row`, `kept` and `score`, with the row ranges of the source's shards.

use std::collections::{BTreeMap, VecDeque};
use std::mem::take;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float32Array, Int64Array};
use arrow_buffer::NullBuffer;
use serde::Serialize;

use crate::Result;
use crate::columns::shards::{COLUMNS, SHARD_ROWS, shard_file, write_shard};
use crate::io::threads::Background;
use crate::selection::request::Shard;

#[derive(Debug, Clone, Serialize)]
pub struct SelectionShard {
    pub file: String,
    pub first: u64,
    pub end: u64,
    pub digest: String,
    pub kept: u64,
}

/// Takes records in row order and writes a shard whenever its range is over.
pub struct Writer<'a> {
    out: PathBuf,
    metadata: BTreeMap<String, String>,
    /// The ranges still to come; None: as the rows ask for them.
    ranges: Option<std::slice::Iter<'a, Shard>>,
    current: Option<(u64, u64)>,
    origin: Option<u64>,
    rows: Vec<i64>,
    kept: Vec<bool>,
    scores: Vec<f32>,
    written: Vec<SelectionShard>,
    /// Shards that threads encode and publish, in row order, and the most of them.
    pending: VecDeque<Background<SelectionShard>>,
    most_pending: usize,
}

/// Shards that are in memory while they are encoded, at most: a thread needs about as long for one as their records need
/// to be decided.
const MOST_PENDING: usize = 4;

impl<'a> Writer<'a> {
    pub fn new(out: &Path, plan: &str, shards: Option<&'a [Shard]>, threads: usize) -> Self {
        Self {
            out: out.to_owned(),
            metadata: BTreeMap::from([("plan".to_owned(), plan.to_owned())]),
            ranges: shards.map(<[Shard]>::iter),
            current: None,
            origin: None,
            rows: Vec::new(),
            kept: Vec::new(),
            scores: Vec::new(),
            written: Vec::new(),
            pending: VecDeque::new(),
            most_pending: threads.min(MOST_PENDING),
        }
    }

    /// Adds records; a score of NaN is written as null.
    pub fn add(&mut self, rows: &[u64], kept: &[bool], scores: &[f32]) -> Result<()> {
        let mut at = 0;
        while let Some(&row) = rows.get(at) {
            while self.current.is_none_or(|(_, end)| row >= end) {
                self.flush()?;
                self.current = self.next_range(row);
            }
            let end = self.current.map_or(row, |(_, end)| end);
            let until = at + rows[at..].partition_point(|&row| row < end);
            self.rows.extend(rows[at..until].iter().map(|&row| row as i64));
            self.kept.extend_from_slice(&kept[at..until]);
            self.scores.extend_from_slice(&scores[at..until]);
            at = until;
        }
        Ok(())
    }

    /// Writes what is left, empty shards included, so that the shards cover what the source's cover.
    pub fn finish(mut self) -> Result<Vec<SelectionShard>> {
        if let (None, Some((first, end)), Some(&last)) = (&self.ranges, self.current, self.rows.last()) {
            self.current = Some((first, end.min(last as u64 + 1)));
        }
        self.flush()?;
        while let Some(shard) = self.ranges.as_mut().and_then(Iterator::next) {
            self.current = Some((shard.first, shard.end));
            self.flush()?;
        }
        self.collect(0)?;
        Ok(self.written)
    }

    /// Waits until at most so many shards are pending.
    fn collect(&mut self, most: usize) -> Result<()> {
        while self.pending.len() > most
            && let Some(shard) = self.pending.pop_front()
        {
            self.written.push(shard.join()?);
        }
        Ok(())
    }

    fn next_range(&mut self, row: u64) -> Option<(u64, u64)> {
        if let Some(ranges) = &mut self.ranges {
            return ranges.next().map(|shard| (shard.first, shard.end));
        }
        let origin = *self.origin.get_or_insert(row);
        let first = row - (row - origin) % SHARD_ROWS;
        Some((first, first + SHARD_ROWS))
    }

    fn flush(&mut self) -> Result<()> {
        let Some((first, end)) = self.current.take() else { return Ok(()) };
        let (rows, kept, scores) = (take(&mut self.rows), take(&mut self.kept), take(&mut self.scores));
        let (out, metadata) = (self.out.clone(), self.metadata.clone());
        self.collect(self.most_pending.saturating_sub(1))?;
        self.pending.push_back(Background::spawn(move || {
            let file = shard_file(COLUMNS, first, end);
            let count = kept.iter().filter(|&&kept| kept).count() as u64;
            let valid: NullBuffer = scores.iter().map(|score| !score.is_nan()).collect();
            let values: Vec<f32> =
                scores.into_iter().map(|score| if score.is_nan() { 0.0 } else { score }).collect();
            let columns: Vec<(String, ArrayRef)> = vec![
                ("row".to_owned(), Arc::new(Int64Array::from(rows))),
                ("kept".to_owned(), Arc::new(BooleanArray::from(kept))),
                ("score".to_owned(), Arc::new(Float32Array::new(values.into(), Some(valid)))),
            ];
            let digest = write_shard(&out.join(&file), columns, &metadata)?;
            Ok(SelectionShard { file, first, end, digest, kept: count })
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_change_neither_the_shards_nor_their_order() -> Result<()> {
        let rows: Vec<u64> = (0..40).map(|index| index * SHARD_ROWS / 3).collect();
        let kept: Vec<bool> = rows.iter().map(|row| row % 2 == 0).collect();
        let scores: Vec<f32> =
            rows.iter().map(|&row| if row % 5 == 0 { f32::NAN } else { row as f32 }).collect();
        let folder = std::env::temp_dir().join(format!("catprune-writer-{}", std::process::id()));
        let write = |threads| {
            let mut writer = Writer::new(&folder, "plan", None, threads);
            for at in 0..rows.len() {
                writer.add(&rows[at..=at], &kept[at..=at], &scores[at..=at])?;
            }
            let shards = writer.finish()?;
            Ok(shards.into_iter().map(|shard| (shard.first, shard.end, shard.kept, shard.digest)).collect())
        };
        let first: Vec<(u64, u64, u64, String)> = write(1)?;
        assert_eq!(first.len(), 14);
        assert!(first.windows(2).all(|pair| pair[0].1 == pair[1].0));
        for threads in [2, 8] {
            let other: Result<Vec<_>> = write(threads);
            assert_eq!(other?, first);
        }
        let _ = std::fs::remove_dir_all(&folder);
        Ok(())
    }
}
