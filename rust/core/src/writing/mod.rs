//! The `write` pass: output formats, and files that are published together.

pub mod added;
pub mod formats;
pub mod json_template;
pub mod output_files;
pub mod parquet_copy;
pub mod tmx_units;
pub mod write;
