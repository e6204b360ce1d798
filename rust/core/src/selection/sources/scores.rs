//! The score sets of several checkpoints side by side, and the columns that are computed from their statistics.

use std::ops::Range;

use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{Array, ArrayRef, Float32Array, UInt32Array};

use crate::columns::float32::saturate;
use crate::columns::shards::ShardReader;
use crate::selection::batch::Batch;
use crate::selection::methods::{self, Method, Statistic};
use crate::selection::request::{Computed, Exposures, Measure, Shard};
use crate::selection::sources::shards::{check_equal, rows, typed};
use crate::{Error, Result, Row};

/// The score sets of several checkpoints, and for each whether its model predicts the source.
pub struct ScoreSets {
    pub shards: Vec<Vec<Shard>>,
    pub backward: Vec<bool>,
}

/// Streams the records of one shard of every checkpoint through `visit`.
pub fn stream_scores(
    measure: &Measure,
    shards: &[&Shard],
    backward: &[bool],
    batch: &mut Batch,
    visit: &mut dyn FnMut(&mut Batch) -> Result<()>,
) -> Result<()> {
    let mut readers = Vec::with_capacity(shards.len());
    for (set, shard) in shards.iter().enumerate() {
        let mut names = vec!["row", "tokens"];
        names.extend(measure.statistics(set).map(Statistic::column));
        names.extend(measure.exposures.iter().any(|exposures| exposures.set == set).then_some("seen"));
        readers.push(ShardReader::open(&shard.path, &names)?);
    }
    let mut next = shards[0].first;
    loop {
        let mut sets = Vec::with_capacity(readers.len());
        for reader in &mut readers {
            sets.push(reader.next().transpose()?);
        }
        check_equal(shards, backward, &sets)?;
        let sets: Vec<Vec<ArrayRef>> = sets.into_iter().flatten().collect();
        let Some(lead) = sets.first() else { return Ok(()) };
        batch.rows = rows(&lead[0], shards[0], &mut next)?;
        number_exposures(measure, batch, &sets, shards)?;
        let forward = backward.iter().position(|&backward| !backward).unwrap_or(0);
        let lengths = typed::<UInt32Type>(&sets[forward][1], "tokens", shards[forward])?;
        compute(measure, batch, &Sums::of(measure, &sets, shards)?, lengths)?;
        visit(batch)?;
    }
}

/// One statistic of a batch under one checkpoint, and the tokens that it is a sum over.
struct Sums<'a> {
    shard: &'a Shard,
    set: usize,
    statistic: Statistic,
    tokens: &'a UInt32Array,
    values: Values<'a>,
}

enum Values<'a> {
    Counts(&'a UInt32Array),
    Floats(&'a Float32Array),
}

impl<'a> Sums<'a> {
    /// The statistics that are read of every checkpoint.
    fn of(measure: &Measure, sets: &'a [Vec<ArrayRef>], shards: &[&'a Shard]) -> Result<Vec<Self>> {
        let mut sums = Vec::new();
        for (set, (arrays, &shard)) in sets.iter().zip(shards).enumerate() {
            let tokens = typed::<UInt32Type>(&arrays[1], "tokens", shard)?;
            for (statistic, array) in measure.statistics(set).zip(&arrays[2..]) {
                let name = statistic.column();
                let values = match statistic {
                    Statistic::Correct => Values::Counts(typed::<UInt32Type>(array, name, shard)?),
                    _ => Values::Floats(typed::<Float32Type>(array, name, shard)?),
                };
                sums.push(Self { shard, set, statistic, tokens, values });
            }
        }
        Ok(sums)
    }

    /// The means over the tokens of a span of records; NaN for a record without a statistic or without tokens.
    fn means(&self, span: Range<usize>, means: &mut Vec<f64>) {
        let tokens = &self.tokens.values()[span.clone()];
        let mean = |sum: f64, &tokens: &u32| sum / f64::from(tokens);
        means.clear();
        let nulls = match self.values {
            Values::Counts(counts) => {
                let sums = counts.values()[span.clone()].iter().map(|&sum| f64::from(sum));
                means.extend(sums.zip(tokens).map(|(sum, tokens)| mean(sum, tokens)));
                counts.nulls()
            }
            Values::Floats(floats) => {
                let sums = floats.values()[span.clone()].iter().map(|&sum| f64::from(sum));
                means.extend(sums.zip(tokens).map(|(sum, tokens)| mean(sum, tokens)));
                floats.nulls()
            }
        };
        if let Some(nulls) = nulls {
            for (mean, _) in means.iter_mut().zip(span).filter(|&(_, index)| nulls.is_null(index)) {
                *mean = f64::NAN;
            }
        }
    }

    fn refuse(&self, row: u64) -> Error {
        let (path, column, row) = (self.shard.path.display(), self.statistic.column(), Row(row));
        Error::input(format!("{path}: {column} of {row} is no number: score it again"))
    }
}

/// Records whose means are computed together.
const BLOCK: usize = 1024;

