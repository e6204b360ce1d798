//! Shards that a selection reads: checks of their rows and types, and that several checkpoints fit together.

use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;

use crate::columns::shards::wrong_type;
use crate::selection::request::Shard;
use crate::{Error, Result, Row};

/// Sorts shards by row; they must cover all rows from 0 on, each once.
pub fn align(shards: &[Shard]) -> Result<Vec<Shard>> {
    let mut aligned = shards.to_vec();
    aligned.sort_by_key(|shard| (shard.first, shard.end));
    let mut next = 0;
    for shard in &aligned {
        let path = shard.path.display();
        if shard.first > next {
            return Err(Error::input(format!(
                "rows {next}..{} are missing before {path} (rows count from 0): give the shards of all workers",
                shard.first
            )));
        }
        if shard.first < next {
            return Err(Error::input(format!(
                "{path} has rows before {}, which another shard has: give each row once",
                Row(next)
            )));
        }
        next = shard.end;
    }
    Ok(aligned)
}

/// The rows of a shard's batch: ascending, from `next` on, inside the shard's range.
pub fn rows(array: &ArrayRef, shard: &Shard, next: &mut u64) -> Result<Vec<u64>> {
    let rows = typed::<Int64Type>(array, "row", shard)?.values();
    let rows: Vec<u64> = rows.iter().map(|&row| row as u64).collect();
    // Counted without a branch for each row; only a wrong shard is searched for its row.
    let descents = rows.windows(2).filter(|pair| pair[0] >= pair[1]).count();
    let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else { return Ok(rows) };
    if first < *next || last >= shard.end || descents > 0 {
        let mut bound = *next;
        let wrong =
            |&&row: &&u64| row < std::mem::replace(&mut bound, row.saturating_add(1)) || row >= shard.end;
        let row = Row(rows.iter().find(wrong).unwrap_or(&last));
        let (path, first, end) = (shard.path.display(), shard.first, shard.end);
        return Err(Error::input(format!(
            "{path}: {row} is out of order or outside {first}..{end}: make the file again"
        )));
    }
    *next = last + 1;
    Ok(rows)
}

pub fn typed<'a, T: arrow_array::types::ArrowPrimitiveType>(
    array: &'a ArrayRef,
    name: &str,
    shard: &Shard,
) -> Result<&'a arrow_array::PrimitiveArray<T>> {
    array
        .as_primitive_opt::<T>()
        .ok_or_else(|| wrong_type(&shard.path, name, array, &T::DATA_TYPE.to_string()))
}

/// Checkpoints must have been scored over the same shards.
pub fn check_ranges(sets: &[Vec<Shard>]) -> Result<()> {
    for set in &sets[1.min(sets.len())..] {
        for (a, b) in sets[0].iter().zip(set) {
            if (a.first, a.end) != (b.first, b.end) {
                return Err(differ(a, b, "ranges"));
            }
        }
        if set.len() != sets[0].len() {
            let count = |set: &[Shard]| {
                set.last().map_or("no shards".to_owned(), |last| last.path.display().to_string())
            };
            let (a, b) = (count(&sets[0]), count(set));
            return Err(Error::input(format!(
                "one checkpoint's scores end with {a}, another's with {b}: score both over the same tokens"
            )));
        }
    }
    Ok(())
}

/// Checkpoints must have scored the same rows with the same tokens. Models that predict the source count source tokens,
/// and must only have scored the same rows.
pub fn check_equal(shards: &[&Shard], backward: &[bool], sets: &[Option<Vec<ArrayRef>>]) -> Result<()> {
    for number in 1..sets.len() {
        let (first, shard) = (shards[0], shards[number]);
        let (Some(a), Some(b)) = (&sets[0], &sets[number]) else {
            if sets[0].is_none() && sets[number].is_none() {
                continue;
            }
            return Err(differ(first, shard, "rows"));
        };
        if *a[0] != *b[0] {
            return Err(differ(first, shard, "rows"));
        }
        let equal =
            if backward[0] == backward[number] { *a[1] == *b[1] } else { a[1].nulls() == b[1].nulls() };
        if !equal {
            return Err(differ(first, shard, "tokens"));
        }
    }
    Ok(())
}

fn differ(a: &Shard, b: &Shard, what: &str) -> Error {
    let (a, b) = (a.path.display(), b.path.display());
    Error::input(format!("{a} and {b} have different {what}: score both checkpoints over the same tokens"))
}
