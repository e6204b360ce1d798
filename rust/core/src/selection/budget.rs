//! How much is kept in total and in each group, by integer arithmetic only.

use crate::selection::request::Keep;
use crate::{Error, Result};

/// Rows or tokens that may still be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    Rows(u64),
    Tokens(u64),
}

/// The counts of one group before the selection.
#[derive(Debug, Default, Clone, Copy)]
pub struct GroupCounts {
    pub scored: u64,
    pub unscored: u64,
    /// Records that guards have dropped; neither scored nor unscored.
    pub guarded: u64,
    pub tokens: u64,
}

impl GroupCounts {
    pub fn records(&self) -> u64 {
        self.scored + self.unscored + self.guarded
    }

    pub fn add(&mut self, other: &Self) {
        self.scored += other.scored;
        self.unscored += other.unscored;
        self.guarded += other.guarded;
        self.tokens += other.tokens;
    }
}

/// How groups share a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// In proportion to their size.
    Proportional,
    /// As evenly as possible: small groups are kept whole.
    Balanced,
}

/// The budget of every group. Proportional: rows are shared in proportion to scored records, tokens in proportion to
/// target tokens, by largest remainder (ties go to the first group). A fraction of the tokens is taken from each group
/// separately, rounded down. Balanced, as in S2L (arXiv 2403.07384): from the smallest group on (ties: the first), each
/// group gives all its rows, but at most an even part, rounded down, of the remaining budget.
pub fn quotas(keep: Keep, sharing: Sharing, group_counts: &[GroupCounts]) -> Result<Vec<Budget>> {
    let total = |of: fn(&GroupCounts) -> u64| group_counts.iter().map(of).sum::<u64>();
    let scored: Vec<u64> = group_counts.iter().map(|counts| counts.scored).collect();
    let divide = if sharing == Sharing::Balanced { even } else { shares };
    let rows = |rows: u64| {
        enough("rows", rows, total(|counts| counts.scored), "are scored")?;
        Ok(divide(rows, &scored).into_iter().map(Budget::Rows).collect())
    };
    match keep {
        Keep::Rows(count) => rows(count),
        Keep::Fraction(of, parts) => rows(floor(total(|counts| counts.scored + counts.unscored), of, parts)),
        Keep::Tokens(tokens) => {
            enough("target tokens", tokens, total(|counts| counts.tokens), "are in scored rows")?;
            let weights: Vec<u64> = group_counts.iter().map(|counts| counts.tokens).collect();
            Ok(divide(tokens, &weights).into_iter().map(Budget::Tokens).collect())
        }
        Keep::TokenFraction(of, parts) if sharing == Sharing::Balanced => {
            quotas(Keep::Tokens(floor(total(|counts| counts.tokens), of, parts)), sharing, group_counts)
        }
        Keep::TokenFraction(of, parts) => {
            Ok(group_counts.iter().map(|counts| Budget::Tokens(floor(counts.tokens, of, parts))).collect())
        }
    }
}

fn enough(what: &str, wanted: u64, present: u64, are: &str) -> Result<()> {
    if wanted > present {
        return Err(Error::input(format!("cannot keep {wanted} {what}, only {present} {are}: keep fewer")));
    }
    Ok(())
}

fn floor(whole: u64, of: u64, parts: u64) -> u64 {
    (u128::from(whole) * u128::from(of) / u128::from(parts.max(1))) as u64
}

/// Divides `whole` in proportion to `weights` by largest remainder.
fn shares(whole: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum::<u128>().max(1);
    let exact = |weight: u64| u128::from(whole) * u128::from(weight);
    let mut shares: Vec<u64> = weights.iter().map(|&weight| (exact(weight) / sum) as u64).collect();
    let missing =
        if weights.iter().all(|&weight| weight == 0) { 0 } else { whole - shares.iter().sum::<u64>() };
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&group| std::cmp::Reverse(exact(weights[group]) % sum));
    for &group in order.iter().take(missing as usize) {
        shares[group] += 1;
    }
    shares
}

/// Divides `whole` evenly among groups of these sizes; a group gives at most its size.
fn even(whole: u64, sizes: &[u64]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&group| sizes[group]);
    let (mut parts, mut left) = (vec![0; sizes.len()], whole);
    for (place, &group) in order.iter().enumerate() {
        parts[group] = sizes[group].min(left / (sizes.len() - place) as u64);
        left -= parts[group];
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_ties_go_to_the_first() {
        assert_eq!(shares(5, &[1, 1, 1, 1]), [2, 1, 1, 1]);
        assert_eq!(shares(10, &[29, 71]), [3, 7]);
        assert_eq!(shares(0, &[]), Vec::<u64>::new());
        assert_eq!(shares(u64::MAX, &[u64::MAX]), [u64::MAX]);
    }

    #[test]
    fn even_parts_keep_small_groups_whole_and_add_up() {
        assert_eq!(even(10, &[100, 2, 3]), [5, 2, 3]);
        assert_eq!(even(11, &[100, 2, 100]), [4, 2, 5]);
        assert_eq!(even(3, &[5, 5]), [1, 2]);
        assert_eq!(even(7, &[3, 4, 0]), [3, 4, 0]);
        assert_eq!(even(0, &[]), Vec::<u64>::new());
    }

    #[test]
    fn fractions_are_exact() {
        assert_eq!(floor(100, 29, 100), 29);
        assert_eq!(floor(3, 1, 2), 1);
    }
}
