//! The `select` pass: sources, scores, groups, cuts, and the shards of a selection.

pub mod budget;
pub mod clusters;
pub mod cut;
pub mod groups;
pub mod methods;
pub mod scored_records;
pub mod select;
pub mod sources;
pub mod statistics;
pub mod writer;
