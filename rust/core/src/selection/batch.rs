//! A batch of records on their way through a selection.

/// Records in row order. A score of NaN means that there is none.
#[derive(Debug, Default)]
pub struct Batch {
    pub rows: Vec<u64>,
    /// Empty where everything is one group.
    pub groups: Vec<u32>,
    /// Target tokens; empty where the source has none.
    pub tokens: Vec<u32>,
    pub columns: Vec<Vec<f32>>,
    pub scores: Vec<f32>,
    /// For `progress` the nll of the first checkpoint, else empty.
    pub starts: Vec<f32>,
    /// Which records a guard has dropped; empty where there are no guards.
    pub guarded: Vec<bool>,
    /// How often records had been trained on, as a number below `Measure::exposures`; empty where that does not matter.
    pub exposures: Vec<u32>,
    /// The clusters of the records; empty where there are none.
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
