//! An external column: numbers keyed by `row` in Parquet files of any order, opened once, read from any row on.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::statistics::Statistics;

use crate::columns::float32::saturate;
use crate::columns::shards::{BATCH_ROWS, ShardReader, guarded, places, wrong_type};
use crate::{Error, Result, Row};

/// One row group of one file; its rows are `first..=last` or some of them.
struct Piece {
    path: PathBuf,
    footer: ArrowReaderMetadata,
    group: usize,
    first: u64,
    last: u64,
}

impl Piece {
    /// How many records at least come before `row`: there is a record for each row but for so many gaps.
    fn records_before(&self, row: u64) -> u64 {
        let records = self.footer.metadata().row_group(self.group).num_rows().max(0) as u64;
        let gaps = (self.last - self.first + 1).saturating_sub(records);
        row.saturating_sub(self.first).saturating_sub(gaps)
    }
}

/// A column of one or several files. `row` is unique, and ascends in each row group.
pub struct ExternalColumn {
    name: String,
    pieces: Vec<Piece>,
}

impl ExternalColumn {
    /// Opens all files and sorts their row groups by row; overlapping row groups are an error.
    pub fn open(paths: &[PathBuf], name: &str) -> Result<Self> {
        let mut pieces = Vec::new();
        for path in paths {
            let file = File::open(path).map_err(Error::io(path))?;
            let footer = guarded(path, || ArrowReaderMetadata::load(&file, ArrowReaderOptions::default()))?;
            places(path, footer.schema(), &["row", name])?;
            for group in 0..footer.metadata().num_row_groups() {
                if let Some((first, last)) = bounds(path, &footer, group)? {
                    pieces.push(Piece { path: path.clone(), footer: footer.clone(), group, first, last });
                }
            }
        }
        pieces.sort_by_key(|piece| (piece.first, piece.last));
        for pair in pieces.windows(2) {
            if pair[1].first <= pair[0].last {
                return Err(Error::input(format!(
                    "{} goes to row {}, {} begins at {}: sort by row, and give each row once",
                    pair[0].path.display(),
                    pair[0].last,
                    pair[1].path.display(),
                    Row(pair[1].first)
                )));
            }
        }
        Ok(Self { name: name.to_owned(), pieces })
    }

    /// How many parts can be read on their own.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// All rows are below this.
    pub fn end(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.last + 1)
    }

    /// Fails if there are rows from `end` on.
    pub fn check_end(&self, end: u64) -> Result<()> {
        match self.pieces.last() {
            Some(piece) if piece.last >= end => Err(Error::input(format!(
                "{} has row {}, the corpus ends before {}: give its own",
                piece.path.display(),
                piece.last,
                Row(end)
            ))),
            _ => Ok(()),
        }
    }

    /// Reads some of the parts, in row order.
    pub fn read(&self, span: Range<usize>) -> ExternalReading<'_> {
        ExternalReading::of(&self.name, &self.pieces[span])
    }
}

/// The first and the last row of a row group, from its statistics or, where they are missing, by reading it; None if it
/// is empty.
fn bounds(path: &Path, footer: &ArrowReaderMetadata, group: usize) -> Result<Option<(u64, u64)>> {
    let columns = footer.metadata().file_metadata().schema_descr().columns();
    let row_column = columns.iter().position(|column| column.path().parts() == ["row"]);
    let range = |(min, max): (i64, i64)| {
        u64::try_from(min).ok().zip(u64::try_from(max).ok()).filter(|(first, last)| first <= last)
    };
    let known = row_column.and_then(|column| {
        range(match footer.metadata().row_group(group).column(column).statistics()? {
            Statistics::Int64(values) => (*values.min_opt()?, *values.max_opt()?),
            Statistics::Int32(values) => (i64::from(*values.min_opt()?), i64::from(*values.max_opt()?)),
            _ => return None,
        })
    });
    if known.is_some() {
        return Ok(known);
    }
    let (mut bounds, mut next, mut rows): (Option<(u64, u64)>, _, _) = (None, 0, Vec::new());
    for columns in ShardReader::open_group(path, footer, group, 0, &["row"])? {
        ascend(path, &columns?[0], &mut next, &mut rows)?;
        if let (Some(&first), Some(&last)) = (rows.first(), rows.last()) {
            bounds = Some((bounds.map_or(first, |(first, _)| first), last));
        }
    }
    Ok(bounds)
}

