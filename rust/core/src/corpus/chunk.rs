//! A corpus: inputs of one or two files, read in chunks of records with global row numbers. A record is a pair, or in a
//! monolingual corpus a target whose source is empty.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};

use arrow_array::RecordBatch;
use crossbeam_channel::{Receiver, bounded};
use memchr::memchr_iter;
use serde::{Deserialize, Serialize};

use crate::corpus::fields::Fields;
use crate::corpus::readers::jsonl::{self, Tree};
use crate::corpus::readers::lines::{FileRead, LineReader, Lines};
use crate::corpus::readers::parquet::{self, TableReader};
use crate::corpus::readers::tmx::{self, TmxReader};
use crate::corpus::record::Pairs;
use crate::corpus::row_filter::Kept;
use crate::{Error, Result, Watch};

/// Lines over this many bytes are a verdict and never held whole, unless the caller says otherwise.
pub const MAX_LINE_BYTES: usize = 16_384;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "lowercase")]
pub enum Input {
    /// Two files of equal line count.
    Moses { source: PathBuf, target: PathBuf },
    /// One file of text, a line a record.
    Text { path: PathBuf },
    /// One file of tab-separated columns, numbered from 1.
    Tsv {
        path: PathBuf,
        #[serde(default)]
        source_column: Option<usize>,
        target_column: usize,
    },
    /// One file of JSON objects, one a line.
    Jsonl {
        path: PathBuf,
        #[serde(flatten)]
        fields: Fields,
    },
    /// One Parquet file; its rows come with all their columns, or with the two alone.
    Parquet {
        path: PathBuf,
        #[serde(flatten)]
        fields: Fields,
        #[serde(default)]
        whole: bool,
    },
    /// One TMX file; a unit is as many records as it has pairs of variants in the two languages.
    /// Units that are one record come whole if the input says so.
    Tmx {
        path: PathBuf,
        source_language: String,
        target_language: String,
        #[serde(default)]
        whole: bool,
    },
}

impl Input {
    /// Its files, the source's first.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let (one, other) = match self {
            Self::Moses { source, target } => (source, Some(target)),
            Self::Text { path }
            | Self::Tsv { path, .. }
            | Self::Jsonl { path, .. }
            | Self::Parquet { path, .. }
            | Self::Tmx { path, .. } => (path, None),
        };
        std::iter::once(one.as_path()).chain(other.map(PathBuf::as_path))
    }

    /// Whether its records have no source.
    pub fn is_monolingual(&self) -> bool {
        match self {
            Self::Text { .. } => true,
            Self::Tsv { source_column, .. } => source_column.is_none(),
            Self::Jsonl { fields, .. } | Self::Parquet { fields, .. } => fields.source_field.is_none(),
            Self::Moses { .. } | Self::Tmx { .. } => false,
        }
    }
}

/// Which records a pass reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Corpus {
    pub inputs: Vec<Input>,
    /// One line a record over all inputs.
    #[serde(default)]
    pub tags: Option<PathBuf>,
    #[serde(default = "max_line_bytes")]
    pub max_line_bytes: usize,
    /// The row of the first record: inputs that were joined to others go on from their rows.
    #[serde(default)]
    pub first_row: u64,
}

impl Corpus {
    /// Whether its records have no source; all inputs are alike in that.
    pub fn is_monolingual(&self) -> bool {
        self.inputs.iter().any(Input::is_monolingual)
    }
}

fn max_line_bytes() -> usize {
    MAX_LINE_BYTES
}

/// What was read of one input.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct InputRead {
    pub first: u64,
    pub end: u64,
    pub files: Vec<FileRead>,
}

/// What was read of a corpus.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct CorpusRead {
    pub inputs: Vec<InputRead>,
    pub tags: Option<FileRead>,
}

