//! Merges columns: the weighted mean of their ranks or of their standard scores.

use crate::Result;
use crate::columns::float32::saturate;
use crate::selection::batch::Batch;
use crate::selection::request::Merge;
use crate::selection::statistics::ranks::Ranks;

/// The statistics over all records from which a merged score is computed.
pub enum Basis {
    /// Mean and population standard deviation of every term.
    Standard(Vec<(f64, f64)>),
    Ranks(Ranks),
}

impl Basis {
    /// Fills in the scores of a batch that has `ordinal` records before it.
    pub fn fill(&self, merge: &Merge, batch: &mut Batch, ordinal: u64) -> Result<()> {
        let total = merge.total();
        match self {
            Self::Ranks(ranks) => {
                for (score, sum) in batch.scores.iter_mut().zip(ranks.read(ordinal, batch.rows.len())?) {
                    *score = saturate(sum / total);
                }
            }
            Self::Standard(terms) => {
                for (index, score) in batch.scores.iter_mut().enumerate().filter(|(_, score)| !score.is_nan())
                {
                    let mut sum = 0.0;
                    for (&(column, weight), &(mean, deviation)) in merge.terms.iter().zip(terms) {
                        let value = f64::from(batch.columns[column][index]);
                        sum += weight * if deviation > 0.0 { (value - mean) / deviation } else { 0.0 };
                    }
                    *score = saturate(sum / total);
                }
            }
        }
        Ok(())
    }
}
