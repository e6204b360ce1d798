//! The `write` pass: formats, and files that appear together.

pub mod added;
pub mod formats;
pub mod json_template;
pub mod output_files;
pub mod tmx_units;
pub mod write;
