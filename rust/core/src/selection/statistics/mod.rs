//! What must be known of all records before one of them has its score.

pub mod expectation;
pub mod merge;
pub mod moments;
pub mod order_statistics;
pub mod ranks;
