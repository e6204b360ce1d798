//! Tab-separated lines: the columns of one line, by number.

use memchr::memchr_iter;

/// The column with a number counted from 1.
pub fn column(line: &[u8], number: usize) -> Option<&[u8]> {
    let mut start = 0;
    let mut seen = 1;
    for tab in memchr_iter(b'\t', line) {
        if seen == number {
            return Some(&line[start..tab]);
        }
        start = tab + 1;
        seen += 1;
    }
    (seen == number).then(|| &line[start..])
}
