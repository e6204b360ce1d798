//! The `stats` pass: counts, histograms and cardinalities of a corpus; and the `rare_words` pass.

pub mod cardinality;
pub mod group_statistics;
pub mod histogram;
pub mod rare_words;
#[allow(clippy::module_inception)]
pub mod stats;
