//! Tab-separated lines: finds columns of a line by their numbers, and counts them.

use memchr::memchr_iter;

/// The two sides of a line, and its number of columns.
pub struct Columns<'a> {
    /// Empty for a monolingual corpus; None if the line has fewer columns.
    pub source: Option<&'a [u8]>,
    pub target: Option<&'a [u8]>,
    pub count: usize,
}

/// Finds the columns with these numbers, counted from 1.
pub fn columns(line: &[u8], source: Option<usize>, target: usize) -> Columns<'_> {
    let mut columns = Columns { source: source.is_none().then_some(&[]), target: None, count: 0 };
    let mut start = 0;
    for end in memchr_iter(b'\t', line).chain([line.len()]) {
        columns.count += 1;
        if source == Some(columns.count) {
            columns.source = Some(&line[start..end]);
        } else if columns.count == target {
            columns.target = Some(&line[start..end]);
        }
        start = end + 1;
    }
    columns
}

/// The line with other sides; None stays.
pub fn replace(line: &[u8], source: Option<usize>, target: usize, sides: [Option<&[u8]>; 2]) -> Vec<u8> {
    let columns = line.split(|&byte| byte == b'\t').enumerate().map(|(index, column)| match index + 1 {
        number if Some(number) == source => sides[0].unwrap_or(column),
        number if number == target => sides[1].unwrap_or(column),
        _ => column,
    });
    columns.collect::<Vec<_>>().join(&b'\t')
}
