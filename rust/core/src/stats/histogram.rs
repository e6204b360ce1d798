//! Exact counts of whole numbers, and the quantiles that follow from them.

use std::collections::BTreeMap;

use serde::Serialize;

/// Smaller values are counted in a vector, the few others in a map.
const LOW: usize = 4096;

/// How often each value occurred.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    low: Vec<u64>,
    high: BTreeMap<u32, u64>,
}

/// Nearest-rank quantiles: the q-th is the value at rank ⌈q·count⌉, so every one of them occurred.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quantiles<T> {
    pub count: u64,
    pub mean: f64,
    pub min: T,
    pub p1: T,
    pub p5: T,
    pub p25: T,
    pub p50: T,
    pub p75: T,
    pub p95: T,
    pub p99: T,
    pub max: T,
}

impl Histogram {
    pub fn add(&mut self, value: u32) {
        self.add_times(value, 1);
    }

    fn add_times(&mut self, value: u32, times: u64) {
        let place = value as usize;
        if place >= LOW {
            *self.high.entry(value).or_default() += times;
            return;
        }
        if place >= self.low.len() {
            self.low.resize(place + 1, 0);
        }
        self.low[place] += times;
    }

    pub fn merge(&mut self, other: &Self) {
        self.low.resize(self.low.len().max(other.low.len()), 0);
        for (mine, times) in self.low.iter_mut().zip(&other.low) {
            *mine += times;
        }
        for (&value, times) in &other.high {
            *self.high.entry(value).or_default() += times;
        }
    }

    /// The values that occurred, ascending, with how often.
    fn entries(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let low = self.low.iter().enumerate().map(|(value, &times)| (value as u32, times));
        low.filter(|&(_, times)| times > 0).chain(self.high.iter().map(|(&value, &times)| (value, times)))
    }

    pub fn sum(&self) -> u64 {
        self.entries().map(|(value, times)| u64::from(value) * times).sum()
    }

    /// None if nothing was counted. `to` turns a counted value into the reported one.
    pub fn quantiles<T: Copy>(&self, to: impl Fn(u32) -> T, unit: f64) -> Option<Quantiles<T>> {
        let count = self.entries().map(|(_, times)| times).sum::<u64>();
        let at = |percent: u64| {
            let rank = (u128::from(count) * u128::from(percent)).div_ceil(100).max(1);
            let mut seen = 0;
            let mut entries = self.entries();
            entries.find_map(|(value, times)| {
                seen += u128::from(times);
                (seen >= rank).then(|| to(value))
            })
        };
        Some(Quantiles {
            count,
            mean: self.sum() as f64 / count as f64 / unit,
            min: at(0)?,
            p1: at(1)?,
            p5: at(5)?,
            p25: at(25)?,
            p50: at(50)?,
            p75: at(75)?,
            p95: at(95)?,
            p99: at(99)?,
            max: at(100)?,
        })
    }
}
