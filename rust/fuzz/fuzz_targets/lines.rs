//! Plain lines, whatever bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

use catprune_fuzz::{expected, file, read, tsv};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(found) = read(tsv(file("lines", &[b"-\n", bytes].concat()))) {
        assert_eq!(found, expected(&[b"-\n", bytes].concat()));
    } else {
        panic!("plain text is always read");
    }
});
