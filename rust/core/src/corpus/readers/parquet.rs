//! Rows of a Parquet file, in which one or two columns, perhaps inside structs, are the record.

use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use arrow_array::cast::AsArray;
use arrow_array::{AnyDictionaryArray, Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Fields as Columns, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::columns::shards::guarded;
use crate::corpus::fields::Fields;
use crate::corpus::files_read::FileRead;
use crate::corpus::readers::lines::CHUNK_LINES;
use crate::corpus::record::Pairs;
use crate::corpus::record::Record;
use crate::io::compression::open_file;
use crate::io::digests::digest_open;
use crate::{Error, Progress, Result};

/// Approximate limit of the text in a chunk, in bytes; files with larger rows are read in smaller chunks.
const CHUNK_BYTES: u64 = 64 << 20;

pub struct TableReader<'w> {
    path: PathBuf,
    progress: &'w Progress,
    batches: ParquetRecordBatchReader,
    /// Rows that were read and not returned yet.
    ahead: Option<RecordBatch>,
    /// The open file, hashed at the end, and its size and time when it was opened.
    file: File,
    look: Look,
    /// Rows of the file.
    rows: u64,
    /// Rows returned so far.
    returned: u64,
}

type Builder = ParquetRecordBatchReaderBuilder<File>;

impl<'w> TableReader<'w> {
    /// Opens a file; `whole` reads all columns, otherwise only those with the text.
    pub fn open(path: &Path, fields: &Fields, whole: bool, progress: &'w Progress) -> Result<Self> {
        let (builder, file) = builder(path)?;
        let look = Look::of(path, &file)?;
        let mut leaves = Vec::new();
        for names in fields.paths()? {
            check_column(path, builder.schema().fields(), &names)?;
            let columns = builder.parquet_schema().columns().iter();
            leaves.extend(
                columns.enumerate().filter(|(_, leaf)| leaf.path().parts() == names).map(|(at, _)| at),
            );
        }
        if whole {
            leaves = (0..builder.parquet_schema().num_columns()).collect();
        }
        let groups = builder.metadata().row_groups();
        let rows = groups.iter().map(|group| group.num_rows().max(0) as u64).sum::<u64>();
        let sizes =
            groups.iter().flat_map(|group| leaves.iter().map(|&leaf| group.column(leaf).uncompressed_size()));
        let size = sizes.map(|size| size.max(0) as u64).sum::<u64>();
        let most = (CHUNK_BYTES / (size / rows.max(1)).max(1)).clamp(1, CHUNK_LINES as u64);
        let mask = ProjectionMask::leaves(builder.parquet_schema(), leaves);
        // A power of two divides `CHUNK_LINES`, so that chunks end where those of other formats do.
        let builder = builder.with_projection(mask).with_batch_size(1 << most.ilog2());
        let batches = guarded(path, || builder.build())?;
        Ok(Self { path: path.to_owned(), progress, batches, ahead: None, file, look, rows, returned: 0 })
    }

    /// The next rows; None after the last. No chunk crosses a multiple of `CHUNK_LINES` rows.
    pub fn chunk(&mut self) -> Result<Option<RecordBatch>> {
        let batch = match self.ahead.take() {
            Some(batch) => batch,
            None => match guarded(&self.path, || self.batches.next().transpose().map_err(Into::into))? {
                Some(batch) => batch,
                None => return self.end(),
            },
        };
        let room = CHUNK_LINES - self.returned as usize % CHUNK_LINES;
        let taken = room.min(batch.num_rows());
        if taken < batch.num_rows() {
            self.ahead = Some(batch.slice(taken, batch.num_rows() - taken));
        }
        // Progress counts bytes, but the columns of a row are spread over the file: a row counts as its share of the
        // bytes.
        let share = |rows: u64| {
            (u128::from(self.look.bytes) * u128::from(rows.min(self.rows)) / u128::from(self.rows.max(1)))
                as u64
        };
        self.progress.add(share(self.returned + taken as u64) - share(self.returned), 0);
        self.returned += taken as u64;
        Ok(Some(batch.slice(0, taken)))
    }

    fn end(&self) -> Result<Option<RecordBatch>> {
        let (path, returned, rows) = (self.path.display(), self.returned, self.rows);
        if returned == 0 {
            return Err(Error::empty(&self.path));
        }
        if returned != rows {
            return Err(Error::input(format!(
                "{path} is damaged (the rows end after {returned} of {rows}): fetch the file again"
            )));
        }
        Ok(None)
    }

    /// Returns the digest of the file that was opened, even if the name now has another file. The bytes are read once
    /// more.
    pub fn finish(mut self) -> Result<FileRead> {
        self.file.rewind().map_err(Error::io(&self.path))?;
        let file = self.file.try_clone().map_err(Error::io(&self.path))?;
        let digest = digest_open(file, &self.path, self.progress, |_| ())?;
        if Look::of(&self.path, &self.file)? != self.look {
            let path = self.path.display();
            return Err(Error::input(format!("{path} changed while it was read: run the step again")));
        }
        Ok(FileRead { path: self.path, bytes: self.look.bytes, digest })
    }
}

