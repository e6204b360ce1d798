//! JSON lines: the reader finds two strings wherever a parser of whole values does.
#![no_main]

use catprune_core::corpus::request::Input;
use catprune_core::corpus::fields::Fields;
use catprune_fuzz::{MAX_LINE_BYTES, file, read};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let bytes = &[b"{}\n", bytes].concat()[..];
    let fields = Fields { source_field: Some("a.b".to_owned()), target_field: "c".to_owned() };
    let records = read(Input::Jsonl { path: file("jsonl", bytes), fields }).unwrap();
    for (line, record) in bytes.split(|&byte| byte == b'\n').zip(records) {
        let Ok(value) = serde_json::from_slice::<Value>(line) else { continue };
        // A member that is named like the whole path counts, too.
        if line.len() > MAX_LINE_BYTES || value.get("a.b").is_some() {
            continue;
        }
        let side = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
        if let (Some(source), Some(target)) = (side(&value["a"]["b"]), side(&value["c"])) {
            // If a name repeats, the last member counts for both.
            assert_eq!(record, Ok((source, target)));
        } else {
            assert_eq!(record, Err("malformed"));
        }
    }
});
