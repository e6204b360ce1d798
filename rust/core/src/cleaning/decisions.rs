//! Decisions about the records of a chunk that need no other record.

use crate::corpus::chunk::Chunk;
use crate::duplicates::exact::{Keyed, Survivors};
use crate::text::side::{MEASURES, Measures};

pub type MeasureColumns = [[Vec<u32>; MEASURES.len()]; 2];

/// The result of a worker for one chunk.
pub struct Decisions {
    pub chunk: Chunk,
    pub reasons: Vec<u32>,
    /// The measures of both sides, by measure and row; empty where nothing is measured.
    pub measures: MeasureColumns,
    /// The rows without a reason.
    pub survivors: Survivors,
    /// For each survivor its sketch, if it has shingles; and the bands of all that have one.
    pub sketches: Vec<Option<u128>>,
    pub bands: Vec<u64>,
    /// Rows with a side in a test set, and the number of the set.
    pub excluded: Vec<(u64, u32)>,
}

impl Decisions {
    pub fn new(chunk: Chunk, parts: usize) -> Self {
        let count = chunk.len();
        let keys = vec![Keyed::default(); parts];
        Self {
            chunk,
            reasons: Vec::with_capacity(count),
            measures: MeasureColumns::default(),
            survivors: Survivors { rows: Vec::with_capacity(count), keys },
            sketches: Vec::new(),
            bands: Vec::new(),
            excluded: Vec::new(),
        }
    }
}

/// Adds the measures of the next row to the sides that have any.
pub fn add_measures(columns: &mut MeasureColumns, sides: [Option<Measures>; 2]) {
    for (columns, measures) in columns.iter_mut().zip(sides) {
        if let Some(measures) = measures {
            columns.iter_mut().zip(measures.values()).for_each(|(column, value)| column.push(value));
        }
    }
}