/// Size and modification time of an open file.
#[derive(PartialEq, Eq)]
struct Look {
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Look {
    fn of(path: &Path, file: &File) -> Result<Self> {
        let metadata = file.metadata().map_err(Error::io(path))?;
        Ok(Self { bytes: metadata.len(), modified: metadata.modified().ok() })
    }
}

/// The reader of a file, and the file for its digest. Both share one position, so the file is used after the reader.
fn builder(path: &Path) -> Result<(Builder, File)> {
    let (file, magic) = open_file(path)?;
    if !magic.starts_with(b"PAR1") {
        return Err(Error::input(format!(
            "{} is not Parquet (its first bytes are not PAR1): correct its name, or give format",
            path.display()
        )));
    }
    let file_to_hash = file.try_clone().map_err(Error::io(path))?;
    Ok((guarded(path, || Builder::try_new(file))?, file_to_hash))
}

/// The schema of a Parquet file.
pub fn parquet_schema(path: &Path) -> Result<SchemaRef> {
    Ok(builder(path)?.0.schema().clone())
}

fn check_column(path: &Path, columns: &Columns, names: &[&str]) -> Result<()> {
    let mut level = columns;
    for (depth, name) in names.iter().enumerate() {
        let Some((_, column)) = level.find(name) else {
            let present: Vec<&str> = level.iter().map(|column| column.name().as_str()).collect();
            let (path, wanted) = (path.display(), names[..=depth].join("."));
            let present = present.join(", ");
            return Err(Error::input(format!(
                "{path} has no column {wanted}, only {present}: give fields with the names of its text columns"
            )));
        };
        if level.iter().filter(|other| other.name() == column.name()).count() > 1 {
            let (path, name) = (path.display(), names[..=depth].join("."));
            return Err(Error::input(format!("{path} has two columns {name}: rename one of them")));
        }
        match column.data_type() {
            DataType::Struct(inner) if depth + 1 < names.len() => level = inner,
            other if depth + 1 == names.len() && is_text(other) => return Ok(()),
            other => {
                let (path, wanted) = (path.display(), names.join("."));
                return Err(Error::input(format!(
                    "{path}: column {wanted} is {other}, not text: give fields with the names of its text columns"
                )));
            }
        }
    }
    Ok(())
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_text(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        _ => matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView),
    }
}

/// Decodes rows to pairs. A row is malformed if a side, or a struct around it, is null. A row is too long if a side has
/// more than `max_line_bytes`.
pub fn decode(batch: &RecordBatch, fields: &Fields, max_line_bytes: usize) -> Result<Pairs> {
    let mut columns = Vec::with_capacity(2);
    for names in fields.paths()? {
        columns.push(TextColumn::find(batch, &names)?);
    }
    let (sources, targets) = match &columns[..] {
        [sources, targets] => (Some(sources), targets),
        [targets, ..] => (None, targets),
        [] => return Ok(Pairs::default()),
    };
    let mut pairs = Pairs::default();
    for row in 0..batch.num_rows() {
        let source = sources.map_or(Some(&[][..]), |sources| sources.text(row));
        pairs.push(match (source, targets.text(row)) {
            (Some(source), Some(target)) if source.len().max(target.len()) > max_line_bytes => {
                Record::TooLong
            }
            (Some(source), Some(target)) => Record::Pair { source, target },
            _ => Record::Malformed,
        });
    }
    Ok(pairs)
}

/// A column of text and the structs around it.
struct TextColumn<'a> {
    structs: Vec<&'a ArrayRef>,
    array: &'a ArrayRef,
    /// The index of each row's value, if the column is a dictionary.
    keys: Option<Vec<usize>>,
    values: &'a ArrayRef,
}

impl<'a> TextColumn<'a> {
    fn find(batch: &'a RecordBatch, names: &[&str]) -> Result<Self> {
        let missing = || {
            let name = names.join(".");
            Error::input(format!(
                "column {name} is missing: a Parquet file changed while it was read: run again"
            ))
        };
        let (first, rest) = names.split_first().ok_or_else(missing)?;
        let mut array = batch.column_by_name(first).ok_or_else(missing)?;
        let mut structs = Vec::new();
        for name in rest {
            structs.push(array);
            array = array.as_struct_opt().and_then(|inner| inner.column_by_name(name)).ok_or_else(missing)?;
        }
        let dictionary = array.as_any_dictionary_opt().filter(|dictionary| !dictionary.values().is_empty());
        let keys = dictionary.map(AnyDictionaryArray::normalized_keys);
        let values = dictionary.map_or(array, |dictionary| dictionary.values());
        Ok(Self { structs, array, keys, values })
    }

    /// None for null.
    fn text(&self, row: usize) -> Option<&'a [u8]> {
        if self.array.is_null(row) || self.structs.iter().any(|outer| outer.is_null(row)) {
            return None;
        }
        let at = self.keys.as_ref().map_or(row, |keys| keys[row]);
        if self.values.is_null(at) {
            return None;
        }
        match self.values.data_type() {
            DataType::Utf8 => self.values.as_string::<i32>().value(at).as_bytes().into(),
            DataType::LargeUtf8 => self.values.as_string::<i64>().value(at).as_bytes().into(),
            DataType::Utf8View => self.values.as_string_view().value(at).as_bytes().into(),
            DataType::Binary => self.values.as_binary::<i32>().value(at).into(),
            DataType::LargeBinary => self.values.as_binary::<i64>().value(at).into(),
            DataType::BinaryView => self.values.as_binary_view().value(at).into(),
            _ => None,
        }
    }
}
