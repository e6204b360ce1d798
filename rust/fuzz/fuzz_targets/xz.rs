//! xz streams: valid ones are read back unchanged, damaged ones are errors.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| catprune_fuzz::codec("xz", b"\xfd7zXZ\0", bytes, 8));