/// Reads row numbers, which must ascend from `next` on.
fn ascend(path: &Path, array: &ArrayRef, next: &mut u64, rows: &mut Vec<u64>) -> Result<()> {
    rows.clear();
    let wrong = |shown: String, next: u64| {
        Error::input(format!(
            "{}: {} where {next} or more must come: sort by row, each row once",
            path.display(),
            Row(shown)
        ))
    };
    if array.null_count() > 0 {
        return Err(wrong("null or negative".to_owned(), *next));
    }
    let add = |row: i64, next: &mut u64, rows: &mut Vec<u64>| {
        let Some(row) = u64::try_from(row).ok().filter(|row| row >= next) else {
            let shown = if row < 0 { "null or negative".to_owned() } else { row.to_string() };
            return Err(wrong(shown, *next));
        };
        rows.push(row);
        *next = row + 1;
        Ok(())
    };
    match array.data_type() {
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>().values();
            // Checked without a branch for each row; only if the check fails is the first wrong row searched.
            let ascends = values.windows(2).filter(|pair| pair[0] >= pair[1]).count() == 0;
            match (values.first(), values.last()) {
                (Some(&first), Some(&last))
                    if ascends && u64::try_from(first).is_ok_and(|first| first >= *next) =>
                {
                    rows.extend(values.iter().map(|&row| row as u64));
                    *next = last as u64 + 1;
                    Ok(())
                }
                _ => values.iter().try_for_each(|&row| add(row, next, rows)),
            }
        }
        DataType::Int32 => array
            .as_primitive::<Int32Type>()
            .values()
            .iter()
            .try_for_each(|&row| add(i64::from(row), next, rows)),
        DataType::UInt32 => array
            .as_primitive::<UInt32Type>()
            .values()
            .iter()
            .try_for_each(|&row| add(i64::from(row), next, rows)),
        // Numbers beyond 2^63 become negative, and are refused.
        DataType::UInt64 => array
            .as_primitive::<UInt64Type>()
            .values()
            .iter()
            .try_for_each(|&row| add(row as i64, next, rows)),
        _ => Err(wrong_type(path, "row", array, "an integer")),
    }
}

/// A position in a column, with the records that were read last.
pub struct ExternalReading<'a> {
    name: &'a str,
    /// Whether `rows` stays empty: the scores alone are read, about twice as fast.
    pub rowless: bool,
    pieces: &'a [Piece],
    reader: Option<(ShardReader, &'a Piece)>,
    next: u64,
    pub rows: Vec<u64>,
    /// NaN if the record has no value.
    pub scores: Vec<f32>,
    at: usize,
}

impl<'a> ExternalReading<'a> {
    fn of(name: &'a str, pieces: &'a [Piece]) -> Self {
        let (rows, scores) = (Vec::new(), Vec::new());
        Self { name, rowless: false, pieces, reader: None, next: 0, rows, scores, at: 0 }
    }

    /// Reads the next records into `rows` and `scores`; false at the end.
    pub fn batch(&mut self) -> Result<bool> {
        loop {
            if let Some((reader, piece)) = &mut self.reader {
                if let Some(columns) = reader.next().transpose()? {
                    self.at = 0;
                    if !self.rowless {
                        ascend(&piece.path, &columns[1], &mut self.next, &mut self.rows)?;
                        check_statistics(piece, self.next)?;
                    }
                    let nan = fill(&piece.path, self.name, &columns[0], &mut self.scores)?;
                    match nan {
                        None => return Ok(true),
                        Some(index) => return Err(is_nan(piece, self.name, self.rows.get(index))),
                    }
                }
                self.reader = None;
            }
            let Some((piece, rest)) = self.pieces.split_first() else { return Ok(false) };
            self.pieces = rest;
            self.open(piece, 0)?;
        }
    }

    fn open(&mut self, piece: &'a Piece, skip: usize) -> Result<()> {
        let names = [self.name, "row"];
        let names = &names[..if self.rowless { 1 } else { 2 }];
        let reader = ShardReader::open_group(&piece.path, &piece.footer, piece.group, skip, names)?;
        self.next = piece.first;
        self.reader = Some((reader, piece));
        Ok(())
    }

    /// The scores of these ascending rows, NaN for rows that the column lacks; other rows are skipped.
    pub fn join(&mut self, rows: &[u64], scores: &mut Vec<f32>) -> Result<()> {
        scores.clear();
        for &row in rows {
            let found = self.seek(row)?;
            scores.push(if found { self.scores[self.at] } else { f32::NAN });
        }
        Ok(())
    }

