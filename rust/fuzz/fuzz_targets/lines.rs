//! Lines of any bytes, as columns and as a monolingual corpus.
#![no_main]

use catprune_core::corpus::request::Input;
use catprune_fuzz::{expected, expected_lines, file, read, tsv};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Neither begins like a compressed file.
    for start in [&b"\xef\xbb\xbf-"[..], b"-\n"] {
        let text = [start, bytes].concat();
        assert_eq!(read(tsv(file("lines", &text))).ok(), expected(&text));
        let texts = expected_lines(&text, |line| Ok((Vec::new(), line.to_vec())));
        assert_eq!(read(Input::Text { path: file("lines", &text) }).ok(), texts);
    }
});
