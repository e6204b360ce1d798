//! Streams of bzip2: whole ones read as they were, damaged ones are told.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| catprune_fuzz::codec("bz2", b"BZh91AY", bytes));
