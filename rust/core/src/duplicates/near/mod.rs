//! Near duplicates: `MinHash` signatures, buckets of equal bands, connected components.

pub mod buckets;
pub mod components;
pub mod signature;
