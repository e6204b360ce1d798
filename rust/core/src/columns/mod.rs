//! Columns of numbers by row: Parquet shards, columns from elsewhere, `.npy` arrays.

pub mod external;
pub mod float32;
pub mod npy;
pub mod shards;
