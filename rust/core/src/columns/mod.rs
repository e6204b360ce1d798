//! Columns of numbers by row: Parquet shards, external columns, `.npy` arrays.

pub mod external;
pub mod float32;
pub mod npy;
pub mod page_header;
pub mod parquet_file;
pub mod parquet_pages;
pub mod shards;
