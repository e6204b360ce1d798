//! The `tokenize` pass, and the `sample` pass, which writes the text for training a tokenizer.

pub mod blocks;
pub mod encoder;
pub mod request;
pub mod sample;
pub mod tokenize;
