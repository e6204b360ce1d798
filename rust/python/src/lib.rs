//! The extension module `catprune._core`: one function per pass.

// Arguments from Python are owned values: paths, dictionaries, arrays.
#![allow(clippy::needless_pass_by_value)]

mod boundary;
mod columns;
mod open_corpus;
mod passes;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    #[pymodule_export]
    use super::columns::{digest_bytes, digest_file, digest_files, write_columns};
    #[pymodule_export]
    use super::open_corpus::open_corpus;
    #[pymodule_export]
    use super::passes::{
        clean, default_rules, encode, rare_words, read_pairs, read_start, read_test_set, sample, select,
        stats, tokenize, unicode_version, write,
    };

    #[pymodule_export]
    const BLOCK_ROWS: u64 = catprune_core::tokens::blocks::BLOCK_ROWS;

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
