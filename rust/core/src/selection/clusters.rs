//! Clusters of loss trajectories: which centre a record is nearest to (S2L, Yang et al. 2024, arXiv 2403.07384).

use serde::Deserialize;

/// Centres that were found on a sample, each with a value for every set of scores.
#[derive(Debug, Clone, Deserialize)]
pub struct Clusters {
    /// Which of the sets of scores a trajectory goes through, in training order.
    pub sets: Vec<usize>,
    pub centres: Vec<Vec<f32>>,
}

impl Clusters {
    /// The number of the centre that is nearest by Euclidean distance; of equally near ones the first.
    pub fn nearest(&self, trajectory: &[f64]) -> u32 {
        let (mut nearest, mut least) = (0, f64::INFINITY);
        for (number, centre) in self.centres.iter().enumerate() {
            let distance: f64 = centre
                .iter()
                .zip(trajectory)
                .map(|(&centre, value)| (f64::from(centre) - value).powi(2))
                .sum();
            if distance < least {
                (nearest, least) = (number as u32, distance);
            }
        }
        nearest
    }
}
