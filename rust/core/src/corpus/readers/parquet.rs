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
use crate::columns::parquet_pages::PagesRead;
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
    footer: ArrowReaderMetadata,
    /// The columns that are read.
    leaves: Vec<usize>,
    /// Bytes of the pass.
    memory: usize,
    /// The reader of some row groups, and the first row group after them.
    batches: Option<ParquetRecordBatchReader>,
    next_group: usize,
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

impl<'w> TableReader<'w> {
    /// Opens a file; `whole` reads all columns, otherwise only those with the text. Pages that need more than a share of
    /// `memory` end with an error.
    pub fn open(
        path: &Path,
        fields: &Fields,
        whole: bool,
        memory: usize,
        progress: &'w Progress,
    ) -> Result<Self> {
        let (footer, file) = text_footer(path)?;
        let look = Look::of(path, &file)?;
        let metadata = footer.metadata();
        let columns = metadata.file_metadata().schema_descr().columns();
        let mut leaves = Vec::new();
        for names in paths(footer.schema().fields(), fields)? {
            let column = &names[..check_column(path, footer.schema().fields(), &names)?];
            let leads = |parts: &[String]| {
                parts.len() >= column.len() && parts.iter().zip(column).all(|(a, b)| a == b)
            };
            let text = columns.iter().enumerate().filter(|(_, leaf)| leads(leaf.path().parts()));
            leaves.extend(text.map(|(at, _)| at));
        }
        if whole {
            leaves = (0..columns.len()).collect();
        }
        let rows = metadata.row_groups().iter().map(|group| group.num_rows().max(0) as u64).sum();
        let writer = metadata.file_metadata().created_by();
        let old_writer = writer.filter(|writer| is_old(writer)).map(str::to_owned);
        let path = path.to_owned();
        let (batches, next_group, ahead, returned) = (None, 0, None, 0);
        Ok(Self {
            path,
            progress,
            footer,
            leaves,
            memory,
            batches,
            next_group,
            ahead,
            file,
            look,
            old_writer,
            rows,
            returned,
        })
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
        loop {
            let Some(batches) = &mut self.batches else {
                if !self.open_groups()? {
                    return Ok(None);
                }
                continue;
            };
            let batch = guarded(&self.path, || batches.next().transpose().map_err(Into::into));
            match (batch, &self.old_writer) {
                (Ok(None), _) => self.batches = None,
                (Err(Error::Input(message)), Some(writer)) => {
                    return Err(Error::input(format!(
                        "{message}; if other programs read the file, its writer ({writer}) is too old for this \
                         version: write it again with a newer one, such as pyarrow"
                    )));
                }
                (batch, _) => return batch,
            }
        }
    }

    /// Opens the next row groups: as many as a chunk has rows, or one. False after the last.
    fn open_groups(&mut self) -> Result<bool> {
        let groups = self.footer.metadata().row_groups();
        let (first, mut end) = (self.next_group, self.next_group);
        let (mut rows, mut size) = (0, 0);
        while end < groups.len() && rows < CHUNK_LINES as u64 {
            rows = rows.saturating_add(groups[end].num_rows().max(0) as u64);
            let sizes = self.leaves.iter().filter_map(|&leaf| groups[end].columns().get(leaf));
            size += sizes.map(|column| column.uncompressed_size().max(0) as u128).sum::<u128>();
            end += 1;
        }
        if first == end {
            return Ok(false);
        }
        let most =
            (CHUNK_BYTES as u128 / (size / u128::from(rows.max(1))).max(1)).clamp(1, CHUNK_LINES as u128);
        let metadata = self.footer.metadata().as_ref();
        let (path, file, leaves) = (&self.path, &self.file, &self.leaves[..]);
        let pages = PagesRead { path, file, metadata, groups: first..end, leaves, memory: self.memory };
        // A power of two divides `CHUNK_LINES`, so that chunks end where those of other formats do.
        let batch_rows = pages.batch_rows(1..=1 << most.ilog2())?;
        let mask = ProjectionMask::leaves(metadata.file_metadata().schema_descr(), leaves.iter().copied());
        let reader = ParquetFile(file.try_clone().map_err(Error::io(path))?);
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(reader, self.footer.clone())
            .with_row_groups((first..end).collect())
            .with_projection(mask)
            .with_batch_size(batch_rows);
        self.batches = Some(guarded(path, || builder.build())?);
        self.next_group = end;
        Ok(true)
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

/// The footer of a file whose text is read as views of bytes, and the file.
fn text_footer(path: &Path) -> Result<(ArrowReaderMetadata, File)> {
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
    Ok((guarded(path, || ArrowReaderMetadata::try_new(metadata, options))?, file))
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
