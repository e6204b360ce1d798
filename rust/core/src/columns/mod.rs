//! Columns of numbers by row: Parquet shards, columns from elsewhere, `.npy` arrays.

pub mod external;
pub mod npy;
pub mod shards;
