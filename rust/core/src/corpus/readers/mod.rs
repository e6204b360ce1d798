//! One reader per format: lines, TSV, JSON lines, Parquet and TMX.

pub mod jsonl;
pub mod lines;
pub mod parquet;
pub mod parquet_text;
pub mod tmx;
pub mod tsv;
