//! Exact order statistics of streamed keys in bounded memory: searches descend digit by digit through histograms of the
//! keys. Nothing is sorted, and no column is held in memory.

use crate::columns::float32::{FIRST, LAST, order};
use crate::selection::batch::Batch;
use crate::selection::budget::Budget;
use crate::selection::methods::row_hash;
use crate::selection::scan::Scan;
use crate::{Progress, Result};

/// Counters that one pass may hold: 16 bytes each, once a thread.
const COUNTERS: usize = 1 << 22;
/// Scores that are compared together.
const RUN: usize = 32;

/// A search in one class of rows for the key at which, smallest key first, `left` is used up: the key of the
/// `left`th row (counted from 1), or the key among whose rows the first one does not fit into `left` tokens.
/// In the end `left` is what goes to the rows with exactly this key, in row order.
#[derive(Debug, Clone)]
pub struct Search {
    pub class: usize,
    pub left: Budget,
    key: u128,
    digits: u32,
    done: bool,
}

impl Search {
    pub fn new(class: usize, left: Budget) -> Self {
        Self { class, left, key: 0, digits: 0, done: false }
    }

    /// The 32-bit key that was found.
    pub fn key(&self) -> u32 {
        (self.key >> 64) as u32
    }

    /// The hash that decides between rows with this key; None where no hash was needed.
    pub fn hash(&self) -> Option<u64> {
        (self.digits > 32).then_some(self.key as u64)
    }

    /// Steps down into the digit where `left` is used up.
    fn step(&mut self, sums: &[Sums], level: Level) {
        for (digit, sum) in sums.iter().enumerate() {
            let Sums { rows, tokens } = *sum;
            let inside = match &mut self.left {
                Budget::Rows(left) if *left <= rows => true,
                Budget::Tokens(left) if *left < tokens => true,
                Budget::Rows(left) => take(left, rows),
                Budget::Tokens(left) => take(left, tokens),
            };
            if inside {
                self.key |= (digit as u128) << level.shift;
                self.digits += level.bits;
                // All rows with this key are kept, so ties need no decision.
                self.done = level.shift == 64 && self.left == Budget::Rows(rows);
                return;
            }
        }
    }
}

fn take(left: &mut u64, amount: u64) -> bool {
    *left -= amount;
    false
}

/// Rows and tokens that fell on one digit.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    rows: u64,
    tokens: u64,
}

/// One digit of the 96-bit key: 32 bits of the score, then 64 of the hash.
#[derive(Debug, Clone, Copy)]
struct Level {
    shift: u32,
    bits: u32,
}

impl Level {
    fn prefix(self, key: u128) -> u128 {
        key >> self.shift >> self.bits
    }

    fn digit(self, key: u128) -> usize {
        (key >> self.shift) as usize & ((1 << self.bits) - 1)
    }
}

/// Runs all searches to their end, one pass over the records for each digit. `item` gives a record's class and key, or
/// None for a record that takes no part; `seed` lets the higher hash of (seed, row) decide between equal keys.
/// `flip` promises that in a batch of one group the key is the order of the score with these bits inverted.
pub fn descend(
    scan: &impl Scan,
    searches: &mut [Search],
    seed: Option<u64>,
    flip: Option<u32>,
    item: impl Fn(&Batch, usize) -> Option<(usize, u32)> + Sync,
    progress: &Progress,
) -> Result<()> {
    let bits = digit_bits(searches.len());
    let classes = searches.iter().map(|search| search.class + 1).max().unwrap_or(0);
    let bottom = if seed.is_some() { 0 } else { 64 };
    let mut shift = 96;
    while shift > bottom && searches.iter().any(|search| !search.done) {
        shift -= bits;
        let level = Level { shift, bits };
        let hashed = if shift < 64 { seed } else { None };
        let (tables, count) = tables(searches, classes, level);
        // Most selections need one histogram of keys only: its prefix is compared, not looked up.
        let lone = tables.iter().flatten().next().filter(|_| count == 1 && shift >= 64);
        let lone = lone.map(|&(prefix, _)| prefix as u64);
        let start = || Counting { sums: vec![Sums::default(); count << bits], rows: Vec::new(), pending: 0 };
        let parts = scan.fold(hashed.is_none(), progress, start, |counting, batch| {
            if let (Some(flip), Some(prefix), true) = (flip, lone, batch.groups.is_empty()) {
                counting.add_plain(batch, flip, prefix, level);
                return Ok(());
            }
            for index in 0..batch.scores.len() {
                let Some((class, key)) = item(batch, index) else { continue };
                let hash = hashed.map_or(0, |seed| !row_hash(batch.rows[index], seed));
                let key = u128::from(key) << 64 | u128::from(hash);
                let Some(tables) = tables.get(class) else { continue };
                if let Ok(found) = tables.binary_search_by_key(&level.prefix(key), |&(prefix, _)| prefix) {
                    let sum = &mut counting.sums[tables[found].1 << bits | level.digit(key)];
                    sum.rows += 1;
                    sum.tokens += u64::from(batch.token(index));
                }
            }
            Ok(())
        })?;
        let sums = total(parts);
        for search in searches.iter_mut().filter(|search| !search.done) {
            let at =
                tables[search.class].binary_search_by_key(&level.prefix(search.key), |&(prefix, _)| prefix);
            if let Ok(found) = at {
                let start = tables[search.class][found].1 << bits;
                search.step(&sums[start..start + (1 << bits)], level);
            }
        }
    }
    Ok(())
}

