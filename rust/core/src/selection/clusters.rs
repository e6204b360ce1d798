//! Clusters of loss trajectories: the nearest centre of a record (S2L, Yang et al. 2024, arXiv 2403.07384).

use serde::Deserialize;

/// Cluster centres, computed on a sample; each has one value for every score set.
#[derive(Debug, Clone, Deserialize)]
pub struct Clusters {
    /// The score sets of a trajectory, in training order.
    pub sets: Vec<usize>,
    pub centres: Vec<Vec<f32>>,
}

impl Clusters {
    /// The number of the nearest centre by Euclidean distance; ties go to the first.
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