impl CorpusRead {
    /// Fails if a file's bytes are not those of an earlier reading, the tags last where they were read.
    pub fn compare(&self, earlier: &[FileRead]) -> Result<()> {
        let now = self.inputs.iter().flat_map(|input| &input.files).chain(&self.tags);
        if now.clone().count() != earlier.len() {
            return Err(Error::input(
                "the corpus has other files than were cleaned: clean again with --force",
            ));
        }
        for (now, earlier) in now.zip(earlier) {
            if now.digest != earlier.digest {
                return Err(Error::input(format!(
                    "{} changed since it was cleaned ({} bytes then, {} now): restore it, or clean again with --force",
                    now.path.display(),
                    earlier.bytes,
                    now.bytes
                )));
            }
        }
        Ok(())
    }
}

enum Text {
    Moses { source: Lines, target: Lines },
    Lines(Lines),
    Tsv { records: Lines, source_column: Option<usize>, target_column: usize },
    Jsonl { records: Lines, tree: Arc<Tree> },
    Parquet { batch: RecordBatch, fields: Arc<Fields> },
    Tmx(tmx::Records),
}

/// Up to `CHUNK_LINES` consecutive records of one input. Chunks restart at every input.
pub struct Chunk {
    /// Which input.
    pub input: usize,
    /// The first row of that input.
    pub input_first: u64,
    /// The row of its first record.
    pub first: u64,
    /// Whether the pass wants each record; empty where it wants all.
    pub kept: Vec<bool>,
    pub tags: Option<Lines>,
    /// Whether all sources are empty, because there are none.
    pub monolingual: bool,
    text: Text,
    /// The pairs of a format that has to be decoded, once they are.
    pairs: Pairs,
    max_line_bytes: usize,
}

/// A record's two sides, or why it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    Pair {
        source: &'a [u8],
        target: &'a [u8],
    },
    /// A line over the limit.
    TooLong,
    /// Too few columns, no JSON, a field that is missing or no text.
    Malformed,
    /// A translation unit without one of the languages.
    MissingSide,
}

impl Chunk {
    pub fn len(&self) -> usize {
        match &self.text {
            Text::Moses { source: lines, .. } | Text::Lines(lines) => lines.len(),
            Text::Tsv { records, .. } | Text::Jsonl { records, .. } => records.len(),
            Text::Parquet { batch, .. } => batch.num_rows(),
            Text::Tmx(records) => records.pairs.len(),
        }
    }

    /// Makes the pairs of a format that cannot be cut out of its bytes; `record` wants it done before. This is the
    /// workers' part of reading.
    pub fn decode(&mut self) -> Result<()> {
        match &self.text {
            Text::Moses { .. } | Text::Lines(_) | Text::Tsv { .. } | Text::Tmx(_) => {}
            Text::Jsonl { records, tree } => self.pairs = jsonl::decode(records, tree),
            Text::Parquet { batch, fields } => {
                self.pairs = parquet::decode(batch, fields, self.max_line_bytes)?;
            }
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn end(&self) -> u64 {
        self.first + self.len() as u64
    }

    pub fn record(&self, index: usize) -> Record<'_> {
        match &self.text {
            Text::Moses { source, target } => {
                if source.is_too_long(index) || target.is_too_long(index) {
                    return Record::TooLong;
                }
                Record::Pair { source: source.line(index), target: target.line(index) }
            }
            Text::Lines(lines) if lines.is_too_long(index) => Record::TooLong,
            Text::Lines(lines) => Record::Pair { source: &[], target: lines.line(index) },
            Text::Tsv { records, source_column, target_column } => {
                if records.is_too_long(index) {
                    return Record::TooLong;
                }
                let line = records.line(index);
                let source = source_column.map_or(Some(&[][..]), |number| column(line, number));
                match (source, column(line, *target_column)) {
                    (Some(source), Some(target)) => Record::Pair { source, target },
                    _ => Record::Malformed,
                }
            }
            Text::Jsonl { .. } | Text::Parquet { .. } => self.pairs.record(index),
            Text::Tmx(records) => records.pairs.record(index),
        }
    }

    /// The whole record as it stood in its file, where it is one line, or a unit that was read whole.
    pub fn whole(&self, index: usize) -> Option<&[u8]> {
        match &self.text {
            Text::Tsv { records, .. } | Text::Jsonl { records, .. } => Some(records.line(index)),
            Text::Tmx(records) => records.whole(index),
            Text::Moses { .. } | Text::Lines(_) | Text::Parquet { .. } => None,
        }
    }

    /// The two sides of consecutive records as lines, if they stand so in their files; nothing for a source that is none.
    pub fn run(&self, records: Range<usize>) -> Option<[&[u8]; 2]> {
        match &self.text {
            Text::Moses { source, target } => Some([source.run(records.clone())?, target.run(records)?]),
            Text::Lines(lines) => Some([&[], lines.run(records)?]),
            _ => None,
        }
    }

    /// The rows of a Parquet file; with all their columns if the input says so.
    pub fn batch(&self) -> Option<&RecordBatch> {
        match &self.text {
            Text::Parquet { batch, .. } => Some(batch),
            _ => None,
        }
    }

    /// Bytes of text.
    pub fn bytes(&self) -> usize {
        match &self.text {
            Text::Moses { source, target } => source.bytes() + target.bytes(),
            Text::Lines(records) | Text::Tsv { records, .. } => records.bytes(),
            // The raw and the decoded text.
            Text::Jsonl { records, .. } => 2 * records.bytes(),
            Text::Parquet { batch, .. } => 2 * batch.get_array_memory_size(),
            Text::Tmx(records) => records.bytes(),
        }
    }

    /// The indices of the records that the pass wants.
    pub fn wanted(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len()).filter(|&index| self.kept.is_empty() || self.kept[index])
    }