/// What a thread counts.
struct Counting {
    sums: Vec<Sums>,
    /// Rows only, if tokens are not counted: four times as many counters fit into a cache.
    rows: Vec<u32>,
    /// How many were counted in `rows`; moved to the sums before a counter can run over.
    pending: u64,
}

impl Counting {
    /// Counts the scores of a batch whose keys have this prefix; without a branch for each score if all keys have it.
    fn add_plain(&mut self, batch: &Batch, flip: u32, prefix: u64, level: Level) {
        let shift = level.shift - 64;
        let key = |score: f32| order(score) ^ flip;
        if level.bits != 16 || !batch.tokens.is_empty() {
            let mask = (1 << level.bits) - 1;
            for (index, &score) in batch.scores.iter().enumerate() {
                let key = u64::from(key(score));
                if key >> shift >> level.bits == prefix && !score.is_nan() {
                    let sum = &mut self.sums[(key >> shift) as usize & mask];
                    sum.rows += 1;
                    sum.tokens += u64::from(batch.token(index));
                }
            }
            return;
        }
        self.rows.resize(1 << 16, 0);
        let Some(rows) = self.rows.first_chunk_mut::<{ 1 << 16 }>() else { return };
        if shift == 16 {
            batch.scores.iter().for_each(|&score| rows[(key(score) >> 16) as usize] += 1);
            // Only NaN has these digits, and NaN is not a score.
            rows[..(FIRST >> 16) as usize].fill(0);
            rows[(LAST >> 16) as usize + 1..].fill(0);
        } else {
            // Few have the prefix (a NaN never has): most runs are skipped after one comparison.
            for run in batch.scores.chunks(RUN) {
                let mut any = false;
                for &score in run {
                    any |= u64::from(key(score) >> 16) == prefix;
                }
                if any {
                    let found =
                        run.iter().map(|&score| key(score)).filter(|&key| u64::from(key >> 16) == prefix);
                    found.for_each(|key| rows[(key & 0xffff) as usize] += 1);
                }
            }
        }
        self.pending += batch.scores.len() as u64;
        if self.pending > u64::from(u32::MAX / 2) {
            self.settle();
        }
    }

    fn settle(&mut self) {
        for (sum, rows) in self.sums.iter_mut().zip(&mut self.rows) {
            sum.rows += u64::from(std::mem::take(rows));
        }
        self.pending = 0;
    }
}

/// Adds up what the threads counted.
fn total(parts: Vec<Counting>) -> Vec<Sums> {
    let mut parts = parts.into_iter().map(|mut part| {
        part.settle();
        part.sums
    });
    let mut total = parts.next().unwrap_or_default();
    for part in parts {
        for (sum, more) in total.iter_mut().zip(part) {
            sum.rows += more.rows;
            sum.tokens += more.tokens;
        }
    }
    total
}

/// The widest digit whose histograms fit: 16 bits for up to 64 searches, narrower digits (and more passes) beyond.
fn digit_bits(searches: usize) -> u32 {
    [16, 8, 4, 2].into_iter().find(|&bits| searches << bits <= COUNTERS).unwrap_or(1)
}

/// For each class the prefixes that its searches have reached, ascending, each with the number of its histogram.
fn tables(searches: &[Search], classes: usize, level: Level) -> (Vec<Vec<(u128, usize)>>, usize) {
    let mut tables: Vec<Vec<(u128, usize)>> = vec![Vec::new(); classes];
    for search in searches.iter().filter(|search| !search.done) {
        tables[search.class].push((level.prefix(search.key), 0));
    }
    let mut count = 0;
    for prefixes in &mut tables {
        prefixes.sort_unstable();
        prefixes.dedup();
        for (_, number) in prefixes {
            *number = count;
            count += 1;
        }
    }
    (tables, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_narrow_as_searches_grow() {
        assert_eq!([1, 64, 65, 16_385, 1 << 23].map(digit_bits), [16, 16, 8, 4, 1]);
    }
}
