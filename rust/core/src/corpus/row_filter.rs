//! The rows that a pass reads: all, clean pairs, the rows of a selection, or a list.

use std::collections::VecDeque;
use std::path::PathBuf;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type};
use serde::{Deserialize, Serialize};

use crate::columns::shards::ShardReader;
use crate::{Error, Result};

/// The rows that a pass wants, and where they are stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WantedRows {
    All,
    /// Shards with `reasons`: a row with 0 is kept.
    Clean(Vec<PathBuf>),
    /// Shards with `kept`, and shards with `reasons`: a row must pass both.
    Selection {
        selection: Vec<PathBuf>,
        clean: Vec<PathBuf>,
    },
    /// Row numbers, ascending.
    Rows(Vec<u64>),
}

/// Finds the wanted rows of ascending ranges; reads at most one batch of each column ahead.
pub struct RowFilter {
    /// A row is wanted if all parts want it; empty if the pass wants all rows.
    parts: Vec<Part>,
}

/// The rows that one column wants.
struct Part {
    column: &'static str,
    shards: VecDeque<PathBuf>,
    reader: Option<ShardReader>,
    /// Wanted rows that were read and not requested yet.
    ahead: VecDeque<u64>,
    /// All rows below this one were read.
    read_to: u64,
}

impl RowFilter {
    pub fn open(wanted_rows: &WantedRows) -> Self {
        let part = |column, shards: &[PathBuf]| Part {
            column,
            shards: shards.iter().cloned().collect(),
            reader: None,
            ahead: VecDeque::new(),
            read_to: 0,
        };
        let parts = match wanted_rows {
            WantedRows::All => Vec::new(),
            WantedRows::Clean(shards) => vec![part("reasons", shards)],
            WantedRows::Selection { selection, clean } => {
                vec![part("kept", selection), part("reasons", clean)]
            }
            WantedRows::Rows(rows) => vec![Part { ahead: rows.iter().copied().collect(), ..part("", &[]) }],
        };
        Self { parts }
    }

    /// Whether each of the rows `first..first + count` is wanted; empty if all rows of the corpus are.
    pub fn take(&mut self, first: u64, count: usize) -> Result<Vec<bool>> {
        let Some((first_part, other_parts)) = self.parts.split_first_mut() else { return Ok(Vec::new()) };
        let mut wanted = first_part.take(first, count)?;
        for part in other_parts {
            for (wanted, also) in wanted.iter_mut().zip(part.take(first, count)?) {
                *wanted &= also;
            }
        }
        Ok(wanted)
    }
}

impl Part {
    fn take(&mut self, first: u64, count: usize) -> Result<Vec<bool>> {
        let end = first + count as u64;
        while self.read_to < end && self.batch()? {}
        let mut wanted = vec![false; count];
        while let Some(&row) = self.ahead.front()
            && row < end
        {
            self.ahead.pop_front();
            // Rows below `first` belong to inputs that this pass does not read.
            if row >= first {
                wanted[(row - first) as usize] = true;
            }
        }
        Ok(wanted)
    }

    /// Reads one batch of the column; false after the last shard.
    fn batch(&mut self) -> Result<bool> {
        if self.reader.is_none() {
            let Some(path) = self.shards.pop_front() else { return Ok(false) };
            self.reader = Some(ShardReader::open(&path, &["row", self.column])?);
        }
        let Some(batch) = self.reader.as_mut().and_then(Iterator::next) else {
            self.reader = None;
            return Ok(true);
        };
        let batch = batch?;
        let wrong_type = || {
            Error::input(format!("a shard has another type of row or {}: run its step again", self.column))
        };
        let rows = batch[0].as_primitive_opt::<Int64Type>().ok_or_else(wrong_type)?.values();
        if let Some(reasons) = batch[1].as_primitive_opt::<UInt32Type>() {
            let pairs = rows.iter().zip(reasons.values());
            self.ahead.extend(pairs.filter(|(_, reasons)| **reasons == 0).map(|(&row, _)| row as u64));
        } else {
            let kept = batch[1].as_boolean_opt().ok_or_else(wrong_type)?.values();
            let pairs = rows.iter().zip(kept.iter());
            self.ahead.extend(pairs.filter(|(_, kept)| *kept).map(|(&row, _)| row as u64));
        }
        if let Some(&last) = rows.last() {
            self.read_to = last as u64 + 1;
        }
        Ok(true)
    }
}
