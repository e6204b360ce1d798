//! Plain lines, whatever bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

use catprune_fuzz::{expected, file, read, tsv};

fuzz_target!(|bytes: &[u8]| {
    // Neither starts as a compressed file does.
    for start in [&b"\xef\xbb\xbf-"[..], b"-\n"] {
        let text = [start, bytes].concat();
        assert_eq!(read(tsv(file("lines", &text))).ok(), expected(&text));
    }
});
