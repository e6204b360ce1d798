//! What is measured of a text, on SIMD lanes where that is faster, and its normal form.

pub mod characters;
pub mod lanes;
pub mod mix;
pub mod normal_form;
pub mod pair_checks;
pub mod side;
pub mod words;
pub mod xml;
