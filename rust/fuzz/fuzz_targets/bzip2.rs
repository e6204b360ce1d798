//! bzip2 streams: valid ones are read back unchanged, damaged ones are errors. Damaged ones have the smallest blocks,
//! because a decoder clears its block first.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| catprune_fuzz::codec("bz2", b"BZh11AY", bytes, 32));
