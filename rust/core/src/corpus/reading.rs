//! Reads a corpus in order, each file on its own thread; chunks have global row numbers and tags.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};

use arrow_array::RecordBatch;
use crossbeam_channel::{Receiver, bounded};

use crate::columns::external::ExternalColumn;
use crate::corpus::chunk::{Chunk, ChunkText};
use crate::corpus::files_read::{CorpusRead, FileRead, InputRead};
use crate::corpus::readers::jsonl::Tree;
use crate::corpus::readers::lines::{CHUNK_LINES, LineReader, Lines};
use crate::corpus::readers::parquet::TableReader;
use crate::corpus::readers::tmx::{self, TmxReader};
use crate::corpus::readers::tsv::columns;
use crate::corpus::record::Pairs;
use crate::corpus::request::{Corpus, Input};
use crate::corpus::row_filter::RowFilter;
use crate::{Error, Progress, Result};

/// Reads the whole corpus in order and passes every chunk to `emit`, which returns false to stop early.
pub fn read(
    corpus: &Corpus,
    row_filter: &mut RowFilter,
    progress: &Progress,
    mut emit: impl FnMut(Chunk) -> bool,
) -> Result<CorpusRead> {
    let mut tags = match &corpus.tags {
        Some(path) => Some(LineReader::open(path, corpus.max_line_bytes, corpus.memory, progress)?),
        None => None,
    };
    let column = ExternalColumn::open(&corpus.scores, "score")?;
    let mut scores = column.read(0..column.len());
    let mut inputs = corpus.read_before.clone();
    let mut row = inputs.last().map_or(corpus.first_row, |input| input.end);
    if let Some(tags) = &mut tags {
        skip_tags(tags, row - corpus.first_row)?;
    }
    let mut ended = Vec::new();
    for (number, input) in corpus.inputs.iter().enumerate().skip(corpus.read_before.len()) {
        let first = row;
        let files = read_input(corpus, input, progress, |text| {
            let mut chunk = Chunk {
                input: number,
                input_first: first,
                first: row,
                ended: Vec::new(),
                kept: Vec::new(),
                tags: None,
                scores: Vec::new(),
                monolingual: input.is_monolingual(),
                text,
                pairs: Pairs::default(),
                repaired: None,
                max_line_bytes: corpus.max_line_bytes,
            };
            if let Some(tags) = &mut tags {
                chunk.tags = Some(take_tags(tags, &chunk, corpus)?);
            }
            if !corpus.scores.is_empty() {
                let rows: Vec<u64> = (row..chunk.end()).collect();
                scores.join(&rows, &mut chunk.scores)?;
            }
            chunk.kept = row_filter.take(row, chunk.len())?;
            row = chunk.end();
            if row <= corpus.from_row {
                return Ok(true);
            }
            chunk.ended.append(&mut ended);
            Ok(emit(chunk))
        })?;
        let Some(files) = files else {
            return Ok(CorpusRead { inputs, tags: None });
        };
        inputs.push(InputRead { first, end: row, files });
        ended.extend(inputs.last().cloned());
    }
    if row == corpus.first_row
        && let Some(path) = corpus.inputs.iter().flat_map(Input::paths).next()
    {
        return Err(Error::empty(path));
    }
    let tags = tags.map(|reader| finish_tags(reader, row - corpus.first_row)).transpose()?;
    Ok(CorpusRead { inputs, tags })
}

