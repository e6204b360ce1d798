//! The groups of records that are ranked apart: inputs, tags, buckets of length, and what has a share of its own.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use serde::Deserialize;

use crate::columns::shards::ShardReader;
use crate::selection::budget::Keep;
use crate::selection::sources::records::{Batch, Measure};
use crate::selection::sources::shards::{Shard, rows, wrong_type};
use crate::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Within {
    Input,
    Tag,
    /// Buckets of half an octave: ⌊2·log₂ n⌋ of n target tokens or characters.
    Length,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    Input(u32),
    Tag(String),
}

/// An input or tag that is ranked apart from all others and keeps a share of its own.
#[derive(Debug, Clone, Deserialize)]
pub struct Own {
    pub of: Of,
    /// As the user wrote it.
    pub label: String,
    /// None: all of it is kept, unranked and unguarded.
    pub keep: Option<Keep>,
}

/// How records fall into groups: first those with a share of their own, in the order given, then the others, by what they
/// are ranked within or by clusters; each of them
/// again by how often its records had been trained on, where that differs.
pub struct Groups<'a> {
    measure: &'a Measure,
    tags: Mutex<BTreeMap<String, u32>>,
    /// By the number of a tag, which of the own groups it is; the tags named are numbered first.
    own_tags: Vec<u32>,
    own_inputs: BTreeMap<u32, u32>,
}

impl<'a> Groups<'a> {
    pub fn new(measure: &'a Measure) -> Self {
        let (mut tags, mut own_tags, mut own_inputs) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        for (number, own) in measure.own.iter().enumerate() {
            match &own.of {
                Of::Input(input) => _ = own_inputs.entry(*input).or_insert(number as u32),
                Of::Tag(tag) if !tags.contains_key(tag) => {
                    tags.insert(tag.clone(), own_tags.len() as u32);
                    own_tags.push(number as u32);
                }
                Of::Tag(_) => {}
            }
        }
        Self { measure, tags: Mutex::new(tags), own_tags, own_inputs }
    }

