//! The expected last nll of a row given its first nll: the median within quantile bins.

use crate::columns::float32::{from_order, order};
use crate::selection::batch::Batch;
use crate::selection::budget::Budget;
use crate::selection::scan::Scan;
use crate::selection::statistics::order_statistics::{Search, descend};
use crate::{Progress, Result};

/// For every group the bounds of its bins and the medians in them.
///
/// Of n scored rows with ascending first nll, bound b of B bins (b = 1 … B-1) is the value at 0-based position
/// ⌊b·n/B⌋, and a row's bin is the number of bounds that are not above its first nll: equal values share a bin, so that a
/// bin may stay empty. The median of an even number of values is the lower one. All values are float32.
pub struct Expectation {
    bins: usize,
    bounds: Vec<Vec<f32>>,
    medians: Vec<f32>,
}

impl Expectation {
    /// Reads the records a few times; `column` has the last nll, `scored` is the number of scored rows of every group.
    pub fn of(
        scan: &impl Scan,
        column: usize,
        bins: usize,
        scored: &[u64],
        progress: &Progress,
    ) -> Result<Self> {
        let bounds = bounds(scan, bins, scored, progress)?;
        let mut expectation = Self { bins, bounds, medians: vec![0.0; bins * scored.len()] };
        let counts = expectation.count(scan, progress)?;
        let occupied = counts.iter().enumerate().filter(|&(_, &count)| count > 0);
        let mut searches: Vec<Search> =
            occupied.map(|(class, &count)| Search::new(class, Budget::Rows(count.div_ceil(2)))).collect();
        let item = |batch: &Batch, index: usize| {
            let (start, last) = (batch.starts[index], batch.columns[column][index]);
            (!batch.scores[index].is_nan())
                .then(|| (expectation.class(batch.group(index), start), order(last)))
        };
        descend(scan, &mut searches, None, None, item, progress)?;
        for search in searches {
            expectation.medians[search.class] = from_order(search.key());
        }
        Ok(expectation)
    }

    /// The expected last nll of a row of this group with this first nll.
    pub fn at(&self, group: usize, start: f32) -> f32 {
        self.medians[self.class(group, start)]
    }

    fn class(&self, group: usize, start: f32) -> usize {
        let bounds = &self.bounds[group];
        group * self.bins + bounds.partition_point(|&bound| bound <= start)
    }

    /// Rows in every bin of every group.
    fn count(&self, scan: &impl Scan, progress: &Progress) -> Result<Vec<u64>> {
        let start = || vec![0u64; self.medians.len()];
        let parts = scan.fold(true, progress, start, |counts, batch| {
            for (index, &start) in batch.starts.iter().enumerate() {
                if !batch.scores[index].is_nan() {
                    counts[self.class(batch.group(index), start)] += 1;
                }
            }
            Ok(())
        })?;
        Ok((0..self.medians.len()).map(|class| parts.iter().map(|part| part[class]).sum()).collect())
    }
}

fn bounds(scan: &impl Scan, bins: usize, scored: &[u64], progress: &Progress) -> Result<Vec<Vec<f32>>> {
    let mut searches = Vec::new();
    for (group, &count) in scored.iter().enumerate().filter(|&(_, &count)| count > 0) {
        for bound in 1..bins as u64 {
            let position = (u128::from(bound) * u128::from(count) / bins as u128) as u64;
            searches.push(Search::new(group, Budget::Rows(position + 1)));
        }
    }
    let item = |batch: &Batch, index: usize| {
        let start = batch.starts[index];
        (!batch.scores[index].is_nan()).then(|| (batch.group(index), order(start)))
    };
    descend(scan, &mut searches, None, None, item, progress)?;
    let mut bounds = vec![Vec::new(); scored.len()];
    for search in searches {
        bounds[search.class].push(from_order(search.key()));
    }
    Ok(bounds)
}
