//! The tags of records, joined from the shards of a cleaned corpus.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};

use crate::columns::shards::{ShardReader, wrong_type};
use crate::selection::request::Shard;
use crate::selection::sources::shards::rows;
use crate::{Error, Result, Row};

/// The groups of rows by tag, joined from the shards of a cleaned corpus, which has a record for every row.
pub struct Tags<'a> {
    shards: &'a [Shard],
    numbers: &'a Mutex<BTreeMap<String, u32>>,
    reader: Option<ShardReader>,
    index: usize,
    rows: Vec<u64>,
    groups: Vec<u32>,
    at: usize,
}

impl<'a> Tags<'a> {
    /// `numbers` gives every tag its number, in the order in which they are met.
    pub fn new(shards: &'a [Shard], numbers: &'a Mutex<BTreeMap<String, u32>>) -> Self {
        Self { shards, numbers, reader: None, index: 0, rows: Vec::new(), groups: Vec::new(), at: 0 }
    }

    /// The groups of ascending rows.
    pub fn of(&mut self, rows: &[u64]) -> Result<Vec<u32>> {
        let mut groups = Vec::with_capacity(rows.len());
        for &row in rows {
            while self.rows.get(self.at).is_none_or(|&found| found < row) {
                if self.at < self.rows.len() {
                    self.at += 1;
                } else {
                    self.load(row)?;
                }
            }
            if self.rows[self.at] != row {
                return Err(Error::input(format!(
                    "the cleaned corpus has no {}: its scores are of another one",
                    Row(row)
                )));
            }
            groups.push(self.groups[self.at]);
        }
        Ok(groups)
    }

    /// Reads the next batch; shards that end before `row` are not opened.
    fn load(&mut self, row: u64) -> Result<()> {
        loop {
            if self.reader.is_none() || self.shards.get(self.index).is_some_and(|shard| shard.end <= row) {
                self.reader = None;
                while self.shards.get(self.index).is_some_and(|shard| shard.end <= row) {
                    self.index += 1;
                }
            }
            let Some(shard) = self.shards.get(self.index) else {
                return Err(Error::input(format!(
                    "the cleaned corpus has no {}: its scores are of another one",
                    Row(row)
                )));
            };
            let reader = match &mut self.reader {
                Some(reader) => reader,
                empty => empty.insert(ShardReader::open(&shard.path, &["row", "tag"])?),
            };
            if let Some(columns) = reader.next().transpose()? {
                let mut next = shard.first;
                self.rows = rows(&columns[0], shard, &mut next)?;
                self.groups = groups(&columns[1], shard, self.numbers)?;
                self.at = 0;
                return Ok(());
            }
            self.reader = None;
            self.index += 1;
        }
    }
}

/// The numbers of a batch's tags; a record without a tag has the tag "".
fn groups(array: &ArrayRef, shard: &Shard, numbers: &Mutex<BTreeMap<String, u32>>) -> Result<Vec<u32>> {
    let wrong = || wrong_type(&shard.path, "tag", array, "a dictionary of strings");
    let dictionary = array.as_any_dictionary_opt().ok_or_else(wrong)?;
    let names = dictionary.values().as_string_opt::<i32>().ok_or_else(wrong)?;
    let mut numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
    let mut number = |name: &str| {
        let new = numbers.len() as u32;
        *numbers.entry(name.to_owned()).or_insert(new)
    };
    let keys = if names.is_empty() { vec![0; array.len()] } else { dictionary.normalized_keys() };
    let mut known = vec![None; names.len()];
    let group = |(index, key): (usize, usize)| match known.get_mut(key) {
        Some(known) if array.is_valid(index) => *known.get_or_insert_with(|| number(names.value(key))),
        _ => number(""),
    };
    Ok(keys.into_iter().enumerate().map(group).collect())
}
