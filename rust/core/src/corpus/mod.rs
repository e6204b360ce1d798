//! A corpus: its description in a request, its records, its readers, and the pipeline that reads it.

pub mod chunk;
pub mod fields;
pub mod files_read;
pub mod open_corpus;
pub mod pipeline;
pub mod read_pairs;
pub mod readers;
pub mod reading;
pub mod record;
pub mod repaired;
pub mod request;
pub mod row_filter;
pub mod segments;
