//! A corpus: what a request says of it, its records, its readers, and the pipeline that reads it.

pub mod chunk;
pub mod fields;
pub mod open_corpus;
pub mod pipeline;
pub mod readers;
pub mod record;
pub mod row_filter;