/// Computes the columns of a batch from the statistics of all checkpoints; `lengths` are the target tokens.
fn compute(measure: &Measure, batch: &mut Batch, sums: &[Sums<'_>], lengths: &UInt32Array) -> Result<()> {
    let find = |statistic: Statistic, sets: &[usize]| -> Vec<usize> {
        let of = |&set: &usize| sums.iter().position(|sums| sums.set == set && sums.statistic == statistic);
        sets.iter().filter_map(of).collect()
    };
    let read = |column: &Computed| column.method.reads().map(|statistic| find(statistic, &column.sets));
    let read: Vec<Option<Vec<usize>>> = measure.computed.iter().map(read).collect();
    let start = measure.computed.iter().find(|column| column.method == Method::Progress);
    let start = start.and_then(|column| find(Statistic::Nll, &column.sets[..1]).first().copied());
    let trajectory =
        measure.clusters.as_ref().map(|clusters| (clusters, find(Statistic::Nll, &clusters.sets)));
    let count = batch.rows.len();
    clear(batch, count, start.is_some(), trajectory.is_some());
    let mut means = vec![Vec::with_capacity(BLOCK); sums.len()];
    let most = read.iter().flatten().chain(trajectory.iter().map(|(_, from)| from)).map(Vec::len).max();
    let mut of_row = vec![0.0; most.unwrap_or(0)];
    for first in (0..count).step_by(BLOCK) {
        let end = count.min(first + BLOCK);
        for (sums, means) in sums.iter().zip(&mut means) {
            sums.means(first..end, means);
            check(sums, means, lengths, first, &batch.rows)?;
        }
        let scored = |&index: &usize| lengths.is_valid(index);
        for index in (first..end).filter(scored) {
            batch.tokens[index] = lengths.value(index);
        }
        for ((column, from), scores) in measure.computed.iter().zip(&read).zip(&mut batch.columns) {
            for index in (first..end).filter(scored) {
                scores[index] = match (column.method, from) {
                    (Method::Length, _) => batch.tokens[index] as f32,
                    (_, None) => methods::random(batch.rows[index], measure.seed),
                    (method, Some(from)) => {
                        let means = gather(&means, from, index - first, &mut of_row);
                        methods::score(method, &measure.choices, means)
                    }
                };
            }
        }
        if let Some(start) = start {
            for index in (first..end).filter(scored) {
                batch.starts[index] = saturate(means[start][index - first]);
            }
        }
        if let Some((clusters, from)) = &trajectory {
            for index in (first..end).filter(scored) {
                batch.clusters[index] = clusters.nearest(gather(&means, from, index - first, &mut of_row));
            }
        }
    }
    Ok(())
}

/// Empties the computed columns of a batch; a record without a score stays so.
fn clear(batch: &mut Batch, count: usize, starts: bool, clusters: bool) {
    let refill = |column: &mut Vec<f32>, count: usize| {
        column.clear();
        column.resize(count, f32::NAN);
    };
    batch.columns.iter_mut().for_each(|column| refill(column, count));
    refill(&mut batch.starts, if starts { count } else { 0 });
    batch.tokens.clear();
    batch.tokens.resize(count, 0);
    batch.clusters.clear();
    batch.clusters.resize(if clusters { count } else { 0 }, 0);
}

/// Fails if a record that has tokens, from `first` on, has a mean that is no number.
fn check(sums: &Sums<'_>, means: &[f64], lengths: &UInt32Array, first: usize, rows: &[u64]) -> Result<()> {
    // Most blocks have no other value: one comparison without a branch for each record.
    if means.iter().fold(true, |all, mean| all & mean.is_finite()) {
        return Ok(());
    }
    let wrong = |&(index, mean): &(usize, &f64)| lengths.is_valid(index) && !mean.is_finite();
    match (first..).zip(means).find(wrong) {
        Some((index, _)) => Err(sums.refuse(rows[index])),
        None => Ok(()),
    }
}

/// The means of one record.
fn gather<'a>(means: &[Vec<f64>], from: &[usize], place: usize, of_row: &'a mut [f64]) -> &'a [f64] {
    let of_row = &mut of_row[..from.len()];
    for (mean, &sums) in of_row.iter_mut().zip(from) {
        *mean = means[sums][place];
    }
    of_row
}

/// Numbers the exposures of a batch. Records without tokens were never trained on, and get the first exposure.
fn number_exposures(
    measure: &Measure,
    batch: &mut Batch,
    sets: &[Vec<ArrayRef>],
    shards: &[&Shard],
) -> Result<()> {
    batch.exposures.clear();
    if measure.exposures.is_empty() {
        return Ok(());
    }
    batch.exposures.resize(batch.rows.len(), 0);
    for Exposures { set, times, .. } in &measure.exposures {
        let shard = shards[*set];
        let seen = typed::<UInt32Type>(&sets[*set][sets[*set].len() - 1], "seen", shard)?;
        for (index, exposure) in batch.exposures.iter_mut().enumerate() {
            let place = times.iter().position(|&time| seen.is_null(index) || time == seen.value(index));
            let Some(place) = place else {
                let (path, row) = (shard.path.display(), Row(batch.rows[index]));
                let exposure = seen.value(index);
                return Err(Error::input(format!(
                    "{path}: {row} was trained on {exposure} times, which its manifest does not list: score it again"
                )));
            };
            *exposure = *exposure * times.len() as u32 + place as u32;
        }
    }
    Ok(())
}
