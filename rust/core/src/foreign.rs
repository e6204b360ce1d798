//! What is joined to a stream of records by row: a score column that was computed elsewhere, and the tags of a cleaned
//! corpus.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use crate::columns::ShardReader;
use crate::methods::saturate;
use crate::shards::{Shard, rows, wrong_type};
use crate::{Error, Result};

/// Rows and their scores.
type Scores = (Vec<u64>, Vec<f32>);

/// A Parquet file with `row`, ascending and unique, and a numeric column.
pub struct Foreign {
    path: PathBuf,
    column: String,
    reader: ShardReader,
    next: u64,
    /// The rows and scores that a join stands in, and where.
    held: Scores,
    at: usize,
}

impl Foreign {
    pub fn open(path: &Path, column: &str) -> Result<Self> {
        let reader = ShardReader::open(path, &["row", column])?;
        let (path, column) = (path.to_owned(), column.to_owned());
        Ok(Self { path, column, reader, next: 0, held: Scores::default(), at: 0 })
    }

    /// The next records, None at the end; a score of NaN means that there is none.
    pub fn batch(&mut self) -> Result<Option<Scores>> {
        let Some(columns) = self.reader.next().transpose()? else { return Ok(None) };
        let rows = self.rows(&columns[0])?;
        let values = numbers(&columns[1]).ok_or_else(|| {
            wrong_type(&self.path, &self.column, &columns[1], "float32, float64 or an integer")
        })?;
        let mut scores = Vec::with_capacity(rows.len());
        for (&row, value) in rows.iter().zip(values) {
            if value.is_some_and(f64::is_nan) {
                let (path, column) = (self.path.display(), &self.column);
                return Err(Error::input(format!(
                    "{path}: {column} of row {row} is NaN: write null where there is no score"
                )));
            }
            scores.push(value.map_or(f32::NAN, saturate));
        }
        Ok(Some((rows, scores)))
    }

    fn rows(&mut self, array: &ArrayRef) -> Result<Vec<u64>> {
        let rows = integers(array).ok_or_else(|| wrong_type(&self.path, "row", array, "an integer"))?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(row) = row.filter(|&row| row >= self.next && i64::try_from(row).is_ok()) else {
                let (path, next) = (self.path.display(), self.next);
                let shown = row.map_or("null or negative".to_owned(), |row| row.to_string());
                return Err(Error::input(format!(
                    "{path}: row {shown} where {next} or more must come: sort by row, each row once"
                )));
            };
            found.push(row);
            self.next = row + 1;
        }
        Ok(found)
    }

    /// The scores of these rows, NaN where the file has none; rows of the file in between are passed over.
    pub fn join(&mut self, rows: &[u64]) -> Result<Vec<f32>> {
        let mut scores = Vec::with_capacity(rows.len());
        for &row in rows {
            let found = self.peek(row)?.filter(|&(found, _)| found == row);
            scores.push(found.map_or(f32::NAN, |(_, score)| score));
        }
        Ok(scores)
    }

    /// Fails if the file has rows from `end` on.
    pub fn finish(&mut self, end: u64) -> Result<()> {
        match self.peek(end)? {
            None => Ok(()),
            Some((row, _)) => {
                let path = self.path.display();
                Err(Error::input(format!(
                    "{path} has row {row}, the cleaned corpus ends before row {end}: give its own"
                )))
            }
        }
    }

    /// The first record at or after `row`.
    fn peek(&mut self, row: u64) -> Result<Option<(u64, f32)>> {
        loop {
            while let Some(&found) = self.held.0.get(self.at) {
                if found >= row {
                    return Ok(Some((found, self.held.1[self.at])));
                }
                self.at += 1;
            }
            match self.batch()? {
                Some(batch) => (self.held, self.at) = (batch, 0),
                None => return Ok(None),
            }
        }
    }
}

/// A numeric column as float64; None if it is not one. Integers beyond 2^53 are rounded.
fn numbers(array: &ArrayRef) -> Option<Vec<Option<f64>>> {
    fn all<T: ArrowPrimitiveType>(array: &ArrayRef, to: impl Fn(T::Native) -> f64) -> Vec<Option<f64>> {
        array.as_primitive::<T>().iter().map(|value| value.map(&to)).collect()
    }
    Some(match array.data_type() {
        DataType::Float32 => all::<Float32Type>(array, f64::from),
        DataType::Float64 => all::<Float64Type>(array, |value| value),
        DataType::Int8 => all::<Int8Type>(array, f64::from),
        DataType::Int16 => all::<Int16Type>(array, f64::from),
        DataType::Int32 => all::<Int32Type>(array, f64::from),
        DataType::Int64 => all::<Int64Type>(array, |value| value as f64),
        DataType::UInt8 => all::<UInt8Type>(array, f64::from),
        DataType::UInt16 => all::<UInt16Type>(array, f64::from),
        DataType::UInt32 => all::<UInt32Type>(array, f64::from),
        DataType::UInt64 => all::<UInt64Type>(array, |value| value as f64),
        _ => return None,
    })
}

/// A column of row numbers, None for null and negative ones; None if its type is not an integer.
fn integers(array: &ArrayRef) -> Option<Vec<Option<u64>>> {
    fn all<T: ArrowPrimitiveType>(array: &ArrayRef) -> Vec<Option<u64>>
    where
        T::Native: TryInto<u64>,
    {
        array.as_primitive::<T>().iter().map(|value| value.and_then(|value| value.try_into().ok())).collect()
    }
    Some(match array.data_type() {
        DataType::Int32 => all::<Int32Type>(array),
        DataType::Int64 => all::<Int64Type>(array),
        DataType::UInt32 => all::<UInt32Type>(array),
        DataType::UInt64 => all::<UInt64Type>(array),
        _ => return None,
    })
}

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
                    "the cleaned corpus has no row {row}: its scores are of another one"
                )));
            }
            groups.push(self.groups[self.at]);
        }
        Ok(groups)
    }

    /// Reads the next batch; shards that end before `row` are not opened.
    fn load(&mut self, row: u64) -> Result<()> {
        loop {
            if self.reader.is_none() {
                while self.shards.get(self.index).is_some_and(|shard| shard.end <= row) {
                    self.index += 1;
                }
            }
            let Some(shard) = self.shards.get(self.index) else {
                return Err(Error::input(format!(
                    "the cleaned corpus has no row {row}: its scores are of another one"
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
