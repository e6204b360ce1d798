//! Groups of records that are ranked separately: inputs, tags, length buckets, clusters, and groups with their own share.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::Result;
use crate::selection::batch::Batch;
use crate::selection::request::{Measure, Of, Within};
use crate::selection::tags::Tags;

/// Assigns records to groups. Groups with their own share come first, in the order of the request; then the groups that
/// records are ranked within, or clusters. Each group is split by exposure, if exposures differ.
pub struct Groups<'a> {
    measure: &'a Measure,
    tags: Mutex<BTreeMap<String, u32>>,
    /// By the number of a tag, its own group; the tags of own groups are numbered first.
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

    /// The tags of records, if groups depend on them.
    pub fn tagger(&self) -> Option<Tags<'_>> {
        let wanted = self.measure.within == Some(Within::Tag) || !self.own_tags.is_empty();
        self.measure.clean.as_ref().filter(|_| wanted).map(|clean| Tags::new(clean, &self.tags))
    }

    /// Whether there is only one group.
    pub fn is_one(&self) -> bool {
        let Measure { within, own, exposures, clusters, .. } = self.measure;
        within.is_none() && own.is_empty() && exposures.is_empty() && clusters.is_none()
    }

    /// Whether all records of a group are kept.
    pub fn is_trusted(&self, group: usize) -> bool {
        let own = self.measure.own.get(group / self.measure.exposure_combinations() as usize);
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
        let (others, exposures) = (self.measure.own.len() as u32, self.measure.exposure_combinations());
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
            batch.groups.push(group * exposures + batch.exposures.get(index).copied().unwrap_or(0));
        }
        Ok(())
    }

    /// The names of the groups seen so far, by number.
    pub fn names(&self) -> Vec<String> {
        let kinds = self.kinds();
        if self.measure.exposures.is_empty() {
            return kinds;
        }
        let exposures: Vec<String> = (0..self.measure.exposure_combinations())
            .map(|exposure| self.measure.exposure_name(exposure))
            .collect();
        let combined = |kind: &String, exposure: &String| {
            if kind.is_empty() { exposure.clone() } else { format!("{kind}, {exposure}") }
        };
        kinds.iter().flat_map(|kind| exposures.iter().map(move |exposure| combined(kind, exposure))).collect()
    }

    /// The names of the groups without their exposure: labels of the user, tags, input numbers, or ranges of lengths.
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

/// Number of length buckets: bucket 0 for length 0, bucket ⌊2·log₂ n⌋ + 1 for length n.
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

/// The smallest number whose square is at least `square`.
fn root_up(square: u128) -> u128 {
    let root = square.isqrt();
    root + u128::from(root * root < square)
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
