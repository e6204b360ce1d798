//! Output formats: lines of text, TSV or JSON, rows of Parquet, units of TMX. If the inputs have the same format, whole
//! records are copied, so that their other fields survive.

use std::io::Write;
use std::ops::RangeFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;
use parquet::arrow::ArrowWriter;
use serde::{Deserialize, Serialize};
use simdutf8::basic::from_utf8;

use crate::corpus::chunk::Chunk;
use crate::corpus::fields::{Fields, shared};
use crate::corpus::readers::lines::{LineReader, MARK};
use crate::corpus::readers::parquet_text::invalid_rows;
use crate::corpus::readers::{tmx, tsv};
use crate::corpus::record::Record;
use crate::corpus::request::{Corpus, Input};
use crate::io::atomic_files::{Draft, Sealed};
use crate::io::compression::compress;
use crate::writing::added::{Added, clash};
use crate::writing::json_template::Template;
use crate::writing::parquet_copy::{TableSchema, are_alike, has_already};
use crate::writing::tmx_units::Units;
use crate::{Error, Progress, Result};

/// The approximate bytes of a Parquet row group.
const GROUP_BYTES: usize = 64 << 20;

/// The files of an output; text is compressed if the name ends in `.gz`, `.zst`, `.xz` or `.bz2`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "lowercase")]
pub enum Output {
    Moses {
        source: PathBuf,
        target: PathBuf,
    },
    /// The target side of a monolingual corpus.
    Text {
        path: PathBuf,
    },
    Tsv {
        path: PathBuf,
    },
    Jsonl {
        path: PathBuf,
        #[serde(flatten)]
        fields: Fields,
    },
    Parquet {
        path: PathBuf,
        #[serde(flatten)]
        fields: Fields,
    },
    Tmx {
        path: PathBuf,
        source_language: String,
        target_language: String,
    },
}

impl Output {
    pub fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Moses { source, target } => vec![source, target],
            Self::Text { path }
            | Self::Tsv { path }
            | Self::Jsonl { path, .. }
            | Self::Parquet { path, .. }
            | Self::Tmx { path, .. } => vec![path],
        }
    }

    /// Fails unless the output has as many sides as the corpus.
    fn check(&self, corpus: &Corpus) -> Result<()> {
        let monolingual = corpus.is_monolingual();
        let fits = match self {
            Self::Moses { .. } | Self::Tmx { .. } => !monolingual,
            Self::Text { .. } => monolingual,
            Self::Tsv { .. } => true,
            Self::Jsonl { fields, .. } | Self::Parquet { fields, .. } => {
                fields.source_field.is_none() == monolingual
            }
        };
        let [corpus_sides, output_sides] =
            if monolingual { ["one side", "two"] } else { ["two sides", "one"] };
        if fits {
            return Ok(());
        }
        Err(Error::input(format!(
            "the corpus has {corpus_sides}, the output has {output_sides}: give an output with {corpus_sides}"
        )))
    }

    /// Fails if it cannot hold columns beside the sides, or names a side like one of them.
    fn check_added(&self, added: &[Added]) -> Result<()> {
        match self {
            _ if added.is_empty() => Ok(()),
            Self::Moses { .. } | Self::Text { .. } | Self::Tmx { .. } => Err(Error::input(
                "the output holds nothing but the sides: columns go into TSV, JSONL or Parquet",
            )),
            Self::Tsv { .. } => Ok(()),
            Self::Jsonl { fields, .. } | Self::Parquet { fields, .. } => {
                let paths = fields.paths()?;
                let clash = added.iter().find(|added| paths.iter().any(|path| path[0] == added.name()));
                clash.map_or(Ok(()), |clash| Err(has_already("the output", clash.name())))
            }
        }
    }

    /// Whether whole records can be copied: all inputs have this format; for TSV the same number of columns and the same
    /// header, for Parquet the same columns, for TMX the same language codes.
    pub fn is_whole(&self, corpus: &Corpus) -> Result<bool> {
        let same = corpus.inputs.iter().all(|input| match (self, input) {
            (
                Self::Tmx { source_language, target_language, .. },
                Input::Tmx { source_language: source, target_language: target, .. },
            ) => {
                [source_language, target_language].map(|code| tmx::canonical(code))
                    == [source, target].map(|code| tmx::canonical(code))
            }
            (Self::Tsv { .. }, Input::Tsv { .. })
            | (Self::Jsonl { .. }, Input::Jsonl { .. })
            | (Self::Parquet { .. }, Input::Parquet { .. }) => true,
            _ => false,
        });
        match self {
            Self::Parquet { .. } if same => are_alike(&tables(corpus)),
            Self::Tsv { .. } if same => {
                let shapes = corpus.inputs.iter().map(|input| tsv_shape(input, corpus));
                let shapes = shapes.collect::<Result<Vec<_>>>()?;
                Ok(shapes.windows(2).all(|pair| pair[0] == pair[1]))
            }
            _ => Ok(same),
        }
    }
}

