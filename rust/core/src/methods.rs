//! The score of one row from its stored statistics (formulas and sources: `catprune methods`).
//!
//! `nll_t = nll_sum_t / tokens` and everything after it is computed in float64, with an exponential in pure Rust
//! (`libm`), so that a score has the same bytes on every machine; what is stored is its float32.

use serde::Deserialize;

/// Which score; higher is kept first unless the direction says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    CatDiff,
    CatVar,
    Progress,
    Ppl,
    Variability,
    Confidence,
    Length,
    Random,
}

/// The quantity whose course is looked at.
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

impl Method {
    /// Whether the statistic `nll_sum` is read.
    pub fn reads_nll(self) -> bool {
        !matches!(self, Self::Length | Self::Random)
    }
}

/// The score of a row with the given nll per checkpoint, in training order; for `Progress` it is the last nll.
/// Methods that read no nll score 0 here: their scores come from elsewhere.
pub fn score(method: Method, on: On, sign: Sign, nll: &[f64]) -> f32 {
    let (first, last) = (nll.first().copied().unwrap_or(0.0), nll.last().copied().unwrap_or(0.0));
    saturate(match method {
        Method::CatDiff => {
            let difference = value(on, first) - value(on, last);
            if sign == Sign::Abs { difference.abs() } else { difference }
        }
        Method::CatVar => variance(nll.iter().map(|&nll| value(on, nll))),
        Method::Ppl => value(on, last),
        Method::Progress => last,
        Method::Variability => variance(nll.iter().map(|&nll| libm::exp(-nll))).sqrt(),
        Method::Confidence => mean(nll.iter().map(|&nll| libm::exp(-nll))),
        Method::Length | Method::Random => 0.0,
    })
}

/// Rounds to float32; what is beyond its range becomes the largest finite float32, so that scores stay finite.
pub fn saturate(value: f64) -> f32 {
    (value as f32).clamp(f32::MIN, f32::MAX)
}

/// A perplexity is cut at the largest float32 before it is used: differences of two overflowing ones are 0, not NaN.
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
/// are a weighted sample of k rows without replacement. A weight of 0 comes after all others.
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

    #[test]
    fn overflowing_perplexities_stay_finite_and_comparable() {
        let huge = [800.0, 900.0];
        assert_eq!(score(Method::CatDiff, On::Ppl, Sign::Signed, &huge).to_bits(), 0.0f32.to_bits());
        assert_eq!(score(Method::Ppl, On::Ppl, Sign::Signed, &huge).to_bits(), f32::MAX.to_bits());
        assert_eq!(score(Method::CatVar, On::Ppl, Sign::Signed, &[0.0, 900.0]).to_bits(), f32::MAX.to_bits());
    }

    #[test]
    fn sign_and_variance() {
        let nll = [1.0, 3.0];
        assert!((score(Method::CatDiff, On::Nll, Sign::Signed, &nll) + 2.0).abs() < 1e-6);
        assert!((score(Method::CatDiff, On::Nll, Sign::Abs, &nll) - 2.0).abs() < 1e-6);
        assert!((score(Method::CatVar, On::Nll, Sign::Signed, &nll) - 1.0).abs() < 1e-6);
    }
}
