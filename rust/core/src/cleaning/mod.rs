//! The `clean` pass: rules, test sets, duplicates, and the columns of decisions.

pub mod clean;
pub mod examples;
pub mod rules;
pub mod shards;
pub mod sink;
pub mod test_sets;