    /// The tags of records, where they matter.
    pub fn tagger(&self) -> Option<Tags<'_>> {
        let wanted = self.measure.within == Some(Within::Tag) || !self.own_tags.is_empty();
        self.measure.clean.as_ref().filter(|_| wanted).map(|clean| Tags::new(clean, &self.tags))
    }

    /// Whether everything is one group.
    pub fn is_one(&self) -> bool {
        let Measure { within, own, seen, clusters, .. } = self.measure;
        within.is_none() && own.is_empty() && seen.is_empty() && clusters.is_none()
    }

    /// Whether a group is kept as a whole.
    pub fn is_trusted(&self, group: usize) -> bool {
        let own = self.measure.own.get(group / self.measure.courses() as usize);
        own.is_some_and(|own| own.keep.is_none())
    }

    /// Numbers the groups of a batch.
    pub fn assign(&self, batch: &mut Batch, tagger: &mut Option<Tags<'_>>) -> Result<()> {
        batch.groups.clear();
        if self.is_one() {
            return Ok(());
        }
        let tags = match tagger {
            Some(tagger) => tagger.of(&batch.rows)?,
            None => Vec::new(),
        };
        let by_input = self.measure.within == Some(Within::Input) || !self.own_inputs.is_empty();
        let (others, courses) = (self.measure.own.len() as u32, self.measure.courses());
        for (index, &row) in batch.rows.iter().enumerate() {
            let tag = tags.get(index).copied();
            let input = if by_input { self.input_of(row) } else { 0 };
            let own = [
                tag.and_then(|tag| self.own_tags.get(tag as usize)),
                self.own_inputs.get(&input).filter(|_| by_input),
            ];
            let group = match own.into_iter().flatten().min() {
                Some(&own) => own,
                None => {
                    others
                        + match self.measure.within {
                            None => batch.clusters.get(index).copied().unwrap_or(0),
                            Some(Within::Input) => input,
                            Some(Within::Tag) => tag.unwrap_or(0),
                            Some(Within::Length) => self.bucket_of(batch, index),
                        }
                }
            };
            batch.groups.push(group * courses + batch.courses.get(index).copied().unwrap_or(0));
        }
        Ok(())
    }

    /// The names of the groups met so far, by number.
    pub fn names(&self) -> Vec<String> {
        let kinds = self.kinds();
        if self.measure.seen.is_empty() {
            return kinds;
        }
        let courses: Vec<String> =
            (0..self.measure.courses()).map(|course| self.measure.course_name(course)).collect();
        let joined = |kind: &String, course: &String| {
            if kind.is_empty() { course.clone() } else { format!("{kind}, {course}") }
        };
        kinds.iter().flat_map(|kind| courses.iter().map(move |course| joined(kind, course))).collect()
    }

    /// The names of what is told apart but for how often it was seen: as the user wrote it; tags, the numbers of the
    /// inputs, or ranges of lengths.
    pub fn kinds(&self) -> Vec<String> {
        let mut names: Vec<String> = self.measure.own.iter().map(|own| own.label.clone()).collect();
        match self.measure.within {
            None => match &self.measure.clusters {
                Some(clusters) => {
                    names.extend((1..=clusters.centres.len()).map(|number| format!("cluster {number}")));
                }
                None => names.push(String::new()),
            },
            Some(Within::Input) => {
                names.extend((0..self.measure.inputs.len()).map(|number| number.to_string()));
            }
            Some(Within::Length) => names.extend((0..BUCKETS).map(bucket_name)),
            Some(Within::Tag) => {
                let tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
                let mut numbered: Vec<_> =
                    tags.iter().map(|(name, &number)| (number, name.clone())).collect();
                numbered.sort_unstable();
                names.extend(numbered.into_iter().map(|(_, name)| name));
            }
        }
        names
    }

    fn input_of(&self, row: u64) -> u32 {
        let inputs = &self.measure.inputs;
        inputs.partition_point(|&(_, end)| end <= row).min(inputs.len().saturating_sub(1)) as u32
    }

    fn bucket_of(&self, batch: &Batch, index: usize) -> u32 {
        bucket(match self.measure.length {
            Some(column) => batch.columns[column][index] as u32, // NaN, no length: 0
            None => batch.tokens.get(index).copied().unwrap_or(0),
        })
    }
}

/// Buckets that a length can fall into: 0, and ⌊2·log₂ n⌋ + 1 of every other one.
const BUCKETS: u32 = 65;

fn bucket(length: u32) -> u32 {
    if length == 0 { 0 } else { (u64::from(length) * u64::from(length)).ilog2() + 1 }
}

/// The lengths in a bucket, like "16-22".
fn bucket_name(number: u32) -> String {
    let start = |number: u32| if number == 0 { 0 } else { root_up(1 << (number - 1)) };
    let (first, end) = (start(number), start(number + 1));
    if end <= first + 1 { first.to_string() } else { format!("{first}-{}", end - 1) }
}

/// The smallest number whose square is not below this one.
fn root_up(square: u128) -> u128 {
    let root = square.isqrt();
    root + u128::from(root * root < square)
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
            if self.reader.is_none() || self.shards.get(self.index).is_some_and(|shard| shard.end <= row) {
                self.reader = None;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_half_octaves_and_named_by_what_they_hold() {
        for length in (0..5000).chain([u32::MAX - 1, u32::MAX]) {
            let name = bucket_name(bucket(length));
            let (first, last) = name.split_once('-').unwrap_or((&name, &name));
            let inside = first.parse().is_ok_and(|first: u64| first <= u64::from(length))
                && last.parse().is_ok_and(|last: u64| u64::from(length) <= last);
            assert!(inside, "{length} in {name}");
            assert!(bucket(length) < BUCKETS);
        }
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 8].map(|length| bucket_name(bucket(length))),
            ["1", "2", "3", "4-5", "4-5", "6-7", "8-11"]
        );
    }
}
