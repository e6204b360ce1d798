//! The `stats` pass: counts, histograms and cardinalities of a corpus.

pub mod cardinality;
pub mod group_statistics;
pub mod histogram;
#[allow(clippy::module_inception)]
pub mod stats;
