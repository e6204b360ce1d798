//! TSV files, compressed if their bytes say so.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = catprune_fuzz::read(catprune_fuzz::tsv(catprune_fuzz::file("tsv", bytes)));
});
