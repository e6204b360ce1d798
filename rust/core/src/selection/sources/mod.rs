//! What a selection reads: score sets, a cleaned corpus, a column or an array.

pub mod clean;
pub mod records;
pub mod scores;
pub mod shards;
