//! Writing: the kept pairs as text, in corpus order, both sides or none.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::corpus::{Chunk, Corpus, Input, Record};
use crate::kept::KeptIn;
use crate::lines::FileRead;
use crate::outputs::Outputs;
use crate::stream::stream;
use crate::{Error, Result, Watch};

/// Where the text goes; names that end in `.gz` or `.zst` are compressed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "lowercase")]
pub enum Output {
    Moses { source: PathBuf, target: PathBuf },
    Tsv { path: PathBuf },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteRequest {
    pub corpus: Corpus,
    /// What cleaning read, to notice a changed file.
    pub files: Vec<FileRead>,
    pub kept: KeptIn,
    /// How many rows are kept; another number is an error.
    pub expected: u64,
    pub output: Output,
    pub threads: usize,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Written {
    pub pairs: u64,
    /// Kept pairs that the output's format cannot hold: a tab inside a side, where columns end at tabs.
    pub unwritable: u64,
    /// The first of their rows.
    pub unwritable_rows: Vec<u64>,
    pub files: Vec<FileRead>,
}

/// What a worker made of a chunk: the bytes for each output file.
struct Formatted {
    rows: u64,
    pairs: u64,
    unwritable: Vec<u64>,
    bytes: [Vec<u8>; 2],
}

pub fn write(request: &WriteRequest, watch: &Watch) -> Result<Written> {
    let paths: Vec<&Path> = match &request.output {
        Output::Moses { source, target } => vec![source, target],
        Output::Tsv { path } => vec![path],
    };
    let mut outputs = Outputs::create(&paths)?;
    let mut written = Written::default();
    // Whole records only where all of them have one order of columns.
    let whole = request.corpus.inputs.iter().all(|input| matches!(input, Input::Tsv { .. }));
    let read = stream(
        &request.corpus,
        &request.kept,
        request.threads,
        watch,
        |chunk| format(&chunk, &request.output, whole),
        |formatted| {
            watch.add(0, formatted.rows);
            written.pairs += formatted.pairs;
            written.unwritable += formatted.unwritable.len() as u64;
            let room = 10 - written.unwritable_rows.len();
            written.unwritable_rows.extend(formatted.unwritable.into_iter().take(room));
            outputs.write(formatted.bytes)?;
            Ok(true)
        },
    )?;
    read.compare(&request.files)?;
    let found = written.pairs + written.unwritable;
    if found != request.expected {
        return Err(Error::input(format!(
            "of {} selected pairs {found} are there and passed cleaning: select with --clean, from this corpus",
            request.expected
        )));
    }
    written.files = outputs.publish()?;
    Ok(written)
}

fn format(chunk: &Chunk, output: &Output, whole: bool) -> Result<Formatted> {
    let mut formatted =
        Formatted { rows: chunk.len() as u64, pairs: 0, unwritable: Vec::new(), bytes: Default::default() };
    let [first, second] = &mut formatted.bytes;
    for index in chunk.wanted() {
        let row = chunk.first + index as u64;
        let Record::Pair { source, target } = chunk.record(index) else {
            return Err(Error::input(format!("row {row} is kept but has no two sides: an input changed")));
        };
        match (output, chunk.whole(index).filter(|_| whole)) {
            (Output::Moses { .. }, _) => {
                push_line(first, &[source]);
                push_line(second, &[target]);
            }
            (Output::Tsv { .. }, Some(record)) => push_line(first, &[record]),
            (Output::Tsv { .. }, None) if source.contains(&b'\t') || target.contains(&b'\t') => {
                formatted.unwritable.push(row);
                continue;
            }
            (Output::Tsv { .. }, None) => push_line(first, &[source, b"\t", target]),
        }
        formatted.pairs += 1;
    }
    let paths: [Option<&Path>; 2] = match output {
        Output::Moses { source, target } => [Some(source), Some(target)],
        Output::Tsv { path } => [Some(path), None],
    };
    for (bytes, path) in formatted.bytes.iter_mut().zip(paths) {
        if let Some(path) = path {
            *bytes = compress(std::mem::take(bytes), path).map_err(Error::io(path))?;
        }
    }
    Ok(formatted)
}

fn push_line(text: &mut Vec<u8>, pieces: &[&[u8]]) {
    for piece in pieces {
        text.extend_from_slice(piece);
    }
    text.push(b'\n');
}

/// One gzip member or zstd frame a chunk, so that compression runs on all threads and gives the same bytes on any
/// number of them.
fn compress(bytes: Vec<u8>, path: &Path) -> io::Result<Vec<u8>> {
    if bytes.is_empty() {
        return Ok(bytes);
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&bytes)?;
            encoder.finish()
        }
        Some("zst") => zstd::bulk::compress(&bytes, 3),
        _ => Ok(bytes),
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadPairsRequest {
    pub corpus: Corpus,
    /// Ascending.
    pub rows: Vec<u64>,
}

/// The text of a few rows, invalid UTF-8 replaced; a row without two sides is two empty strings. Reads the corpus
/// up to the last of them.
pub fn read_pairs(request: &ReadPairsRequest, watch: &Watch) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::with_capacity(request.rows.len());
    let Some(&last) = request.rows.last() else { return Ok(pairs) };
    let text = |side: &[u8]| String::from_utf8_lossy(side).into_owned();
    stream(
        &request.corpus,
        &KeptIn::Rows(request.rows.clone()),
        1,
        watch,
        |chunk| {
            let read = chunk.wanted().map(|index| match chunk.record(index) {
                Record::Pair { source, target } => (text(source), text(target)),
                Record::TooLong | Record::Malformed => (String::new(), String::new()),
            });
            Ok((chunk.end(), read.collect::<Vec<_>>()))
        },
        |(end, read)| {
            pairs.extend(read);
            Ok(end <= last)
        },
    )?;
    if pairs.len() == request.rows.len() {
        return Ok(pairs);
    }
    Err(Error::input(format!("row {last} is past the end of the corpus, or the rows are not ascending")))
}
