//! Verdicts that are known only after the last row was read: shards are written again with them.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, UInt32Type};
use arrow_array::{ArrayRef, Int64Array, StringArray, UInt32Array};

use crate::clean::{Cleaned, Example, count_reasons};
use crate::columns::{Shard, read_shard, write_shard};
use crate::rules::REASONS;
use crate::{Error, Result, Watch};

/// Gives the rows of `late` (ascending, each with the row that is kept instead) this reason, in the shards and in the
/// counts. Rows that were dropped already stay as they are. The examples that are added lack their text.
pub fn drop_late(
    cleaned: &mut Cleaned,
    (out, plan): (&Path, &str),
    reason: u32,
    late: impl Iterator<Item = Result<(u64, u64)>>,
    watch: &Watch,
) -> Result<()> {
    let mut late = late.peekable();
    let mut duplicates = std::mem::take(&mut cleaned.duplicates).into_iter().peekable();
    for number in 0..cleaned.shards.len() {
        watch.check()?;
        let shard = cleaned.shards[number].clone();
        let held = duplicates.next_if(|held| held.first == shard.first);
        let mine = take_below(&mut late, shard.end)?;
        if mine.is_empty() {
            cleaned.duplicates.extend(held);
            continue;
        }
        let patched = patch(cleaned, (out, plan), reason, number, &mine)?;
        cleaned.duplicates.extend(patch_duplicates((out, plan), &shard, held, &patched)?);
    }
    Ok(())
}

fn take_below(
    late: &mut Peekable<impl Iterator<Item = Result<(u64, u64)>>>,
    end: u64,
) -> Result<Vec<(u64, u64)>> {
    std::iter::from_fn(|| late.next_if(|next| next.as_ref().map_or(true, |&(row, _)| row < end))).collect()
}

/// Writes a shard again, if it holds rows that are dropped now; gives those.
fn patch(
    cleaned: &mut Cleaned,
    (out, plan): (&Path, &str),
    reason: u32,
    number: usize,
    late: &[(u64, u64)],
) -> Result<Vec<(i64, i64)>> {
    let shard = cleaned.shards[number].clone();
    let path = out.join(&shard.file);
    let mut columns = read_shard(&path)?;
    let wrong = || Error::input(format!("{} was changed while it was made: clean again", path.display()));
    let find = |columns: &[(String, ArrayRef)], name: &str| columns.iter().position(|(held, _)| held == name);
    let place = find(&columns, "reasons").ok_or_else(wrong)?;
    let reasons = columns[place].1.as_primitive_opt::<UInt32Type>().ok_or_else(wrong)?;
    let mut reasons = reasons.values().to_vec();
    let tags =
        find(&columns, "tag").map(|place| Tags::of(&columns[place].1).ok_or_else(wrong)).transpose()?;
    let input = cleaned.read.inputs.iter().position(|input| shard.first < input.end).ok_or_else(wrong)?;
    let mut patched = Vec::new();
    for &(row, of) in late {
        let index = (row - shard.first) as usize;
        if reasons[index] != 0 {
            continue;
        }
        reasons[index] = reason;
        patched.push((row as i64, of as i64));
        count_reasons(cleaned, reason, row, || Example { row, source: String::new(), target: String::new() });
        cleaned.total.kept -= 1;
        cleaned.inputs[input].kept -= 1;
        if let Some(tally) = tags.as_ref().and_then(|tags| cleaned.tags.get_mut(tags.at(index))) {
            tally.kept -= 1;
        }
    }
    columns[place].1 = Arc::new(UInt32Array::from(reasons));
    let mut metadata = BTreeMap::from([("plan".to_owned(), plan.to_owned())]);
    metadata.insert("reasons".to_owned(), REASONS.join(","));
    cleaned.shards[number].digest = write_shard(&path, columns, &metadata)?;
    Ok(patched)
}

/// The tag of each row of a shard.
struct Tags {
    keys: Vec<i32>,
    values: StringArray,
}

impl Tags {
    fn of(column: &ArrayRef) -> Option<Self> {
        let tags = column.as_dictionary_opt::<Int32Type>()?;
        let values = tags.values().as_string_opt::<i32>()?.clone();
        Some(Self { keys: tags.keys().values().to_vec(), values })
    }

    fn at(&self, index: usize) -> &str {
        self.values.value(self.keys[index] as usize)
    }
}

/// The duplicates of a shard and those that were found late, in one file.
fn patch_duplicates(
    (out, plan): (&Path, &str),
    shard: &Shard,
    held: Option<Shard>,
    late: &[(i64, i64)],
) -> Result<Option<Shard>> {
    if late.is_empty() {
        return Ok(held);
    }
    let file = format!("duplicates/{}", shard.file);
    let path = out.join(&file);
    let mut pairs = late.to_vec();
    if held.is_some() {
        let columns = read_shard(&path)?;
        let [(_, rows), (_, of)] = &columns[..] else {
            return Err(Error::input(format!("{} has other columns than it was given", path.display())));
        };
        let (rows, of) = (rows.as_primitive::<Int64Type>(), of.as_primitive::<Int64Type>());
        pairs.extend(rows.values().iter().copied().zip(of.values().iter().copied()));
        pairs.sort_unstable();
    }
    let rows = pairs.len() as u64;
    let (row, of): (Vec<i64>, Vec<i64>) = pairs.into_iter().unzip();
    let column = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let columns = vec![("row".to_owned(), column(row)), ("duplicate_of".to_owned(), column(of))];
    let metadata = BTreeMap::from([("plan".to_owned(), plan.to_owned())]);
    let digest = write_shard(&path, columns, &metadata)?;
    Ok(Some(Shard { file, first: shard.first, end: shard.end, digest, rows }))
}
