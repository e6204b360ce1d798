//! The `tokenize` pass and the sample that a tokenizer is trained on.

pub mod blocks;
pub mod encoder;
pub mod request;
pub mod sample;
pub mod tokenize;