/// The number of columns of a TSV file, and its header if it has one.
fn tsv_shape(input: &Input, corpus: &Corpus) -> Result<(usize, Option<Vec<u8>>)> {
    let Input::Tsv { path, header, .. } = input else { return Ok((0, None)) };
    let progress = Progress::default();
    let lines = LineReader::open(path, corpus.max_line_bytes, corpus.memory, &progress)?.take(1)?;
    if lines.is_empty() || lines.is_too_long(0) {
        return Ok((0, None));
    }
    let line = lines.line(0);
    Ok((tsv::columns(line, None, 1).count, header.then(|| line.to_vec())))
}

/// The Parquet files of a corpus.
fn tables(corpus: &Corpus) -> Vec<&Path> {
    let inputs = corpus.inputs.iter();
    let tables = inputs.filter_map(|input| match input {
        Input::Parquet { path, .. } => Some(path.as_path()),
        _ => None,
    });
    tables.collect()
}

/// Formats records for an output.
pub struct Format<'a> {
    output: &'a Output,
    /// Columns beside the sides.
    added: &'a [Added],
    pub whole: bool,
    /// The sides that are written: all, or only the target of a monolingual corpus.
    sides: RangeFrom<usize>,
    template: Option<Template>,
    table: Option<TableSchema>,
    units: Option<Units>,
    /// What begins and ends each file.
    frame: Option<[Vec<u8>; 2]>,
}

/// The formatted records of a chunk for one file.
pub enum Piece {
    /// Compressed text, and whether it begins with U+FEFF.
    Bytes {
        bytes: Vec<u8>,
        marked: bool,
    },
    Rows(RecordBatch),
}

/// The formatted records of a chunk for one output.
#[derive(Default)]
pub struct Formatted {
    /// The indices of the records that were written.
    pub written: Vec<usize>,
    /// The rows of records that the format cannot hold.
    pub unwritable: Vec<u64>,
    /// One piece per file.
    pub pieces: Vec<Piece>,
}

impl<'a> Format<'a> {
    pub fn new(output: &'a Output, added: &'a [Added], corpus: &Corpus) -> Result<Self> {
        output.check(corpus)?;
        output.check_added(added)?;
        let whole = output.is_whole(corpus)?;
        let sides = usize::from(corpus.is_monolingual())..;
        let (mut template, mut table, mut units, mut frame) = (None, None, None, None);
        match output {
            Output::Jsonl { fields, .. } => template = Some(Template::new(fields)?),
            Output::Parquet { fields, .. } => {
                table = Some(if whole {
                    TableSchema::copied(&tables(corpus), added)?
                } else {
                    let none = [StringArray::new_null(0), StringArray::new_null(0)];
                    TableSchema::made(&columns(fields, &none[sides.clone()])?.schema(), added)?
                });
            }
            Output::Tmx { source_language, target_language, .. } => {
                let first = corpus.inputs.first().and_then(|input| input.paths().next());
                let opening = first.filter(|_| whole).map(tmx::opening).transpose()?.flatten();
                let made = Units::new(source_language, target_language, opening);
                frame = Some(made.frame.clone());
                units = Some(made);
            }
            Output::Tsv { .. } if whole => {
                let (_, header) =
                    corpus.inputs.first().map_or(Ok((0, None)), |input| tsv_shape(input, corpus))?;
                frame = header.map(|header| [with_names(header, added), Vec::new()]);
            }
            Output::Moses { .. } | Output::Text { .. } | Output::Tsv { .. } => {}
        }
        Ok(Self { output, added, whole, sides, template, table, units, frame })
    }

