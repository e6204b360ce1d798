//! The `clean` pass: rules, test sets, duplicates, and the columns of decisions.

pub mod clean;
pub mod decisions;
pub mod disk_estimate;
pub mod examples;
pub mod reasons;
pub mod request;
pub mod rules;
pub mod shards;
pub mod sink;
pub mod state;
pub mod test_sets;
