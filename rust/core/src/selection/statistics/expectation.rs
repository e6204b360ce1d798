//! The expected last nll of a row given its first nll: the median within quantile bins.

use crate::columns::float32::{from_order, order};
use crate::selection::batch::Batch;
use crate::selection::budget::Budget;
use crate::selection::scan::Scan;
use crate::selection::statistics::order_statistics::{Search, descend};
use crate::{Progress, Result};

/// The fewest scored rows of a bin: in a bin of a few rows, many rows are their own median and score 0.
const ROWS_PER_BIN: u64 = 200;

/// The bounds of the bins and the medians in them, for every pool of groups.
///
/// A pool is one group, but for the groups that are too small: they share a pool (see [`pools`]). Of a pool of n scored rows
/// with ascending first nll, bound b of B bins (b = 1 … B-1) is the value at 0-based position ⌊b·n/B⌋, and a row's bin is
/// the number of bounds that are not above its first nll: equal values share a bin, so that a bin may stay empty. B is the
/// requested number of bins, or less so that a bin has [`ROWS_PER_BIN`] rows, and at least 1. The median of an even number
/// of values is the lower one. All values are float32.
pub struct Expectation {
    groups: Vec<Bins>,
    /// The bounds between the bins of all pools.
    bounds: Vec<f32>,
    medians: Vec<f32>,
}

/// The bins of a group, which are those of its pool.
#[derive(Clone, Copy)]
struct Bins {
    /// The first of them among the bins of all pools.
    first: usize,
    /// Where their bounds are.
    bounds: usize,
    end: usize,
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
        let pools = pools(scored);
        let mut rows = vec![0u64; pools.iter().max().map_or(0, |last| last + 1)];
        for (&pool, &count) in pools.iter().zip(scored) {
            rows[pool] += count;
        }
        let bins: Vec<usize> =
            rows.iter().map(|&rows| (rows / ROWS_PER_BIN).clamp(1, bins as u64) as usize).collect();
        let mut ends = (0, 0);
        let mut of_pools = Vec::with_capacity(bins.len());
        for &bins in &bins {
            of_pools.push(Bins { first: ends.0, bounds: ends.1, end: ends.1 + bins - 1 });
            ends = (ends.0 + bins, ends.1 + bins - 1);
        }
        let groups = pools.iter().map(|&pool| of_pools[pool]).collect();
        let bounds = bounds(scan, &pools, &rows, &bins, progress)?;
        let mut expectation = Self { groups, bounds, medians: vec![0.0; ends.0] };
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
        let Bins { first, bounds, end } = self.groups[group];
        first + self.bounds[bounds..end].partition_point(|&bound| bound <= start)
    }

    /// Rows in every bin of every pool.
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

/// The pool of every group: groups of fewer than [`ROWS_PER_BIN`] rows share pool 0, every other group has its own. If they
/// are too few rows together, the smallest of the other groups join them, all that are equally small: tags are numbered as
/// threads see them, so the numbers of groups must not decide.
fn pools(scored: &[u64]) -> Vec<usize> {
    let total = |limit: u64| scored.iter().filter(|&&count| count <= limit).sum::<u64>();
    let mut limit = ROWS_PER_BIN - 1;
    if (1..ROWS_PER_BIN).contains(&total(limit)) {
        limit = scored.iter().copied().filter(|&count| count > limit).min().unwrap_or(limit);
    }
    let mut next = 0;
    let mut own = || {
        next += 1;
        next
    };
    scored.iter().map(|&count| if count <= limit { 0 } else { own() }).collect()
}

fn bounds(
    scan: &impl Scan,
    pools: &[usize],
    rows: &[u64],
    bins: &[usize],
    progress: &Progress,
) -> Result<Vec<f32>> {
    let mut searches = Vec::new();
    for (pool, (&rows, &bins)) in rows.iter().zip(bins).enumerate() {
        for bound in 1..bins as u64 {
            let position = (u128::from(bound) * u128::from(rows) / bins as u128) as u64;
            searches.push(Search::new(pool, Budget::Rows(position + 1)));
        }
    }
    let item = |batch: &Batch, index: usize| {
        let start = batch.starts[index];
        (!batch.scores[index].is_nan()).then(|| (pools[batch.group(index)], order(start)))
    };
    descend(scan, &mut searches, None, None, item, progress)?;
    // Searches are in the order of the pools.
    Ok(searches.iter().map(|search| from_order(search.key())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_groups_share_a_pool_that_is_large_enough() {
        assert_eq!(pools(&[]), [0usize; 0]);
        assert_eq!(pools(&[5]), [0]);
        assert_eq!(pools(&[300, 900]), [1, 2]);
        assert_eq!(pools(&[150, 300, 0, 150]), [0, 1, 0, 0]);
        // 150 rows are too few: the smallest other groups join them.
        assert_eq!(pools(&[150, 300, 900, 300]), [0, 0, 1, 0]);
        // No row is too small a group: nothing joins it.
        assert_eq!(pools(&[0, 300]), [0, 1]);
    }
}
