//! The `select` pass: sources, scores, groups, cuts, and the shards of a selection.

pub mod batch;
pub mod budget;
pub mod clusters;
pub mod cut;
pub mod groups;
pub mod methods;
pub mod request;
pub mod scan;
pub mod scored_records;
pub mod select;
pub mod sources;
pub mod statistics;
pub mod tags;
pub mod writer;