    /// The indices of the others.
    pub fn unwanted(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.kept.len()).filter(|&index| !self.kept[index])
    }
}

/// The column with a number counted from 1.
fn column(line: &[u8], number: usize) -> Option<&[u8]> {
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

/// Reads the whole corpus in order and hands every chunk to `emit`, which says false to stop early.
pub fn read(
    corpus: &Corpus,
    kept: &mut Kept,
    watch: &Watch,
    mut emit: impl FnMut(Chunk) -> bool,
) -> Result<CorpusRead> {
    let mut tags = match &corpus.tags {
        Some(path) => Some(LineReader::open(path, corpus.max_line_bytes, watch)?),
        None => None,
    };
    let mut row = corpus.first_row;
    let mut inputs = Vec::with_capacity(corpus.inputs.len());
    for (number, input) in corpus.inputs.iter().enumerate() {
        let first = row;
        let files = read_input(corpus, input, watch, |text| {
            let mut chunk = Chunk {
                input: number,
                input_first: first,
                first: row,
                kept: Vec::new(),
                tags: None,
                monolingual: input.is_monolingual(),
                text,
                pairs: Pairs::default(),
                max_line_bytes: corpus.max_line_bytes,
            };
            if let Some(tags) = &mut tags {
                chunk.tags = Some(take_tags(tags, &chunk)?);
            }
            chunk.kept = kept.take(row, chunk.len())?;
            row = chunk.end();
            Ok(emit(chunk))
        })?;
        let Some(files) = files else {
            return Ok(CorpusRead { inputs, tags: None });
        };
        inputs.push(InputRead { first, end: row, files });
    }
    let tags = tags.map(|reader| finish_tags(reader, row)).transpose()?;
    Ok(CorpusRead { inputs, tags })
}

/// None if `emit` stopped the reading.
fn read_input(
    corpus: &Corpus,
    input: &Input,
    watch: &Watch,
    mut emit: impl FnMut(Text) -> Result<bool>,
) -> Result<Option<Vec<FileRead>>> {
    thread::scope(|scope| match input {
        Input::Moses { source, target } => {
            let (sources, source_reader) = spawn(scope, source, corpus.max_line_bytes, watch);
            let (targets, target_reader) = spawn(scope, target, corpus.max_line_bytes, watch);
            let mut lines = 0;
            loop {
                let (source_lines, target_lines) = (sources.recv(), targets.recv());
                let (Ok(source_lines), Ok(target_lines)) = (source_lines, target_lines) else {
                    // A reader that failed has hung up; its error is told by `join`.
                    drop((sources, targets));
                    let (source, target) = (join(source_reader), join(target_reader));
                    return Err(first_error(source, target));
                };
                if source_lines.len() != target_lines.len() {
                    let ends = (lines + source_lines.len() as u64, lines + target_lines.len() as u64);
                    let counts = (ends.0 + count_rest(&sources), ends.1 + count_rest(&targets));
                    join(source_reader)?;
                    join(target_reader)?;
                    return Err(unequal(source, target, counts));
                }
                lines += source_lines.len() as u64;
                if source_lines.is_empty() {
                    return Ok(Some(vec![join(source_reader)?, join(target_reader)?]));
                }
                if !emit(Text::Moses { source: source_lines, target: target_lines })? {
                    return Ok(None);
                }
            }
        }
        Input::Text { path } => {
            let open = move || LineReader::open(path, corpus.max_line_bytes, watch);
            read_one(spawn_one(scope, open), |lines| emit(Text::Lines(lines)))
        }
        Input::Tsv { path, source_column, target_column } => {
            let (source_column, target_column) = (*source_column, *target_column);
            let open = move || LineReader::open(path, corpus.max_line_bytes, watch);
            let text = |records| Text::Tsv { records, source_column, target_column };
            read_one(spawn_one(scope, open), |records| emit(text(records)))
        }
        Input::Jsonl { path, fields } => {
            let tree = Arc::new(Tree::new(fields)?);
            let open = move || LineReader::open(path, corpus.max_line_bytes, watch);
            let text = |records| Text::Jsonl { records, tree: Arc::clone(&tree) };
            read_one(spawn_one(scope, open), |records| emit(text(records)))
        }
        Input::Parquet { path, fields, whole } => {
            let shared = Arc::new(fields.clone());
            let open = move || TableReader::open(path, fields, *whole, watch);
            let text = |batch| Text::Parquet { batch, fields: Arc::clone(&shared) };
            read_one(spawn_one(scope, open), |batch| emit(text(batch)))
        }
        Input::Tmx { path, source_language, target_language, whole } => {
            let languages = [source_language.as_str(), target_language.as_str()];
            let open = move || TmxReader::open(path, languages, corpus.max_line_bytes, *whole, watch);
            read_one(spawn_one(scope, open), |records| emit(Text::Tmx(records)))
        }
    })
}

/// What one file is read by: chunks until there are no more, then its digest.
trait Chunks {
    type Chunk: Send;

    fn next(&mut self) -> Result<Option<Self::Chunk>>;

    fn finish(self) -> Result<FileRead>;
}

impl Chunks for LineReader<'_> {
    type Chunk = Lines;

    fn next(&mut self) -> Result<Option<Lines>> {
        let chunk = self.chunk()?;
        if self.lines == 0 {
            return Err(Error::input(format!("{} is empty", self.path().display())));
        }
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }

    fn finish(self) -> Result<FileRead> {
        LineReader::finish(self)
    }
}

