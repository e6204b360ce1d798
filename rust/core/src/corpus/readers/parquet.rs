//! Rows of a Parquet file, in which one or two columns are the record.

use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::{FileMetaData, ParquetMetaData};
use parquet::schema::types::{SchemaDescPtr, SchemaDescriptor};

use crate::columns::parquet_file::ParquetFile;
use crate::columns::shards::guarded;
use crate::corpus::fields::Fields;
use crate::corpus::files_read::FileRead;
use crate::corpus::readers::lines::CHUNK_LINES;
use crate::corpus::readers::parquet_text::{as_bytes, check_column, paths, text_bytes, without_text};
use crate::io::compression::open_file;
use crate::io::digests::digest_open;
use crate::{Error, Progress, Result};

/// Approximate limit of the text in a chunk, in bytes; files with larger rows are read in smaller chunks.
const CHUNK_BYTES: usize = 16 << 20;

pub struct TableReader<'w> {
    path: PathBuf,
    progress: &'w Progress,
    batches: ParquetRecordBatchReader,
    /// Rows that were read and not returned yet.
    ahead: Option<RecordBatch>,
    /// The open file, hashed at the end, and its size and time when it was opened.
    file: File,
    look: Look,
    /// The writer that the file names, if it is one that wrote pages in a way of its own.
    old_writer: Option<String>,
    /// Rows of the file.
    rows: u64,
    /// Rows returned so far.
    returned: u64,
}

type Builder = ParquetRecordBatchReaderBuilder<ParquetFile>;

impl<'w> TableReader<'w> {
    /// Opens a file; `whole` reads all columns, otherwise only those with the text.
    pub fn open(path: &Path, fields: &Fields, whole: bool, progress: &'w Progress) -> Result<Self> {
        let (builder, file) = builder(path)?;
        let look = Look::of(path, &file)?;
        let mut leaves = Vec::new();
        for names in paths(builder.schema().fields(), fields)? {
            let column = &names[..check_column(path, builder.schema().fields(), &names)?];
            let leads = |parts: &[String]| {
                parts.len() >= column.len() && parts.iter().zip(column).all(|(a, b)| a == b)
            };
            let columns = builder.parquet_schema().columns().iter().enumerate();
            leaves.extend(columns.filter(|(_, leaf)| leads(leaf.path().parts())).map(|(at, _)| at));
        }
        if whole {
            leaves = (0..builder.parquet_schema().num_columns()).collect();
        }
        let groups = builder.metadata().row_groups();
        let rows = groups.iter().map(|group| group.num_rows().max(0) as u64).sum::<u64>();
        let sizes =
            groups.iter().flat_map(|group| leaves.iter().map(|&leaf| group.column(leaf).uncompressed_size()));
        let size = sizes.map(|size| size.max(0) as u64).sum::<u64>();
        let most = (CHUNK_BYTES as u64 / (size / rows.max(1)).max(1)).clamp(1, CHUNK_LINES as u64);
        let writer = builder.metadata().file_metadata().created_by();
        let old_writer = writer.filter(|writer| is_old(writer)).map(str::to_owned);
        let mask = ProjectionMask::leaves(builder.parquet_schema(), leaves);
        // A power of two divides `CHUNK_LINES`, so that chunks end where those of other formats do.
        let builder = builder.with_projection(mask).with_batch_size(1 << most.ilog2());
        let batches = guarded(path, || builder.build())?;
        let path = path.to_owned();
        Ok(Self { path, progress, batches, ahead: None, file, look, old_writer, rows, returned: 0 })
    }

    /// The next rows, and the bytes of their text; None after the last. No chunk crosses a multiple of `CHUNK_LINES`
    /// rows, and only a single row may have more than `CHUNK_BYTES` of text: a dictionary repeats a value in many rows.
    pub fn chunk(&mut self) -> Result<Option<(RecordBatch, usize)>> {
        let batch = match self.ahead.take() {
            Some(batch) => batch,
            None => match self.next_batch()? {
                Some(batch) => batch,
                None => return self.end(),
            },
        };
        let room = CHUNK_LINES - self.returned as usize % CHUNK_LINES;
        let mut taken = room.min(batch.num_rows());
        let mut text = text_bytes(&batch.slice(0, taken));
        while taken > 1 && text > CHUNK_BYTES {
            taken /= 2;
            text = text_bytes(&batch.slice(0, taken));
        }
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
        Ok(Some((batch.slice(0, taken), text)))
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let batch = guarded(&self.path, || self.batches.next().transpose().map_err(Into::into));
        match (batch, &self.old_writer) {
            (Err(Error::Input(message)), Some(writer)) => Err(Error::input(format!(
                "{message}; if other programs read the file, its writer ({writer}) is too old for this version: \
                 write it again with a newer one, such as pyarrow"
            ))),
            (batch, _) => batch,
        }
    }

    fn end(&self) -> Result<Option<(RecordBatch, usize)>> {
        let (path, returned, rows) = (self.path.display(), self.returned, self.rows);
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

/// Whether a writer may have written pages that only the readers of its time and their successors know: `parquet-cpp`
/// before Arrow 3 marked compressed pages of version 2 as not compressed, and `parquet-mr` named no version before 1.0.
fn is_old(writer: &str) -> bool {
    let (name, version) = writer.split_once(" version ").unwrap_or((writer, ""));
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(0);
    name.starts_with("parquet-cpp") && major < 3 || name.starts_with("parquet-mr") && major < 1
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

/// The reader of a file, which reads text as views, and the file for its digest. Both share one position, so the file is
/// used after the reader.
fn builder(path: &Path) -> Result<(Builder, File)> {
    let (footer, file) = footer(path)?;
    let options = ArrowReaderOptions::new().with_schema(as_bytes(footer.schema()));
    let metadata = footer.metadata();
    let described = metadata.file_metadata();
    let plain = FileMetaData::new(
        described.version(),
        described.num_rows(),
        described.created_by().map(str::to_owned),
        described.key_value_metadata().cloned(),
        Arc::new(SchemaDescriptor::new(without_text(described.schema()))),
        described.column_orders().cloned(),
    );
    let metadata = Arc::new(ParquetMetaData::new(plain, metadata.row_groups().to_vec()));
    let footer = guarded(path, || ArrowReaderMetadata::try_new(metadata, options))?;
    let reader = file.try_clone().map_err(Error::io(path))?;
    Ok((Builder::new_with_metadata(ParquetFile(reader), footer), file))
}

fn footer(path: &Path) -> Result<(ArrowReaderMetadata, File)> {
    let (file, magic) = open_file(path)?;
    if !magic.starts_with(b"PAR1") {
        return Err(Error::input(format!(
            "{} is not Parquet (its first bytes are not PAR1): correct its name, or give format",
            path.display()
        )));
    }
    let footer = guarded(path, || ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()))?;
    Ok((footer, file))
}

/// The schema of a Parquet file, in Arrow's types and in its own.
pub fn parquet_schema(path: &Path) -> Result<(SchemaRef, SchemaDescPtr)> {
    let footer = footer(path)?.0;
    Ok((footer.schema().clone(), footer.metadata().file_metadata().schema_descr_ptr()))
}
