//! Streams of xz: whole ones read as they were, damaged ones are told.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| catprune_fuzz::codec("xz", b"\xfd7zXZ\0", bytes));
