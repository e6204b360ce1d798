//! Shared by the targets: writes bytes to a file and reads it to the end with the pipeline of the passes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;

use catprune_core::io::compression::compress;
use catprune_core::io::content::{START_BYTES, check_content};
use catprune_core::corpus::request::{Corpus, Input};
use catprune_core::corpus::record::Record;
use catprune_core::corpus::row_filter::WantedRows;
use catprune_core::corpus::pipeline::stream;
use catprune_core::{Error, Result, Progress};

pub const MAX_LINE_BYTES: usize = 64;

/// A few bytes of a compressed file can be millions of empty lines: no more than these are read, and a chunk.
const MOST_RECORDS: usize = 10_000;

/// The two sides of a record, or the name of its fault.
pub type ReadRecord = std::result::Result<(Vec<u8>, Vec<u8>), &'static str>;

/// A file of this process, in memory if the machine has such a folder.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let folder = PathBuf::from("/dev/shm");
    let folder = if folder.is_dir() { folder } else { std::env::temp_dir() };
    let path = folder.join(format!("catprune-fuzz-{}-{name}", std::process::id()));
    fs::write(&path, bytes).unwrap();
    path
}

/// The readers catch panics of libraries; only panics of catprune end a run.
pub fn ignore_panics_of_libraries() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let abort = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let ours = |file: &str| file.contains("rust/core") || file.contains("fuzz");
            if panic.location().is_none_or(|place| ours(place.file())) {
                abort(panic);
            }
        }));
    });
}

/// The records of an input. An error of the input is a valid result, but a caught panic is a bug.
pub fn read(input: Input) -> Result<Vec<ReadRecord>> {
    let corpus = Corpus {
        inputs: vec![input],
        max_line_bytes: MAX_LINE_BYTES,
        memory: usize::MAX,
        ..Corpus::default()
    };
    let mut all = Vec::new();
    let read = stream(
        &corpus,
        &WantedRows::All,
        1,
        &Progress::default(),
        |chunk| {
            let records = chunk.wanted().map(|index| match chunk.record(index) {
                Record::Pair { source, target } => Ok((source.to_vec(), target.to_vec())),
                Record::TooLong => Err("too long"),
                Record::Malformed => Err("malformed"),
                Record::Columns => Err("columns"),
                Record::MissingSide => Err("missing side"),
            });
            Ok(records.collect::<Vec<_>>())
        },
        |records| {
            all.extend(records);
            Ok(all.len() < MOST_RECORDS)
        },
    );
    match read {
        Ok(read) => {
            assert!(all.len() >= MOST_RECORDS || read.inputs[0].end == all.len() as u64);
            Ok(all)
        }
        Err(Error::Input(message)) if message.contains("bug of catprune") => panic!("{message}"),
        Err(error) => Err(error),
    }
}

pub fn tsv(path: PathBuf) -> Input {
    Input::Tsv { path, source_column: Some(1), target_column: 2, header: false }
}

/// The expected records of a TSV file with two columns, within the limit; None if the bytes are not lines of text.
pub fn expected(bytes: &[u8]) -> Option<Vec<ReadRecord>> {
    let first = std::cell::Cell::new(None);
    expected_lines(bytes, |line| {
        let columns: Vec<&[u8]> = line.split(|&byte| byte == b'\t').collect();
        first.set(first.get().or(Some(columns.len())));
        match columns[..] {
            _ if first.get() != Some(columns.len()) => Err("columns"),
            [source, target, ..] => Ok((source.to_vec(), target.to_vec())),
            _ => Err("malformed"),
        }
    })
}

/// The expected records of lines within the limit, each as its record.
pub fn expected_lines(bytes: &[u8], record: impl Fn(&[u8]) -> ReadRecord) -> Option<Vec<ReadRecord>> {
    let refused = check_content(Path::new(""), &bytes[..bytes.len().min(START_BYTES)]).is_err();
    // Only the first bytes of a file say UTF-16, not what follows a mark of UTF-8.
    let wide = [b"\xff\xfe", b"\xfe\xff"].iter().any(|mark| bytes.starts_with(*mark));
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.is_empty() || refused || wide {
        return None;
    }
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    if lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    let last = lines.len().wrapping_sub(1);
    let to_record = |(index, line): (usize, &[u8])| {
        let ended = index < last || bytes.ends_with(b"\n");
        let line = line.strip_suffix(b"\r").filter(|_| ended).unwrap_or(line);
        if line.len() > MAX_LINE_BYTES {
            return Err("too long");
        }
        record(line)
    };
    Some(lines.into_iter().enumerate().map(to_record).collect())
}

/// Any bytes after the magic bytes must give a text or an error. Two members of a codec must read as one text; packing
/// costs most of an execution, so only one length in `every` is packed.
pub fn codec(suffix: &str, magic: &[u8], bytes: &[u8], every: usize) {
    let damaged = file(suffix, &[magic, bytes].concat());
    let _ = read(tsv(damaged));
    if !bytes.len().is_multiple_of(every) {
        return;
    }
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let name = PathBuf::from(format!("a.{suffix}"));
    let packed = [first, second].map(|part| compress(part.to_vec(), &name).unwrap()).concat();
    assert_eq!(read(tsv(file(suffix, &packed))).ok(), expected(bytes));
}