/// Reads one input and returns its files; None if `emit` stopped the reading.
fn read_input(
    corpus: &Corpus,
    input: &Input,
    progress: &Progress,
    mut emit: impl FnMut(ChunkText) -> Result<bool>,
) -> Result<Option<Vec<FileRead>>> {
    thread::scope(|scope| match input {
        Input::Moses { source, target } => read_sides(scope, corpus, progress, [source, target], emit),
        Input::Text { path } => {
            let open = move || LineReader::open(path, corpus.max_line_bytes, corpus.memory, progress);
            read_file(scope, path, open, |lines| emit(ChunkText::Lines(lines)))
        }
        Input::Tsv { path, source_column, target_column, header } => {
            let open = move || open_tsv(path, *header, corpus, progress);
            let (source_column, target_column) = (*source_column, *target_column);
            let (mut count, mut is_empty) = (None, true);
            let files = read_file(scope, path, open, |records| {
                is_empty = false;
                count = count.or_else(|| count_columns(&records));
                emit(ChunkText::Tsv { records, source_column, target_column, count })
            })?;
            // A header alone is no record.
            if is_empty { Err(Error::empty(path)) } else { Ok(files) }
        }
        Input::Jsonl { path, fields } => {
            let tree = Arc::new(Tree::new(fields)?);
            let open = move || LineReader::open(path, corpus.max_line_bytes, corpus.memory, progress);
            let text = |records| ChunkText::Jsonl { records, tree: Arc::clone(&tree) };
            read_file(scope, path, open, |records| emit(text(records)))
        }
        Input::Parquet { path, fields, whole } => {
            let shared = Arc::new(fields.clone());
            let open = move || TableReader::open(path, fields, *whole, corpus.memory, progress);
            let text = |(batch, bytes)| ChunkText::Parquet { batch, bytes, fields: Arc::clone(&shared) };
            read_file(scope, path, open, |rows| emit(text(rows)))
        }
        Input::Tmx { path, source_language, target_language, whole } => {
            let languages = [source_language.as_str(), target_language.as_str()];
            let open = move || {
                TmxReader::open(path, languages, corpus.max_line_bytes, *whole, corpus.memory, progress)
            };
            read_file(scope, path, open, |records| emit(ChunkText::Tmx(records)))
        }
    })
}

/// Files up to this size are read where they are needed: a thread would cost more than the reading.
const SMALL_BYTES: u64 = 1 << 16;

fn is_small(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() <= SMALL_BYTES)
}

/// Reads two files of lines, in parallel unless they are small.
fn read_sides<'scope, 'env>(
    scope: &'scope thread::Scope<'scope, 'env>,
    corpus: &'env Corpus,
    progress: &'env Progress,
    [source, target]: [&'env Path; 2],
    mut emit: impl FnMut(ChunkText) -> Result<bool>,
) -> Result<Option<Vec<FileRead>>> {
    let is_small = is_small(source) && is_small(target);
    let open = |path| {
        if is_small { Side::here(path, corpus, progress) } else { Side::ahead(scope, path, corpus, progress) }
    };
    let (mut sources, mut targets) = (open(source), open(target));
    let mut lines = 0;
    loop {
        let (Some(source_lines), Some(target_lines)) = (sources.next(), targets.next()) else {
            return Err(first_error(sources.finish(), targets.finish()));
        };
        if source_lines.len() != target_lines.len() {
            let ends = (lines + source_lines.len() as u64, lines + target_lines.len() as u64);
            let counts = (ends.0 + sources.count_rest(), ends.1 + targets.count_rest());
            // The error of a damaged file comes first: its line count would be wrong.
            sources.finish()?;
            targets.finish()?;
            return Err(unequal(source, target, counts));
        }
        lines += source_lines.len() as u64;
        if source_lines.is_empty() {
            return Ok(Some(vec![sources.finish()?, targets.finish()?]));
        }
        if !emit(ChunkText::Moses { source: source_lines, target: target_lines })? {
            return Ok(None);
        }
    }
}

fn open_tsv<'w>(
    path: &Path,
    header: bool,
    corpus: &Corpus,
    progress: &'w Progress,
) -> Result<LineReader<'w>> {
    let mut reader = LineReader::open(path, corpus.max_line_bytes, corpus.memory, progress)?;
    if header {
        reader.take(1)?;
    }
    Ok(reader)
}

/// The number of columns of the first line that is not over the limit.
fn count_columns(records: &Lines) -> Option<usize> {
    let first = (0..records.len()).find(|&index| !records.is_too_long(index))?;
    Some(columns(records.line(first), None, 1).count)
}

/// A reader of one file: returns chunks until the end, then the digest of the file.
trait FileReader {
    type Chunk: Send;

    fn next(&mut self) -> Result<Option<Self::Chunk>>;