    /// Creates the files, in the order of the pieces.
    pub fn create(&self) -> Result<Vec<Sink>> {
        let paths = self.output.paths().into_iter();
        paths.map(|path| Sink::create(path, self.table.as_ref(), self.frame.as_ref())).collect()
    }

    /// Formats the records with these indices. A record that is not a pair is unwritable.
    pub fn format(
        &self,
        chunk: &Chunk,
        corpus: &Corpus,
        indices: impl Iterator<Item = usize>,
    ) -> Result<Formatted> {
        let mut formatted = Formatted::default();
        let mut text: [Vec<u8>; 2] = Default::default();
        let of_lines = matches!(self.output, Output::Moses { .. } | Output::Text { .. });
        if of_lines && chunk.run(0..chunk.len()).is_some() {
            formatted.written = indices.collect();
            copy_runs(chunk, &formatted.written, &mut text, self.sides.clone());
            formatted.pieces = self.pack(text)?;
            return Ok(formatted);
        }
        let copied = if self.whole { chunk.batch()? } else { None };
        let invalid = match (&copied, &self.table) {
            (Some(batch), Some(table)) => invalid_rows(batch, &table.text),
            _ => Vec::new(),
        };
        for index in indices {
            let whole = chunk.whole(index).filter(|_| self.whole);
            let end = text[0].len();
            let done = match chunk.record(index) {
                Record::Pair { source, target } => {
                    invalid.get(index) != Some(&true)
                        && self.push(&mut text, whole.as_deref(), source, target)
                        && self.push_added(&mut text[0], end, chunk, corpus, index)?
                }
                Record::TooLong | Record::Malformed | Record::Columns | Record::MissingSide => false,
            };
            if done {
                formatted.written.push(index);
            } else {
                formatted.unwritable.push(chunk.first + index as u64);
            }
        }
        formatted.pieces = if let Some(table) = &self.table {
            vec![Piece::Rows(self.rows(copied.as_ref(), chunk, corpus, &formatted.written, &table.rows)?)]
        } else {
            self.pack(text)?
        };
        Ok(formatted)
    }

    /// The rows with the columns beside the sides.
    fn beside(
        &self,
        columns: &[ArrayRef],
        chunk: &Chunk,
        corpus: &Corpus,
        written: &[usize],
        schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        let mut columns = columns.to_vec();
        for added in self.added {
            columns.push(added.column(chunk, corpus, written)?);
        }
        RecordBatch::try_new(Arc::clone(schema), columns)
            .map_err(|error| Error::input(format!("Parquet rows cannot be copied ({error})")))
    }

    fn pack(&self, text: [Vec<u8>; 2]) -> Result<Vec<Piece>> {
        let paths = self.output.paths().into_iter().zip(text);
        paths.map(|(path, text)| pack(text, path)).collect()
    }

    /// Appends one pair, or its whole record; false if the format cannot hold it. For Parquet this only checks: `rows`
    /// copies the rows.
    fn push(&self, text: &mut [Vec<u8>; 2], whole: Option<&[u8]>, source: &[u8], target: &[u8]) -> bool {
        let any =
            |byte| memchr::memchr2(byte, b'\n', source).or(memchr::memchr2(byte, b'\n', target)).is_some();
        let utf8 = || Some((std::str::from_utf8(source).ok()?, std::str::from_utf8(target).ok()?));
        // A reader would take a `\r` at the end for a part of the line end.
        let returns = |side: &[u8]| side.ends_with(b"\r");
        let [first, second] = text;
        match (self.output, whole) {
            (Output::Moses { .. }, _) if any(b'\n') || returns(source) || returns(target) => return false,
            (Output::Moses { .. }, _) => {
                push_line(first, &[source]);
                push_line(second, &[target]);
            }
            (Output::Text { .. }, _) if any(b'\n') || returns(target) => return false,
            (Output::Text { .. }, _) => push_line(first, &[target]),
            (Output::Tsv { .. }, Some(record)) if returns(record) => return false,
            // Other tools refuse a file of JSON that is not UTF-8 as a whole.
            (Output::Jsonl { .. }, Some(record)) if from_utf8(record).is_err() => return false,
            (Output::Tsv { .. } | Output::Jsonl { .. }, Some(record)) => push_line(first, &[record]),
            (Output::Tsv { .. }, None) if any(b'\t') || returns(target) => return false,
            (Output::Tsv { .. }, None) => {
                push_line(first, &[source, b"\t", target][2 * self.sides.start..]);
            }
            (Output::Jsonl { .. }, None) => match (utf8(), &self.template) {
                (Some((source, target)), Some(template)) => {
                    template.push(first, &[source, target][self.sides.clone()]);
                }
                _ => return false,
            },
            (Output::Tmx { .. }, _) => {
                return utf8()
                    .zip(self.units.as_ref())
                    .is_some_and(|((source, target), units)| units.push(first, whole, source, target));
            }
            (Output::Parquet { .. }, _) => return self.whole || utf8().is_some(),
        }
        true
    }

