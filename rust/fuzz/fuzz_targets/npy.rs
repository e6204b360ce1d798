//! .npy arrays: the values match the header, or the file is an error.
#![no_main]

use catprune_core::columns::npy::Npy;
use catprune_fuzz::file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = file("npy", &[b"\x93NUMPY", bytes].concat());
    let Ok(array) = Npy::open(&path) else { return };
    let (mut reading, mut rows, mut values) = (array.read(0..array.len()), Vec::new(), Vec::new());
    let mut count = 0;
    let ended = loop {
        match reading.batch(false, &mut rows, &mut values) {
            Ok(true) => {}
            Ok(false) => break true,
            Err(_) => break false,
        }
        assert!(values.iter().all(|value| value.is_finite()));
        count += rows.len() as u64;
    };
    assert!(!ended || count == array.count());
});
