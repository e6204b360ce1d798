//! Exact means and deviations of streamed float32 columns.

use crate::selection::request::Merge;
use crate::selection::scan::Scan;
use crate::{Progress, Result};

/// Exact sums of float32 values and of their squares: one integer for each exponent, so that neither the order of the
/// values nor the number of threads changes a digit.
pub struct Moments {
    count: u64,
    sums: Vec<i128>,
    squares: Vec<i128>,
}

impl Default for Moments {
    fn default() -> Self {
        Self { count: 0, sums: vec![0; 256], squares: vec![0; 256] }
    }
}

impl Moments {
    /// Mean and deviation of every term, over the records that have all of them.
    pub fn of(scan: &impl Scan, merge: &Merge, progress: &Progress) -> Result<Vec<(f64, f64)>> {
        let start = || merge.terms.iter().map(|_| Self::default()).collect::<Vec<_>>();
        let parts = scan.fold(true, progress, start, |moments, batch| {
            for (moments, &(column, _)) in moments.iter_mut().zip(&merge.terms) {
                for (&value, score) in batch.columns[column].iter().zip(&batch.scores) {
                    if !score.is_nan() {
                        moments.add(value);
                    }
                }
            }
            Ok(())
        })?;
        let mut all = start();
        for part in parts {
            for (all, part) in all.iter_mut().zip(part) {
                all.merge(&part);
            }
        }
        Ok(all.iter().map(Self::standard).collect())
    }

    /// Adds a finite value.
    fn add(&mut self, value: f32) {
        let bits = value.to_bits();
        let exponent = (bits >> 23 & 255) as usize;
        let mantissa = i64::from(bits & 0x7f_ffff | u32::from(exponent > 0) << 23);
        self.count += 1;
        self.sums[exponent] += i128::from(if bits >> 31 == 1 { -mantissa } else { mantissa });
        self.squares[exponent] += i128::from(mantissa * mantissa);
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        for (mine, others) in [(&mut self.sums, &other.sums), (&mut self.squares, &other.squares)] {
            for (sum, more) in mine.iter_mut().zip(others) {
                *sum += more;
            }
        }
    }

    /// Mean and population standard deviation; (0, 0) without values.
    fn standard(&self) -> (f64, f64) {
        if self.count == 0 {
            return (0.0, 0.0);
        }
        let (mut sum, mut square) = (Double::default(), Double::default());
        for exponent in 0..256 {
            let scale = power(exponent.max(1) as i32 - 150);
            sum = sum.plus(Double::of(self.sums[exponent]).times(Double(scale, 0.0)));
            square = square.plus(Double::of(self.squares[exponent]).times(Double(scale * scale, 0.0)));
        }
        let (mean, square) = (sum.over(self.count), square.over(self.count));
        let minus = Double(-mean.0, -mean.1);
        let variance = square.plus(mean.times(minus));
        (mean.0, (variance.0 + variance.1).max(0.0).sqrt())
    }
}

/// 2 to a power in the range of normal numbers.
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// A number as the sum of two float64, about 106 bits: E[x²] - E[x]² keeps its digits.
#[derive(Debug, Default, Clone, Copy)]
struct Double(f64, f64);

impl Double {
    fn of(value: i128) -> Self {
        let high = value as f64;
        Self(high, (value - high as i128) as f64)
    }

    fn sum(a: f64, b: f64) -> Self {
        let sum = a + b;
        let part = sum - a;
        Self(sum, (a - (sum - part)) + (b - part))
    }

    fn plus(self, other: Self) -> Self {
        let (high, low) = (Self::sum(self.0, other.0), Self::sum(self.1, other.1));
        let middle = Self::sum(high.0, high.1 + low.0);
        Self::sum(middle.0, middle.1 + low.1)
    }

    fn times(self, other: Self) -> Self {
        let product = self.0 * other.0;
        let error = self.0.mul_add(other.0, -product);
        Self::sum(product, error + self.0 * other.1 + self.1 * other.0)
    }

    fn over(self, count: u64) -> Self {
        let divisor = Self::of(i128::from(count));
        let first = self.0 / divisor.0;
        let rest = self.plus(Self(-first, 0.0).times(divisor));
        Self::sum(first, (rest.0 + rest.1) / divisor.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_spread_on_a_large_mean_keeps_its_digits() {
        let mut moments = Moments::default();
        for _ in 0..1000 {
            for value in [16_777_214.0, 16_777_215.0, 16_777_216.0] {
                moments.add(value);
            }
        }
        let (mean, deviation) = moments.standard();
        assert!((mean - 16_777_215.0).abs() < 1e-9);
        assert!((deviation - (2.0f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn extremes_stay_finite() {
        let mut moments = Moments::default();
        for value in [f32::MAX, f32::MIN, f32::from_bits(1), 0.0] {
            moments.add(value);
        }
        let (mean, deviation) = moments.standard();
        assert!(mean.abs() < 1e-30 && deviation.is_finite());
    }
}