    /// Moves to the first record at or after `row`; true if it has this row.
    fn seek(&mut self, row: u64) -> Result<bool> {
        loop {
            while let Some(&found) = self.rows.get(self.at) {
                if found >= row {
                    return Ok(found == row);
                }
                self.at += 1;
            }
            if self.reader.as_ref().is_none_or(|(_, piece)| piece.last < row) {
                self.reader = None;
                let passed = self.pieces.partition_point(|piece| piece.last < row);
                self.pieces = &self.pieces[passed..];
            }
            self.jump(row)?;
            if !self.batch()? {
                return Ok(false);
            }
        }
    }

    /// Skips records below `row` without decoding them, if they are many: a thread that reads every so many rows must not
    /// read all of the file.
    fn jump(&mut self, row: u64) -> Result<()> {
        let (piece, next) = match &self.reader {
            Some((_, piece)) => (*piece, self.next),
            None => match self.pieces.split_first() {
                Some((piece, rest)) => {
                    self.pieces = rest;
                    self.open(piece, 0)?;
                    (piece, piece.first)
                }
                None => return Ok(()),
            },
        };
        let skip = piece.records_before(row);
        // No more than so many records of the piece come before row `next`.
        if skip > next - piece.first + BATCH_ROWS as u64 {
            self.open(piece, skip as usize)?;
        }
        Ok(())
    }
}

fn check_statistics(piece: &Piece, next: u64) -> Result<()> {
    if next <= piece.last + 1 {
        return Ok(());
    }
    Err(Error::input(format!(
        "{}: {} is beyond what its statistics say: write it again",
        piece.path.display(),
        Row(next - 1)
    )))
}

/// The error of a NaN in this row; without row numbers, the row group is read again to find the row.
fn is_nan(piece: &Piece, name: &str, row: Option<&u64>) -> Error {
    let Some(row) = row else {
        let pieces = std::slice::from_ref(piece);
        let mut reading = ExternalReading::of(name, pieces);
        return loop {
            match reading.batch() {
                Ok(true) => {}
                Ok(false) => {
                    let path = piece.path.display();
                    break Error::input(format!("{path} has changed while it was read: run the step again"));
                }
                Err(error) => break error,
            }
        };
    };
    let (path, row) = (piece.path.display(), Row(row));
    Error::input(format!("{path}: {name} of {row} is NaN: write null where there is no score"))
}

/// Reads numbers as float32. Values beyond its range become the largest finite value, null becomes NaN. Returns the
/// index of the first stored NaN.
fn fill(path: &Path, name: &str, array: &ArrayRef, scores: &mut Vec<f32>) -> Result<Option<usize>> {
    fn all<T: ArrowPrimitiveType>(array: &ArrayRef, scores: &mut Vec<f32>, to: impl Fn(T::Native) -> f32) {
        let array = array.as_primitive::<T>();
        scores.clear();
        scores.extend(array.values().iter().map(|&value| to(value)));
        if let Some(nulls) = array.nulls() {
            for (index, score) in scores.iter_mut().enumerate() {
                if nulls.is_null(index) {
                    *score = f32::NAN;
                }
            }
        }
    }
    match array.data_type() {
        DataType::Float32 => all::<Float32Type>(array, scores, |value| value.clamp(f32::MIN, f32::MAX)),
        DataType::Float64 => all::<Float64Type>(array, scores, saturate),
        DataType::Int8 => all::<Int8Type>(array, scores, f32::from),
        DataType::Int16 => all::<Int16Type>(array, scores, f32::from),
        DataType::Int32 => all::<Int32Type>(array, scores, |value| value as f32),
        DataType::Int64 => all::<Int64Type>(array, scores, |value| value as f32),
        DataType::UInt8 => all::<UInt8Type>(array, scores, f32::from),
        DataType::UInt16 => all::<UInt16Type>(array, scores, f32::from),
        DataType::UInt32 => all::<UInt32Type>(array, scores, |value| value as f32),
        DataType::UInt64 => all::<UInt64Type>(array, scores, |value| value as f32),
        _ => return Err(wrong_type(path, name, array, "float32, float64 or an integer")),
    }
    // Checked without a branch for each value.
    if scores.iter().filter(|score| score.is_nan()).count() == 0 {
        return Ok(None);
    }
    Ok((0..scores.len()).find(|&index| scores[index].is_nan() && array.is_valid(index)))
}
