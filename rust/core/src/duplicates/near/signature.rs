//! The `MinHash` signature of a pair: the least values of its shingles under many permutations, the hashes of its bands,
//! and a sketch that estimates the similarity of two pairs.

use pulp::Arch;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::duplicates::fingerprints::Key;
use crate::text::mix::{GOLDEN, mix};
use crate::text::normal_form::Normaliser;

/// Permutations that are computed together, in registers.
const LANES: usize = 32;
/// Bits of a sketch at most: one for each of the first permutations.
const SKETCH_BITS: usize = 128;
/// What a shingle is a run of.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Unicode scalar values, the spaces between words among them.
    Characters,
    Words,
}

/// What makes two pairs near duplicates.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NearOptions {
    /// Which sides are compared. For pairs, shingles of the source differ from shingles of the target.
    pub key: Key,
    /// Least Jaccard similarity of the shingles, as the sketches estimate it.
    pub threshold: f64,
    pub permutations: usize,
    /// The first `bands * (permutations / bands)` permutations are cut into this many bands; two pairs are compared if
    /// they agree on a whole band.
    pub bands: usize,
    pub shingles: Unit,
    /// Units of a shingle; a shorter side is a single shingle.
    pub shingle_size: usize,
}

impl NearOptions {
    /// How many bits two sketches may differ in. Of permutations on which two sets disagree, every second bit agrees all
    /// the same: with k bits and a similarity of J, k (1 + J) / 2 agree.
    pub fn most_differing(&self) -> u32 {
        let bits = self.permutations.min(SKETCH_BITS) as f64;
        // A threshold that equals a whole number of bits must not miss it by rounding.
        (bits * (1.0 - self.threshold) / 2.0 + 1e-9) as u32
    }
}

/// Makes signatures; reuses its buffers.
pub struct Signatures<'a> {
    options: &'a NearOptions,
    normaliser: &'a Normaliser,
    arch: Arch,
    multipliers: Vec<[u32; LANES]>,
    addends: Vec<[u32; LANES]>,
    minima: Vec<u32>,
    normal: String,
    units: Vec<u64>,
    shingles: Vec<u32>,
    band: Vec<u8>,
}

impl<'a> Signatures<'a> {
    /// Shingles are cut from the normal form that `normaliser` makes.
    pub fn new(options: &'a NearOptions, normaliser: &'a Normaliser) -> Self {
        let blocks = options.permutations.div_ceil(LANES);
        let lanes = |place: u64, odd: u32| {
            let lane =
                |index: usize| (mix((2 * index as u64 + place).wrapping_mul(GOLDEN)) >> 32) as u32 | odd;
            (0..blocks).map(|block| std::array::from_fn(|index| lane(block * LANES + index))).collect()
        };
        Self {
            options,
            normaliser,
            arch: Arch::new(),
            multipliers: lanes(1, 1),
            addends: lanes(2, 0),
            minima: vec![0; blocks * LANES],
            normal: String::new(),
            units: Vec::new(),
            shingles: Vec::new(),
            band: Vec::new(),
        }
    }

    /// Appends the hashes of the pair's bands to `bands` and returns its sketch; None for a pair without a shingle.
    pub fn of(&mut self, source: &str, target: &str, bands: &mut Vec<u64>) -> Option<u128> {
        self.shingles.clear();
        if self.options.key != Key::Target {
            self.add(source, 1);
        }
        if self.options.key != Key::Source {
            self.add(target, 2);
        }
        if self.shingles.is_empty() {
            return None;
        }
        self.minimise();
        let rows = self.options.permutations / self.options.bands;
        for (number, band) in self.minima.chunks_exact(rows).take(self.options.bands).enumerate() {
            self.band.clear();
            self.band.extend(band.iter().flat_map(|least| least.to_le_bytes()));
            bands.push(xxh3_64_with_seed(&self.band, number as u64));
        }
        Some(self.sketch())
    }

    /// Adds the shingles of a normalised side, by a rolling hash of base `GOLDEN`: for units u of a run of n,
    /// `mix(side ^ Σ u_j GOLDEN^(n-1-j)) >> 32`.
    fn add(&mut self, side: &str, number: u64) {
        self.normaliser.normalise_text(side, &mut self.normal);
        self.units.clear();
        match self.options.shingles {
            Unit::Characters => self.units.extend(self.normal.chars().map(u64::from)),
            Unit::Words => self.units.extend(self.normal.split(' ').map(|word| xxh3_64(word.as_bytes()))),
        }
        if self.normal.is_empty() {
            return;
        }
        let length = self.options.shingle_size.min(self.units.len());
        let (salt, leaving) = (mix(number), GOLDEN.wrapping_pow(length as u32 - 1));
        let mut run = 0_u64;
        for &unit in &self.units[..length] {
            run = run.wrapping_mul(GOLDEN).wrapping_add(unit);
        }
        self.shingles.push((mix(run ^ salt) >> 32) as u32);
        for (&old, &new) in self.units.iter().zip(&self.units[length..]) {
            run = run.wrapping_sub(old.wrapping_mul(leaving)).wrapping_mul(GOLDEN).wrapping_add(new);
            self.shingles.push((mix(run ^ salt) >> 32) as u32);
        }
    }

    /// The least value of `multiplier * shingle + addend` modulo 2^32 for each permutation. The loops are such that the
    /// compiler keeps a block of minima in vector registers, as wide as the processor has.
    fn minimise(&mut self) {
        let Self { arch, multipliers, addends, minima, shingles, .. } = self;
        arch.dispatch(|| {
            let blocks = multipliers.iter().zip(addends.iter()).zip(minima.chunks_exact_mut(LANES));
            for ((multipliers, addends), minima) in blocks {
                let mut least = [u32::MAX; LANES];
                for &shingle in shingles.iter() {
                    for lane in 0..LANES {
                        let value = shingle.wrapping_mul(multipliers[lane]).wrapping_add(addends[lane]);
                        least[lane] = least[lane].min(value);
                    }
                }
                minima.copy_from_slice(&least);
            }
        });
    }

    /// One bit of every minimum, the first permutation's lowest. The least values are multiplied, as the lowest bit of
    /// a permutation depends on the shingle's lowest bit alone.
    fn sketch(&self) -> u128 {
        let bits = self.minima[..self.options.permutations.min(SKETCH_BITS)].iter();
        bits.rev().fold(0, |sketch, least| sketch << 1 | u128::from(least.wrapping_mul(GOLDEN as u32) >> 31))
    }
}