    fn finish(self) -> Result<FileRead>;
}

impl FileReader for LineReader<'_> {
    type Chunk = Lines;

    fn next(&mut self) -> Result<Option<Lines>> {
        let chunk = self.chunk()?;
        if self.lines == 0 {
            return Err(Error::empty(self.path()));
        }
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }

    fn finish(self) -> Result<FileRead> {
        LineReader::finish(self)
    }
}

impl FileReader for TableReader<'_> {
    type Chunk = (RecordBatch, usize);

    fn next(&mut self) -> Result<Option<Self::Chunk>> {
        self.chunk()
    }

    fn finish(self) -> Result<FileRead> {
        TableReader::finish(self)
    }
}

impl FileReader for TmxReader<'_> {
    type Chunk = tmx::Records;

    fn next(&mut self) -> Result<Option<tmx::Records>> {
        Ok(Some(self.chunk()?).filter(|records| !records.pairs.is_empty()))
    }

    fn finish(self) -> Result<FileRead> {
        TmxReader::finish(self)
    }
}

/// Reads one file on its own thread; the channel closes at the end of the file or after an error.
fn spawn_reader<'scope, 'env, R: FileReader>(
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

/// Reads one file and passes its chunks on; None if `emit` stopped the reading.
fn read_file<'scope, 'env, R: FileReader>(
    scope: &'scope thread::Scope<'scope, 'env>,
    path: &Path,
    open: impl FnOnce() -> Result<R> + Send + 'scope,
    mut emit: impl FnMut(R::Chunk) -> Result<bool>,
) -> Result<Option<Vec<FileRead>>>
where
    R::Chunk: 'scope,
{
    if is_small(path) {
        let mut reader = open()?;
        while let Some(chunk) = reader.next()? {
            if !emit(chunk)? {
                return Ok(None);
            }
        }
        return Ok(Some(vec![reader.finish()?]));
    }
    let (chunks, reader) = spawn_reader(scope, open);
    for chunk in &chunks {
        if !emit(chunk)? {
            return Ok(None);
        }
    }
    Ok(Some(vec![join(reader)?]))
}

type Reader<'scope> = ScopedJoinHandle<'scope, Result<FileRead>>;

/// One side of a Moses pair. An empty chunk marks the end of the file; after an error there is no more chunk.
enum Side<'scope, 'w> {
    /// Read on its own thread, so that two sides decompress in parallel.
    Ahead(Receiver<Lines>, Reader<'scope>),
    /// Read when it is asked for.
    Here(Box<LinesToTheEnd<'w>>, Result<FileRead>),
}

/// Reads a file of lines to its end; then it has no reader.
struct LinesToTheEnd<'w>(Option<LineReader<'w>>);

impl LinesToTheEnd<'_> {
    /// The next chunk; at the end of the file an empty one, with the digest of the file.
    fn next(&mut self) -> Result<(Lines, Option<FileRead>)> {
        let Some(mut reader) = self.0.take() else { return Err(Error::Interrupted) };
        let chunk = reader.chunk()?;
        if !chunk.is_empty() {
            self.0 = Some(reader);
            return Ok((chunk, None));
        }
        if reader.lines == 0 { Err(Error::empty(reader.path())) } else { Ok((chunk, Some(reader.finish()?))) }
    }
}

impl<'scope, 'env> Side<'scope, 'env> {
    fn here(path: &Path, corpus: &Corpus, progress: &'env Progress) -> Self {
        match LineReader::open(path, corpus.max_line_bytes, corpus.memory, progress) {
            Ok(reader) => Self::Here(Box::new(LinesToTheEnd(Some(reader))), Err(Error::Interrupted)),
            Err(error) => Self::Here(Box::new(LinesToTheEnd(None)), Err(error)),
        }
    }

    fn ahead(
        scope: &'scope thread::Scope<'scope, 'env>,
        path: &'env Path,
        corpus: &'env Corpus,
        progress: &'env Progress,
    ) -> Self {
        let (send, receive) = bounded(1);
        let reader = scope.spawn(move || {
            let reader = LineReader::open(path, corpus.max_line_bytes, corpus.memory, progress)?;
            let mut lines = LinesToTheEnd(Some(reader));
            loop {
                let (chunk, read) = lines.next()?;
                if send.send(chunk).is_err() {
                    return Err(Error::Interrupted);
                }
                if let Some(read) = read {
                    return Ok(read);
                }
            }
        });
        Self::Ahead(receive, reader)
    }

    fn next(&mut self) -> Option<Lines> {
        match self {
            Self::Ahead(chunks, _) => chunks.recv().ok(),
            Self::Here(lines, _) if lines.0.is_none() => None,
            Self::Here(lines, outcome) => match lines.next() {
                Ok((chunk, read)) => {
                    *outcome = read.ok_or(Error::Interrupted);
                    Some(chunk)
                }
                Err(error) => {
                    *outcome = Err(error);
                    None
                }
            },
        }
    }

    /// Counts the lines that were not passed on.
    fn count_rest(&mut self) -> u64 {
        std::iter::from_fn(|| self.next()).map(|chunk| chunk.len() as u64).sum()
    }

    /// The digest of the file, or its error; `Interrupted` if it was not read to the end.
    fn finish(self) -> Result<FileRead> {
        match self {
            Self::Ahead(chunks, reader) => {
                // A reader that waits for room must see that nobody takes its chunk.
                drop(chunks);
                join(reader)
            }
            Self::Here(_, outcome) => outcome,
        }
    }
}

fn join(reader: Reader<'_>) -> Result<FileRead> {
    reader.join().unwrap_or_else(|_| Err(Error::input("a reader panicked: this is a bug of catprune")))
}

fn first_error(source: Result<FileRead>, target: Result<FileRead>) -> Error {
    match (source, target) {
        // The side whose receiver was dropped returns `Interrupted`; the other side returns the cause.
        (Err(Error::Interrupted) | Ok(_), Err(error)) | (Err(error), _) => error,
        (Ok(_), Ok(_)) => Error::input("a reader ended early: this is a bug of catprune"),
    }
}

fn unequal(source: &Path, target: &Path, (source_lines, target_lines): (u64, u64)) -> Error {
    let (short, long, short_lines, long_lines) = if source_lines < target_lines {
        (source, target, source_lines, target_lines)
    } else {
        (target, source, target_lines, source_lines)
    };
    Error::input(format!(
        "{} ends after line {short_lines}, {} goes on to line {long_lines}: find the lines that are missing",
        short.display(),
        long.display()
    ))
}

fn take_tags(tags: &mut LineReader<'_>, chunk: &Chunk, corpus: &Corpus) -> Result<Lines> {
    tags.take(chunk.len()).and_then(|lines| {
        if let Some(index) = (0..lines.len()).find(|&index| lines.is_too_long(index)) {
            let (path, line) = (tags.path().display(), corpus.tag_line(chunk.first + index as u64));
            return Err(Error::input(format!(
                "{path}, line {line}: the tag is longer than max_line_bytes: shorten it"
            )));
        }
        if lines.len() == chunk.len() {
            return Ok(lines);
        }
        let (path, ends) = (tags.path().display(), tags.lines);
        Err(Error::input(format!(
            "{path} ends after line {ends}, but the corpus has more records: write one tag per record"
        )))
    })
}

/// Passes over the tags of rows that an earlier pass read; `take_tags` reports it if there are fewer.
fn skip_tags(tags: &mut LineReader<'_>, mut rows: u64) -> Result<()> {
    while rows > 0 {
        let lines = tags.take(rows.min(CHUNK_LINES as u64) as usize)?;
        if lines.is_empty() {
            break;
        }
        rows -= lines.len() as u64;
    }
    Ok(())
}

fn finish_tags(mut tags: LineReader<'_>, rows: u64) -> Result<FileRead> {
    if tags.take(1)?.is_empty() {
        return tags.finish();
    }
    let path = tags.path().display();
    Err(Error::input(format!(
        "{path} goes on after line {rows}, where the corpus ends: write one tag per record"
    )))
}
