//! The score of one row from its stored statistics (formulas and sources: `catprune methods`).
//!
//! `nll_t = nll_sum_t / tokens` and everything after it is computed in float64, with an exponential in pure Rust
//! (`libm`), so that a score has the same bytes on every machine; scores are stored as float32.

use serde::Deserialize;

use crate::columns::float32::saturate;

/// The score of a selection; higher scores are kept first unless the direction says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    CatDiff,
    CatVar,
    Progress,
    Ppl,
    Ign,
    TokenGradNorm,
    El2n,
    Confidence,
    Variability,
    Correctness,
    Closeness,
    Forgetting,
    Inactive,
    S2l,
    Rho,
    DualXent,
    Length,
    Random,
}

/// A sum over the target tokens of a pair, as `score` stores it; methods look at its mean over the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    Nll,
    Correct,
    El2n,
    GradNorm,
    Ign,
}

/// The quantity whose trajectory is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    Ppl,
    Nll,
}

/// Whether `cat-diff` keeps its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sign {
    Signed,
    Abs,
}

/// Options of the methods.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Choices {
    pub on: On,
    pub sign: Sign,
    /// For `forgetting`: the token accuracy from which a pair counts as learned.
    pub threshold: f64,
}

impl Statistic {
    pub const ALL: [Self; 5] = [Self::Nll, Self::Correct, Self::El2n, Self::GradNorm, Self::Ign];

    /// The name of its column in a score set.
    pub fn column(self) -> &'static str {
        match self {
            Self::Nll => "nll_sum",
            Self::Correct => "correct",
            Self::El2n => "el2n_sum",
            Self::GradNorm => "grad_norm_sum",
            Self::Ign => "ign_sum",
        }
    }
}

impl Method {
    /// The statistic that is read for every checkpoint.
    pub fn reads(self) -> Option<Statistic> {
        match self {
            Self::Length | Self::Random | Self::S2l => None,
            Self::Ign => Some(Statistic::Ign),
            Self::TokenGradNorm => Some(Statistic::GradNorm),
            Self::El2n => Some(Statistic::El2n),
            Self::Correctness | Self::Forgetting => Some(Statistic::Correct),
            _ => Some(Statistic::Nll),
        }
    }
}

/// The score of a row with these means per token of the method's statistic, one for each checkpoint in training order (of
/// `rho` the early one and the reference, of `dual-xent` the forward and the backward one); for `Progress` it is the last
/// nll. Methods without a statistic score 0 here: their scores are computed elsewhere.
pub fn score(method: Method, choices: &Choices, means: &[f64]) -> f32 {
    let (first, last) = (means.first().copied().unwrap_or(0.0), means.last().copied().unwrap_or(0.0));
    let on = choices.on;
    let probabilities = || means.iter().map(|&nll| libm::exp(-nll));
    saturate(match method {
        Method::CatDiff => {
            let difference = value(on, first) - value(on, last);
            if choices.sign == Sign::Abs { difference.abs() } else { difference }
        }
        Method::CatVar => variance(means.iter().map(|&nll| value(on, nll))),
        Method::Ppl => value(on, last),
        Method::Progress => last,
        Method::Ign | Method::TokenGradNorm | Method::El2n | Method::Correctness => {
            mean(means.iter().copied())
        }
        Method::Confidence => mean(probabilities()),
        Method::Variability => variance(probabilities()).sqrt(),
        Method::Closeness => {
            let confidence = mean(probabilities());
            confidence * (1.0 - confidence)
        }
        Method::Inactive => -mean(probabilities()),
        Method::Forgetting => forgetting(means, choices.threshold),
        Method::Rho => first - last,
        Method::DualXent => -((first - last).abs() + f64::midpoint(first, last)),
        Method::S2l | Method::Length | Method::Random => 0.0,
    })
}

/// How often a pair was learned at one checkpoint and no longer at the next. A pair that was never learned gets the
/// highest count, one more than there are steps between checkpoints.
fn forgetting(accuracies: &[f64], threshold: f64) -> f64 {
    let known = |accuracy: &f64| *accuracy >= threshold;
    if !accuracies.iter().any(known) {
        return accuracies.len() as f64;
    }
    accuracies.windows(2).filter(|pair| known(&pair[0]) && !known(&pair[1])).count() as f64
}

/// A perplexity is clamped to the largest float32, so that the difference of two overflowing ones is 0, not NaN.
fn value(on: On, nll: f64) -> f64 {
    match on {
        On::Ppl => libm::exp(nll).min(f64::from(f32::MAX)),
        On::Nll => nll,
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// Population variance, in two passes: the one-pass form loses its digits on large perplexities.
fn variance(values: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let centre = mean(values.clone());
    mean(values.map(|value| (value - centre) * (value - centre)))
}

/// The hash of (seed, row) behind `random` and behind ties decided at random; it does not depend on shards or threads.
pub fn row_hash(row: u64, seed: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&row.to_le_bytes(), seed)
}

/// The score of `random`: the upper 24 bits of the hash, uniform in [0, 1).
pub fn random(row: u64, seed: u64) -> f32 {
    (row_hash(row, seed) >> 40) as f32 / (1 << 24) as f32
}

/// The draw of a row with this weight: log(weight) plus Gumbel noise from the hash of (seed, row). The k highest draws
/// are a weighted sample of k rows without replacement. Weights of 0 come last.
pub fn draw(weight: f32, row: u64, seed: u64) -> f32 {
    if weight <= 0.0 {
        return f32::MIN;
    }
    let uniform = ((row_hash(row, seed) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    saturate(libm::log(f64::from(weight)) - libm::log(-libm::log(uniform)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Choices = Choices { on: On::Ppl, sign: Sign::Signed, threshold: 0.5 };
    const ON_NLL: Choices = Choices { on: On::Nll, ..PLAIN };

    #[test]
    fn overflowing_perplexities_stay_finite_and_comparable() {
        let huge = [800.0, 900.0];
        assert_eq!(score(Method::CatDiff, &PLAIN, &huge).to_bits(), 0.0f32.to_bits());
        assert_eq!(score(Method::Ppl, &PLAIN, &huge).to_bits(), f32::MAX.to_bits());
        assert_eq!(score(Method::CatVar, &PLAIN, &[0.0, 900.0]).to_bits(), f32::MAX.to_bits());
    }

    #[test]
    fn sign_and_variance() {
        let nll = [1.0, 3.0];
        assert!((score(Method::CatDiff, &ON_NLL, &nll) + 2.0).abs() < 1e-6);
        assert!((score(Method::CatDiff, &Choices { sign: Sign::Abs, ..ON_NLL }, &nll) - 2.0).abs() < 1e-6);
        assert!((score(Method::CatVar, &ON_NLL, &nll) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn forgetting_counts_falls_below_the_threshold_and_never_known_as_most() {
        let forgotten = |accuracies: &[f64]| score(Method::Forgetting, &PLAIN, accuracies);
        for (accuracies, times) in [
            ([0.6, 0.4, 0.5, 0.2], 2.0),
            ([0.1, 0.2, 0.3, 0.5], 0.0),
            ([0.5, 0.5, 0.5, 0.499], 1.0),
            ([0.4, 0.0, 0.49, 0.1], 4.0),
        ] {
            assert_eq!(forgotten(&accuracies).to_bits(), f32::to_bits(times), "{accuracies:?}");
        }
    }
}
