//! gzip members: valid ones are read back unchanged, damaged ones are errors.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| catprune_fuzz::codec("gz", &[0x1f, 0x8b, 8], bytes, 8));
