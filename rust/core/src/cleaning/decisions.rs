//! What a worker decides of the records of a chunk, by the record alone.

use crate::corpus::chunk::Chunk;
use crate::duplicates::exact::{Keyed, Survivors};
use crate::text::side::Measures;

/// What a worker finds out about a chunk.
pub struct Decisions {
    pub chunk: Chunk,
    pub reasons: Vec<u32>,
    /// Of every row, or empty.
    pub measures: Vec<[Measures; 2]>,
    /// The rows without a reason.
    pub survivors: Survivors,
    /// Of the survivors: a sketch of each that has shingles, and the bands of those.
    pub sketches: Vec<Option<u128>>,
    pub bands: Vec<u64>,
    /// Pairs that stand in each test set.
    pub excluded: Vec<u64>,
}

impl Decisions {
    pub fn new(chunk: Chunk, parts: usize, sets: usize) -> Self {
        let count = chunk.len();
        let keys = vec![Keyed::default(); parts];
        Self {
            chunk,
            reasons: Vec::with_capacity(count),
            measures: Vec::new(),
            survivors: Survivors { rows: Vec::with_capacity(count), keys },
            sketches: Vec::new(),
            bands: Vec::new(),
            excluded: vec![0; sets],
        }
    }
}
