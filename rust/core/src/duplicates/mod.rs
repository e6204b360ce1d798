//! Exact and near duplicates in bounded memory.

pub mod best_rows;
pub mod candidates;
pub mod exact;
pub mod fingerprints;
pub mod first_rows;
pub mod late;
pub mod near;
pub mod partitions;
