//! What a selection reads: score sets, a cleaned corpus, a column or an array.

pub mod records;
pub mod shards;
