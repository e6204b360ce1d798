//! What the targets share: a file with the given bytes, read to its end by the very pipeline that the passes use.

use std::fs;
use std::path::PathBuf;
use std::sync::Once;

use catprune_core::io::compression::compress;
use catprune_core::corpus::request::{Corpus, Input};
use catprune_core::corpus::record::Record;
use catprune_core::corpus::row_filter::WantedRows;
use catprune_core::corpus::pipeline::stream;
use catprune_core::{Error, Result, Progress};

pub const MAX_LINE_BYTES: usize = 64;

/// A record's two sides, or the name of what is wrong with it.
pub type Found = std::result::Result<(Vec<u8>, Vec<u8>), &'static str>;

/// A file of this process alone, in memory where the machine has such a folder.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let folder = PathBuf::from("/dev/shm");
    let folder = if folder.is_dir() { folder } else { std::env::temp_dir() };
    let path = folder.join(format!("catprune-fuzz-{}-{name}", std::process::id()));
    fs::write(&path, bytes).unwrap();
    path
}

/// Panics of libraries are caught by the readers; only those of our own end a run.
pub fn ignore_panics_of_libraries() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let abort = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |told| {
            let ours = |file: &str| file.contains("rust/core") || file.contains("fuzz");
            if told.location().is_none_or(|place| ours(place.file())) {
                abort(told);
            }
        }));
    });
}

/// All records of an input. An error is an answer, a bug that was caught is none.
pub fn read(input: Input) -> Result<Vec<Found>> {
    let corpus = Corpus {
        inputs: vec![input],
        tags: None,
        scores: Vec::new(),
        max_line_bytes: MAX_LINE_BYTES,
        first_row: 0,
    };
    let mut all = Vec::new();
    let read = stream(
        &corpus,
        &WantedRows::All,
        1,
        &Progress::default(),
        |chunk| {
            let found = chunk.wanted().map(|index| match chunk.record(index) {
                Record::Pair { source, target } => Ok((source.to_vec(), target.to_vec())),
                Record::TooLong => Err("too long"),
                Record::Malformed => Err("malformed"),
                Record::MissingSide => Err("missing side"),
            });
            Ok(found.collect::<Vec<_>>())
        },
        |found| {
            all.extend(found);
            Ok(true)
        },
    );
    match read {
        Ok(read) => {
            assert_eq!(read.inputs[0].end, all.len() as u64);
            Ok(all)
        }
        Err(Error::Input(told)) if told.contains("bug of catprune") => panic!("{told}"),
        Err(error) => Err(error),
    }
}

pub fn tsv(path: PathBuf) -> Input {
    Input::Tsv { path, source_column: Some(1), target_column: 2 }
}

/// Lines as they must come back: a TSV of two columns, where the limit allows; None of what is no text of lines.
pub fn expected(bytes: &[u8]) -> Option<Vec<Found>> {
    expected_lines(bytes, |line| {
        let columns: Vec<&[u8]> = line.split(|&byte| byte == b'\t').collect();
        if columns.len() < 2 { Err("malformed") } else { Ok((columns[0].to_vec(), columns[1].to_vec())) }
    })
}

/// Lines as they must come back, where the limit allows, each as the record that it is.
pub fn expected_lines(bytes: &[u8], record: impl Fn(&[u8]) -> Found) -> Option<Vec<Found>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.is_empty() || [b"\xff\xfe", b"\xfe\xff"].iter().any(|mark| bytes.starts_with(*mark)) {
        return None;
    }
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    if lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    let last = lines.len().wrapping_sub(1);
    let found = |(index, line): (usize, &[u8])| {
        let ended = index < last || bytes.ends_with(b"\n");
        let line = line.strip_suffix(b"\r").filter(|_| ended).unwrap_or(line);
        if line.len() > MAX_LINE_BYTES {
            return Err("too long");
        }
        record(line)
    };
    Some(lines.into_iter().enumerate().map(found).collect())
}

/// Two members of a codec must read as one text, and anything after a codec's first bytes must end in an answer.
pub fn codec(suffix: &str, magic: &[u8], bytes: &[u8]) {
    let damaged = file(suffix, &[magic, bytes].concat());
    let _ = read(tsv(damaged));
    let (one, other) = bytes.split_at(bytes.len() / 2);
    let name = PathBuf::from(format!("a.{suffix}"));
    let packed = [one, other].map(|part| compress(part.to_vec(), &name).unwrap()).concat();
    assert_eq!(read(tsv(file(suffix, &packed))).ok(), expected(bytes));
}
