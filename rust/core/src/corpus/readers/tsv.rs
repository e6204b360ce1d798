//! Tab-separated lines: finds a column of a line by its number.

use memchr::memchr_iter;

/// The column with this number, counted from 1; None if the line has fewer columns.
pub fn column(line: &[u8], number: usize) -> Option<&[u8]> {
    let mut start = 0;
    let mut current = 1;
    for tab in memchr_iter(b'\t', line) {
        if current == number {
            return Some(&line[start..tab]);
        }
        start = tab + 1;
        current += 1;
    }
    (current == number).then(|| &line[start..])
}
