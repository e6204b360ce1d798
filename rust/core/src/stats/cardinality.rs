//! Cardinality of a set of hashes: a sketch of fixed size, and an exact count as long as memory allows.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use serde::Serialize;

/// 2^14 registers of a byte: a standard error of 1.04 / 2^7 = 0.8%.
const INDEX_BITS: u32 = 14;
const RANKS: usize = (64 - INDEX_BITS) as usize;

/// `HyperLogLog` (Flajolet et al. 2007) with Ertl's estimator (2017, arXiv 1702.01284, algorithm 6), which needs no table of
/// corrections. A sketch depends on the set of hashes only, not on their order or on merges.
#[derive(Debug, Clone, Default)]
pub struct Sketch {
    /// Empty until something was added.
    registers: Vec<u8>,
}

impl Sketch {
    pub fn add(&mut self, hash: u64) {
        let rest = hash << INDEX_BITS | 1 << (INDEX_BITS - 1);
        let register = &mut self.registers()[(hash >> (64 - INDEX_BITS)) as usize];
        *register = (*register).max(rest.leading_zeros() as u8 + 1);
    }

    fn registers(&mut self) -> &mut [u8] {
        if self.registers.is_empty() {
            self.registers = vec![0; 1 << INDEX_BITS];
        }
        &mut self.registers
    }

    pub fn merge(&mut self, other: &Self) {
        if !other.registers.is_empty() {
            for (mine, other) in self.registers().iter_mut().zip(&other.registers) {
                *mine = (*mine).max(*other);
            }
        }
    }

    pub fn estimate(&self) -> u64 {
        let mut counts = [0_u32; RANKS + 2];
        for &register in &self.registers {
            counts[usize::from(register)] += 1;
        }
        if self.registers.is_empty() {
            return 0;
        }
        let registers = f64::from(1_u32 << INDEX_BITS);
        let mut sum = registers * tau(1.0 - f64::from(counts[RANKS + 1]) / registers);
        for &count in counts[1..=RANKS].iter().rev() {
            sum = 0.5 * (sum + f64::from(count));
        }
        sum += registers * sigma(f64::from(counts[0]) / registers);
        (registers * registers / (2.0 * std::f64::consts::LN_2 * sum)).round() as u64
    }
}

fn sigma(mut x: f64) -> f64 {
    let (mut power, mut sum) = (1.0, x);
    if x >= 1.0 {
        return f64::INFINITY;
    }
    loop {
        x *= x;
        let before = sum;
        sum += x * power;
        power += power;
        if sum <= before {
            return sum;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut power, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        power *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * power;
        if sum >= before {
            return sum / 3.0;
        }
    }
}

/// A number and whether it was counted or estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Count {
    pub count: u64,
    pub exact: bool,
}

/// Uses a hash as its own hash.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 << 8 | u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Counts different 64-bit hashes: exactly up to `most` of them, by a sketch beyond.
pub struct Cardinality {
    /// None once there were more than `most`.
    seen: Option<HashSet<u64, BuildHasherDefault<Identity>>>,
    most: usize,
    sketch: Sketch,
}

impl Cardinality {
    /// `memory` bytes bound the table, the old one included while it grows.
    pub fn new(memory: usize) -> Self {
        // The standard table has 9 bytes a bucket and fills seven of eight; growing, it holds one of half the size too.
        let buckets = (memory * 2 / 27).checked_ilog2().map_or(0, |bits| 1_usize << bits);
        Self { seen: Some(HashSet::default()), most: buckets / 8 * 7, sketch: Sketch::default() }
    }

    /// Whether this hash is new; None after the exact count was given up.
    pub fn insert(&mut self, hash: u64) -> Option<bool> {
        self.sketch.add(hash);
        let seen = self.seen.as_mut()?;
        if seen.len() >= self.most && !seen.contains(&hash) {
            self.seen = None;
            return None;
        }
        Some(seen.insert(hash))
    }

    pub fn count(&self) -> Count {
        match &self.seen {
            Some(seen) => Count { count: seen.len() as u64, exact: true },
            None => Count { count: self.sketch.estimate(), exact: false },
        }
    }
}
