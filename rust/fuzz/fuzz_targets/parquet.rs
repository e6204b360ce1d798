//! Parquet: a damaged file is told. Panics of the library are caught by the reader, so only its own count here.
#![no_main]

use std::sync::Once;

use catprune_core::corpus::Input;
use catprune_core::fields::Fields;
use catprune_fuzz::{file, read};
use libfuzzer_sys::fuzz_target;

static QUIET: Once = Once::new();

fuzz_target!(|bytes: &[u8]| {
    QUIET.call_once(|| {
        let abort = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |told| {
            if told
                .location()
                .is_none_or(|place| place.file().contains("rust/core") || place.file().contains("fuzz"))
            {
                abort(told);
            }
        }));
    });
    for (source_field, target_field) in [("en", "de"), ("t.en", "t.de")] {
        let fields = Fields { source_field: source_field.to_owned(), target_field: target_field.to_owned() };
        let _ = read(Input::Parquet { path: file("parquet", bytes), fields, whole: true });
    }
});
