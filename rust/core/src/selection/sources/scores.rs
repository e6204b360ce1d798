//! The score sets of several checkpoints side by side, and the columns that are computed from their statistics.

use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{Array, ArrayRef, Float32Array, UInt32Array};

use crate::columns::float32::saturate;
use crate::columns::shards::ShardReader;
use crate::selection::batch::Batch;
use crate::selection::methods::{self, Method, Statistic};
use crate::selection::request::{Computed, Exposures, Measure, Shard};
use crate::selection::sources::shards::{check_equal, rows, typed};
use crate::{Error, Result};

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
#[derive(Clone, Copy)]
struct Sums<'a> {
    shard: &'a Shard,
    statistic: Statistic,
    tokens: &'a UInt32Array,
    values: Values<'a>,
}

#[derive(Clone, Copy)]
enum Values<'a> {
    Counts(&'a UInt32Array),
    Floats(&'a Float32Array),
}

impl<'a> Sums<'a> {
    /// The statistics that are read of every checkpoint.
    fn of(measure: &Measure, sets: &'a [Vec<ArrayRef>], shards: &[&'a Shard]) -> Result<Vec<Vec<Self>>> {
        let mut all = Vec::with_capacity(sets.len());
        for (set, (arrays, &shard)) in sets.iter().zip(shards).enumerate() {
            let tokens = typed::<UInt32Type>(&arrays[1], "tokens", shard)?;
            let mut sums = Vec::new();
            for (statistic, array) in measure.statistics(set).zip(&arrays[2..]) {
                let name = statistic.column();
                let values = match statistic {
                    Statistic::Correct => Values::Counts(typed::<UInt32Type>(array, name, shard)?),
                    _ => Values::Floats(typed::<Float32Type>(array, name, shard)?),
                };
                sums.push(Self { shard, statistic, tokens, values });
            }
            all.push(sums);
        }
        Ok(all)
    }

    /// The mean over the tokens of a record that has some.
    #[inline]
    fn mean(&self, index: usize, row: u64) -> Result<f64> {
        let (sum, is_null) = match self.values {
            Values::Counts(counts) => (f64::from(counts.value(index)), counts.is_null(index)),
            Values::Floats(floats) => (f64::from(floats.value(index)), floats.is_null(index)),
        };
        let mean = sum / f64::from(self.tokens.value(index));
        if mean.is_finite() && !is_null {
            return Ok(mean);
        }
        Err(self.refuse(row))
    }

    #[cold]
    fn refuse(&self, row: u64) -> Error {
        let (path, column) = (self.shard.path.display(), self.statistic.column());
        Error::input(format!("{path}: {column} of row {row} is no number: score it again"))
    }
}

/// Computes the columns of a batch from the statistics of all checkpoints; `lengths` are the target tokens.
fn compute(
    measure: &Measure,
    batch: &mut Batch,
    sums: &[Vec<Sums<'_>>],
    lengths: &UInt32Array,
) -> Result<()> {
    let count = batch.rows.len();
    batch.tokens.clear();
    batch.tokens.resize(count, 0);
    for column in &mut batch.columns {
        column.clear();
        column.resize(count, f32::NAN);
    }
    let find = |statistic: Statistic, sets: &[usize]| -> Vec<Sums<'_>> {
        let of = |&set: &usize| sums[set].iter().find(|sums| sums.statistic == statistic).copied();
        sets.iter().filter_map(of).collect()
    };
    let read = |column: &Computed| column.method.reads().map(|statistic| find(statistic, &column.sets));
    let read: Vec<Option<Vec<Sums<'_>>>> = measure.computed.iter().map(read).collect();
    let start = measure.computed.iter().find(|column| column.method == Method::Progress);
    let start = start.map(|column| find(Statistic::Nll, &column.sets[..1]));
    let trajectory =
        measure.clusters.as_ref().map(|clusters| (clusters, find(Statistic::Nll, &clusters.sets)));
    batch.starts.clear();
    batch.starts.resize(if start.is_some() { count } else { 0 }, f32::NAN);
    batch.clusters.clear();
    batch.clusters.resize(if trajectory.is_some() { count } else { 0 }, 0);
    let mut means = Vec::new();
    for (index, &row) in batch.rows.iter().enumerate().filter(|&(index, _)| lengths.is_valid(index)) {
        let fill = |from: &[Sums<'_>], means: &mut Vec<f64>| -> Result<()> {
            means.clear();
            for sums in from {
                means.push(sums.mean(index, row)?);
            }
            Ok(())
        };
        batch.tokens[index] = lengths.value(index);
        for ((Computed { method, .. }, from), column) in
            measure.computed.iter().zip(&read).zip(&mut batch.columns)
        {
            column[index] = match (method, from) {
                (Method::Length, _) => batch.tokens[index] as f32,
                (_, None) => methods::random(row, measure.seed),
                (_, Some(from)) => {
                    fill(from, &mut means)?;
                    methods::score(*method, &measure.choices, &means)
                }
            };
        }
        if let Some(start) = &start {
            batch.starts[index] = saturate(start[0].mean(index, row)?);
        }
        if let Some((clusters, from)) = &trajectory {
            fill(from, &mut means)?;
            batch.clusters[index] = clusters.nearest(&means);
        }
    }
    Ok(())
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
                let (path, row) = (shard.path.display(), batch.rows[index]);
                let exposure = seen.value(index);
                return Err(Error::input(format!(
                    "{path}: row {row} was trained on {exposure} times, which its manifest does not list: score it again"
                )));
            };
            *exposure = *exposure * times.len() as u32 + place as u32;
        }
    }
    Ok(())
}
