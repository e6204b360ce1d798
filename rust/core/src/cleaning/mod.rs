//! The `clean` pass: rules, test sets, duplicates, and the columns of decisions.

pub mod clean;
pub mod decisions;
pub mod disk_estimate;
pub mod examples;
pub mod fingerprint_shards;
pub mod open_shard;
pub mod ready_shard;
pub mod reasons;
pub mod repairs;
pub mod request;
pub mod rules;
pub mod shards;
pub mod sink;
pub mod state;
pub mod test_sets;
pub mod waiting_shard;
pub mod waiting_shards;
