//! The extension module `catprune._core`: one function per pass, one doorway, one error map.

// Python hands over owned values: paths, dictionaries, arrays.
#![allow(clippy::needless_pass_by_value)]

mod columns;
mod doorway;
mod open_corpus;
mod passes;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    #[pymodule_export]
    use super::columns::{digest_bytes, digest_file, write_columns};
    #[pymodule_export]
    use super::open_corpus::open_corpus;
    #[pymodule_export]
    use super::passes::{clean, default_rules, read_pairs, sample, select, stats, tokenize, write};

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
