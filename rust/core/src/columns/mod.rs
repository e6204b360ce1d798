//! Columns of numbers by row: Parquet shards, external columns, `.npy` arrays.

pub mod external;
pub mod float32;
pub mod npy;
pub mod parquet_file;
pub mod shards;
