//! External columns by row in Parquet files: rows ascend without repetition, or the file is an error.
#![no_main]

use catprune_core::columns::external::ExternalColumn;
use catprune_fuzz::{file, ignore_panics_of_libraries};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    ignore_panics_of_libraries();
    let path = file("column", bytes);
    let Ok(column) = ExternalColumn::open(&[path], "score") else { return };
    let (mut reading, mut next) = (column.read(0..column.len()), 0);
    while let Ok(true) = reading.batch() {
        assert_eq!(reading.rows.len(), reading.scores.len());
        for &row in &reading.rows {
            assert!(next <= row && row < column.end());
            next = row + 1;
        }
    }
    let mut scores = Vec::new();
    let _ = column.read(0..column.len()).join(&[0, 1, 5, 1 << 40], &mut scores);
});
