//! Parquet: a damaged file is an error. The reader catches panics of the library, so only panics of catprune count
//! here.
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
