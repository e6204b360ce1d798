//! Statistics over all records that scores and cuts need.

pub mod expectation;
pub mod merge;
pub mod moments;
pub mod order_statistics;
pub mod ranks;