    /// Adds the columns to the record that begins at `from` and ends the text; false, and without the record, if the
    /// format cannot hold one of them.
    fn push_added(
        &self,
        text: &mut Vec<u8>,
        from: usize,
        chunk: &Chunk,
        corpus: &Corpus,
        index: usize,
    ) -> Result<bool> {
        match self.output {
            Output::Tsv { .. } if !self.added.is_empty() => {
                text.pop();
                for added in self.added {
                    if !added.push_tsv(text, chunk, corpus, index)? {
                        text.truncate(from);
                        return Ok(false);
                    }
                }
                text.push(b'\n');
            }
            Output::Jsonl { .. } if !self.added.is_empty() => {
                if let Some(clash) = clash(&text[from..], self.added).filter(|_| self.whole) {
                    let path = corpus.inputs[chunk.input].paths().next().unwrap_or(Path::new("")).display();
                    let line = chunk.first + index as u64 - chunk.input_first + 1;
                    return Err(has_already(&format!("{path}, line {line}"), clash.name()));
                }
                let end = text.trim_ascii_end().len() - 1;
                text.truncate(end);
                self.added.iter().try_for_each(|added| added.push_json(text, chunk, corpus, index))?;
                text.extend_from_slice(b"}\n");
            }
            _ => {}
        }
        Ok(true)
    }

    /// The rows that are written: of the batch `copied`, or of the two sides.
    fn rows(
        &self,
        copied: Option<&RecordBatch>,
        chunk: &Chunk,
        corpus: &Corpus,
        written: &[usize],
        schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        let failed = |error: arrow_schema::ArrowError| {
            Error::input(format!("Parquet rows cannot be copied ({error})"))
        };
        if let Some(batch) = copied {
            let mut mask = vec![false; chunk.len()];
            for &index in written {
                mask[index] = true;
            }
            let kept = filter_record_batch(batch, &BooleanArray::from(mask)).map_err(failed)?;
            return self.beside(kept.columns(), chunk, corpus, written, schema);
        }
        let side = |side: usize| -> StringArray {
            let pairs = written.iter().map(|&index| match chunk.record(index) {
                Record::Pair { source, target } => std::str::from_utf8([source, target][side]).ok(),
                _ => None,
            });
            pairs.collect()
        };
        match self.output {
            Output::Parquet { fields, .. } => {
                let sides = columns(fields, &[side(0), side(1)][self.sides.clone()])?;
                self.beside(sides.columns(), chunk, corpus, written, schema)
            }
            _ => Err(Error::input("rows are only written as Parquet: this is a bug of catprune")),
        }
    }
}

/// A header of TSV with the names of the columns beside the sides, as a line.
fn with_names(mut header: Vec<u8>, added: &[Added]) -> Vec<u8> {
    for added in added {
        header.push(b'\t');
        header.extend_from_slice(added.name().as_bytes());
    }
    header.push(b'\n');
    header
}

/// Compresses text as a piece of a file; empty text stays empty, without an empty member.
pub fn pack(text: Vec<u8>, path: &Path) -> Result<Piece> {
    let marked = text.starts_with(MARK);
    let packed = if text.is_empty() { Ok(text) } else { compress(text, path) };
    packed.map(|bytes| Piece::Bytes { bytes, marked }).map_err(Error::io(path))
}

/// Copies lines from the files of the input to as many files; consecutive lines are copied together.
fn copy_runs(chunk: &Chunk, indices: &[usize], text: &mut [Vec<u8>; 2], written: RangeFrom<usize>) {
    for run in indices.chunk_by(|index, next| index + 1 == *next) {
        let sides = chunk.run(run[0]..run[run.len() - 1] + 1).unwrap_or_default();
        for (text, side) in text.iter_mut().zip(&sides[written.clone()]) {
            text.extend_from_slice(side);
            if !side.ends_with(b"\n") {
                text.push(b'\n');
            }
        }
    }
}

