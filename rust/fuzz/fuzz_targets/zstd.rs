//! zstd frames: valid ones are read back unchanged, damaged ones are errors.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| catprune_fuzz::codec("zst", &[0x28, 0xb5, 0x2f, 0xfd], bytes, 8));
