//! Parquet: a damaged file is told. Panics of the library are caught by the reader, so only its own count here.
#![no_main]

use catprune_core::corpus::request::Input;
use catprune_core::corpus::fields::Fields;
use catprune_fuzz::{file, ignore_panics_of_libraries, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    ignore_panics_of_libraries();
    for (source_field, target_field) in [("en", "de"), ("t.en", "t.de")] {
        let fields =
            Fields { source_field: Some(source_field.to_owned()), target_field: target_field.to_owned() };
        let _ = read(Input::Parquet { path: file("parquet", bytes), fields, whole: true });
    }
});
