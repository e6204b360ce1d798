//! The `tokenize` pass and the sample that a tokenizer is trained on.

pub mod encoder;
pub mod tokenize;