impl Chunks for TableReader<'_> {
    type Chunk = RecordBatch;

    fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.chunk()
    }

    fn finish(self) -> Result<FileRead> {
        TableReader::finish(self)
    }
}

impl Chunks for TmxReader<'_> {
    type Chunk = tmx::Records;

    fn next(&mut self) -> Result<Option<tmx::Records>> {
        Ok(Some(self.chunk()?).filter(|records| !records.pairs.is_empty()))
    }

    fn finish(self) -> Result<FileRead> {
        TmxReader::finish(self)
    }
}

/// Reads one file on a thread of its own; the channel closes at its end or where it fails.
fn spawn_one<'scope, 'env, R: Chunks>(
    scope: &'scope thread::Scope<'scope, 'env>,
    open: impl FnOnce() -> Result<R> + Send + 'scope,
) -> (Receiver<R::Chunk>, Reader<'scope>)
where
    R::Chunk: 'scope,
{
    let (send, receive) = bounded(1);
    let reader = scope.spawn(move || {
        let mut reader = open()?;
        while let Some(chunk) = reader.next()? {
            if send.send(chunk).is_err() {
                return Err(Error::Interrupted);
            }
        }
        reader.finish()
    });
    (receive, reader)
}

/// None if `emit` stopped the reading.
fn read_one<C>(
    (chunks, reader): (Receiver<C>, Reader<'_>),
    mut emit: impl FnMut(C) -> Result<bool>,
) -> Result<Option<Vec<FileRead>>> {
    for chunk in &chunks {
        if !emit(chunk)? {
            return Ok(None);
        }
    }
    Ok(Some(vec![join(reader)?]))
}

type Reader<'scope> = ScopedJoinHandle<'scope, Result<FileRead>>;

/// Reads a file on a thread of its own, so that two sides decompress side by side. An empty chunk is the end.
fn spawn<'scope, 'env>(
    scope: &'scope thread::Scope<'scope, 'env>,
    path: &'env Path,
    max_line_bytes: usize,
    watch: &'env Watch,
) -> (Receiver<Lines>, Reader<'scope>) {
    let (send, receive) = bounded(1);
    let reader = scope.spawn(move || {
        let mut reader = LineReader::open(path, max_line_bytes, watch)?;
        loop {
            let chunk = reader.chunk()?;
            let ended = chunk.is_empty();
            if ended && reader.lines == 0 {
                return Err(Error::input(format!("{} is empty", path.display())));
            }
            if send.send(chunk).is_err() {
                return Err(Error::Interrupted);
            }
            if ended {
                return reader.finish();
            }
        }
    });
    (receive, reader)
}

fn join(reader: Reader<'_>) -> Result<FileRead> {
    reader.join().unwrap_or_else(|_| Err(Error::input("a reader panicked: this is a bug of catprune")))
}

fn first_error(source: Result<FileRead>, target: Result<FileRead>) -> Error {
    match (source, target) {
        // The side that was merely hung up on says `Interrupted`; the other one says why.
        (Err(Error::Interrupted) | Ok(_), Err(error)) | (Err(error), _) => error,
        (Ok(_), Ok(_)) => Error::input("a reader ended early"),
    }
}

fn count_rest(chunks: &Receiver<Lines>) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}

fn unequal(source: &Path, target: &Path, (source_lines, target_lines): (u64, u64)) -> Error {
    let (short, long, ends, goes_on) = if source_lines < target_lines {
        (source, target, source_lines, target_lines)
    } else {
        (target, source, target_lines, source_lines)
    };
    Error::input(format!(
        "{} ends after line {ends}, {} goes on to line {goes_on}: the two sides must have equal line counts",
        short.display(),
        long.display()
    ))
}

fn take_tags(tags: &mut LineReader<'_>, chunk: &Chunk) -> Result<Lines> {
    tags.take(chunk.len()).and_then(|lines| {
        if let Some(index) = (0..lines.len()).find(|&index| lines.is_too_long(index)) {
            let (path, line) = (tags.path().display(), chunk.first + index as u64 + 1);
            return Err(Error::input(format!(
                "{path}, line {line}: the tag is over the longest line allowed"
            )));
        }
        if lines.len() == chunk.len() {
            return Ok(lines);
        }
        let (path, ends) = (tags.path().display(), tags.lines);
        Err(Error::input(format!(
            "{path} ends after line {ends}, the corpus goes on: one tag a record is needed"
        )))
    })
}

fn finish_tags(mut tags: LineReader<'_>, rows: u64) -> Result<FileRead> {
    if tags.take(1)?.is_empty() {
        return tags.finish();
    }
    let path = tags.path().display();
    Err(Error::input(format!(
        "{path} goes on after line {rows}, where the corpus ends: one tag a record is needed"
    )))
}
