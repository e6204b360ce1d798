//! The `write` pass: writes the kept records as text, in corpus order, always with all their sides.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::corpus::chunk::Chunk;
use crate::corpus::files_read::FileRead;
use crate::corpus::pipeline::stream;
use crate::corpus::record::Record;
use crate::corpus::request::{Corpus, Input};
use crate::corpus::row_filter::WantedRows;
pub use crate::writing::added::Added;
pub use crate::writing::formats::Output;
use crate::writing::formats::{Format, Formatted, Piece, Sink, pack};
use crate::writing::output_files::Outputs;
use crate::{Error, Progress, Result, Row};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteRequest {
    pub corpus: Corpus,
    /// The files that cleaning read, to detect a changed file; the tags last, if they are written.
    pub files: Vec<FileRead>,
    pub kept: WantedRows,
    /// The number of kept rows; another number is an error.
    pub expected: u64,
    pub output: Output,
    /// The output for the pairs that are not kept.
    #[serde(default)]
    pub dropped: Option<Output>,
    /// The file for the tags of the written pairs, one per line.
    #[serde(default)]
    pub tags: Option<PathBuf>,
    /// Columns beside the sides; the corpus names the tags, and the shards of the scores.
    #[serde(default)]
    pub added: Vec<Added>,
    pub threads: usize,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Written {
    pub pairs: u64,
    /// Kept pairs that the output format cannot hold: line breaks, tabs in TSV, invalid UTF-8 in JSON, Parquet or TMX,
    /// characters that XML does not allow.
    pub unwritable: u64,
    /// The first of their rows, at most ten.
    pub unwritable_rows: Vec<u64>,
    /// Whether records were copied whole.
    pub whole: bool,
    /// Pairs written to `dropped`, and records that its format cannot hold.
    pub dropped: u64,
    pub dropped_unwritable: u64,
    pub files: Vec<FileRead>,
}

/// A chunk that a worker has formatted.
struct Done {
    rows: u64,
    kept: Formatted,
    dropped: Formatted,
    tags: Option<Piece>,
}

pub fn write(request: &WriteRequest, progress: &Progress) -> Result<Written> {
    let writing = Writing::new(request)?;
    let paths = request.paths();
    let mut outputs = Outputs::new(writing.create()?, &paths);
    let mut written = Written { whole: writing.kept.whole, ..Written::default() };
    let read = stream(
        &writing.corpus,
        &request.kept,
        request.threads,
        progress,
        |chunk| writing.format(&chunk),
        |done| {
            progress.add(0, done.rows);
            written.add(&done);
            outputs.write(done.kept.pieces.into_iter().chain(done.dropped.pieces).chain(done.tags))?;
            Ok(true)
        },
    )?;
    read.compare(&request.files)?;
    let present = written.pairs + written.unwritable;
    if present != request.expected {
        return Err(Error::input(format!(
            "{present} of {} selected pairs are in the corpus and passed cleaning: select again from this corpus, \
             with clean = FOLDER",
            request.expected
        )));
    }
    written.files = outputs.publish()?;
    Ok(written)
}

impl WriteRequest {
    /// All files, in the order of the pieces.
    fn paths(&self) -> Vec<&Path> {
        let outputs = std::iter::once(&self.output).chain(&self.dropped).flat_map(Output::paths);
        outputs.chain(self.tags.as_deref()).collect()
    }
}

impl Written {
    fn add(&mut self, done: &Done) {
        self.pairs += done.kept.written.len() as u64;
        self.unwritable += done.kept.unwritable.len() as u64;
        let room = 10 - self.unwritable_rows.len();
        self.unwritable_rows.extend(done.kept.unwritable.iter().take(room));
        self.dropped += done.dropped.written.len() as u64;
        self.dropped_unwritable += done.dropped.unwritable.len() as u64;
    }
}

/// The formats of the outputs, and the corpus, with whole records if a format copies them.
struct Writing<'a> {
    corpus: Corpus,
    kept: Format<'a>,
    dropped: Option<Format<'a>>,
    tags: Option<&'a Path>,
}

impl<'a> Writing<'a> {
    fn new(request: &'a WriteRequest) -> Result<Self> {
        let mut corpus = request.corpus.clone();
        let kept = Format::new(&request.output, &request.added, &corpus)?;
        let dropped = request
            .dropped
            .as_ref()
            .map(|output| Format::new(output, &request.added, &corpus))
            .transpose()?;
        let all = kept.whole || dropped.as_ref().is_some_and(|dropped| dropped.whole);
        for input in &mut corpus.inputs {
            if let Input::Parquet { whole, .. } | Input::Tmx { whole, .. } = input {
                *whole = all;
            }
        }
        Ok(Self { corpus, kept, dropped, tags: request.tags.as_deref() })
    }

    fn create(&self) -> Result<Vec<Sink>> {
        let mut sinks = self.kept.create()?;
        if let Some(dropped) = &self.dropped {
            sinks.extend(dropped.create()?);
        }
        if let Some(path) = self.tags {
            sinks.push(Sink::create(path, None, None)?);
        }
        Ok(sinks)
    }

    fn format(&self, chunk: &Chunk) -> Result<Done> {
        for index in chunk.wanted() {
            if !matches!(chunk.record(index), Record::Pair { .. }) {
                let row = Row(chunk.first + index as u64);
                return Err(Error::input(format!(
                    "{row} is kept but has no text: an input changed since it was cleaned: clean again with \
                     force = true"
                )));
            }
        }
        let kept = self.kept.format(chunk, &self.corpus, chunk.wanted())?;
        let dropped = match &self.dropped {
            Some(format) => format.format(chunk, &self.corpus, chunk.unwanted())?,
            None => Formatted::default(),
        };
        let tags = self.tags.map(|path| tags_of(chunk, &kept.written, path)).transpose()?;
        Ok(Done { rows: chunk.len() as u64, kept, dropped, tags })
    }
}

/// The tags of the pairs that were written, one per line.
fn tags_of(chunk: &Chunk, written: &[usize], path: &Path) -> Result<Piece> {
    let Some(tags) = &chunk.tags else {
        return Err(Error::input(
            "the corpus was cleaned without tags: leave tags out, or clean again with tags",
        ));
    };
    let mut text = Vec::new();
    for &index in written {
        text.extend_from_slice(tags.line(index));
        text.push(b'\n');
    }
    pack(text, path)
}
