//! .npy arrays: the values match the header, or the file is an error.
#![no_main]

use catprune_core::columns::npy::Npy;
use catprune_core::selection::sources::records::Batch;
use catprune_fuzz::file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = file("npy", &[b"\x93NUMPY", bytes].concat());
    let Ok(array) = Npy::open(&path) else { return };
    let (mut batch, mut count) = (Batch { columns: vec![Vec::new()], ..Batch::default() }, 0);
    let read = array.stream(0..array.len(), false, &mut batch, &mut |batch| {
        assert!(batch.columns[0].iter().all(|score| score.is_finite()));
        count += batch.rows.len() as u64;
        Ok(())
    });
    assert!(read.is_err() || count == array.count());
});
