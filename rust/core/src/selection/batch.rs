//! A batch of records in a selection.

/// Records in row order. A score of NaN means that the record has no score.
#[derive(Debug, Default)]
pub struct Batch {
    pub rows: Vec<u64>,
    /// The group of each record; empty if there is only one group.
    pub groups: Vec<u32>,
    /// Target tokens; empty if the source has none.
    pub tokens: Vec<u32>,
    pub columns: Vec<Vec<f32>>,
    pub scores: Vec<f32>,
    /// The nll of the first checkpoint for `progress`, otherwise empty.
    pub starts: Vec<f32>,
    /// Which records a guard has dropped; empty without guards.
    pub guarded: Vec<bool>,
    /// The exposure of each record (how often it had been trained on), a number below `Measure::exposures`; empty if
    /// exposure is ignored.
    pub exposures: Vec<u32>,
    /// The cluster of each record; empty without clusters.
    pub clusters: Vec<u32>,
}

impl Batch {
    pub fn group(&self, index: usize) -> usize {
        self.groups.get(index).map_or(0, |&group| group as usize)
    }

    pub fn token(&self, index: usize) -> u32 {
        self.tokens.get(index).copied().unwrap_or(0)
    }
}
