//! Measures, words, checks and normal forms of text, on SIMD lanes where that is faster.

mod character_table;
pub mod characters;
pub mod lanes;
pub mod mix;
pub mod normal_form;
pub mod pair_checks;
pub mod pattern;
pub mod repair;
pub mod side;
pub mod words;
pub mod xml;