fn push_line(text: &mut Vec<u8>, pieces: &[&[u8]]) {
    for piece in pieces {
        text.extend_from_slice(piece);
    }
    text.push(b'\n');
}

/// The sides as columns, inside structs if the field names have dots.
fn columns(fields: &Fields, texts: &[StringArray]) -> Result<RecordBatch> {
    let paths = fields.paths()?;
    let level = shared(&paths);
    let wrap = |name: &str, inner: Vec<(Field, ArrayRef)>| -> Result<(Field, ArrayRef)> {
        let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = inner.into_iter().unzip();
        let array = StructArray::try_new(fields.into(), arrays, None)
            .map_err(|error| Error::input(error.to_string()))?;
        let array: ArrayRef = Arc::new(array);
        Ok((Field::new(name, array.data_type().clone(), false), array))
    };
    let mut sides = Vec::with_capacity(2);
    for (path, array) in paths.iter().zip(texts) {
        let names = &path[level..];
        let (last, structs) =
            names.split_last().ok_or_else(|| Error::input("a field has no name: give fields"))?;
        let mut column: (Field, ArrayRef) =
            (Field::new(*last, DataType::Utf8, false), Arc::new(array.clone()));
        for name in structs.iter().rev() {
            column = wrap(name, vec![column])?;
        }
        sides.push(column);
    }
    for name in paths[0][..level].iter().rev() {
        sides = vec![wrap(name, sides)?];
    }
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = sides.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
        .map_err(|error| Error::input(error.to_string()))
}

/// An output file that pieces are appended to.
pub enum Sink {
    Text { path: PathBuf, draft: Box<Draft>, footer: Vec<u8>, empty: bool },
    Table { path: PathBuf, writer: Box<ArrowWriter<Draft>> },
}

impl Sink {
    /// Creates a Parquet file if there is a `table`, otherwise a text file; `frame` is its header and footer.
    pub fn create(path: &Path, table: Option<&TableSchema>, frame: Option<&[Vec<u8>; 2]>) -> Result<Self> {
        let mut draft = Draft::create(path)?;
        draft.sync_in_background()?;
        let path = path.to_owned();
        let Some(table) = table else {
            let [header, footer] = frame.cloned().unwrap_or_default();
            let mut sink = Self::Text { path: path.clone(), draft: Box::new(draft), footer, empty: true };
            sink.write(&pack(header, &path)?)?;
            return Ok(sink);
        };
        let writer = table.write_to(draft, &path)?;
        Ok(Self::Table { path, writer: Box::new(writer) })
    }

    pub fn write(&mut self, piece: &Piece) -> Result<()> {
        match (self, piece) {
            (Self::Text { path, draft, empty, .. }, Piece::Bytes { bytes, marked }) => {
                let mut write = |bytes: &[u8]| draft.write_all(bytes).map_err(Error::io(path));
                if *empty && *marked {
                    // Readers take U+FEFF at the start of a file for a mark; another one before it keeps the text.
                    write(&compress(MARK.to_vec(), path).map_err(Error::io(path))?)?;
                }
                *empty &= bytes.is_empty();
                write(bytes)
            }
            (Self::Table { path, writer }, Piece::Rows(rows)) => {
                let mut write = || {
                    writer.write(rows)?;
                    if writer.in_progress_size() > GROUP_BYTES { writer.flush() } else { Ok(()) }
                };
                write().map_err(|error| Error::parquet(path, error))
            }
            _ => Err(Error::input("a piece of another format: this is a bug of catprune")),
        }
    }

    pub fn seal(self) -> Result<Sealed> {
        match self {
            Self::Text { path, mut draft, footer, empty } => {
                // A compressed file without a member is invalid, so an empty output gets an empty member.
                if empty || !footer.is_empty() {
                    let end = compress(footer, &path).map_err(Error::io(&path))?;
                    draft.write_all(&end).map_err(Error::io(&path))?;
                }
                draft.seal()
            }
            Self::Table { path, writer } => {
                writer.into_inner().map_err(|error| Error::parquet(&path, error))?.seal()
            }
        }
    }
}
