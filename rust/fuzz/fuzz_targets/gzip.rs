//! Members of gzip: whole ones read as they were, damaged ones are told.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| catprune_fuzz::codec("gz", &[0x1f, 0x8b, 8], bytes));
