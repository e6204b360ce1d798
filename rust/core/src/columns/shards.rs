//! Column sets: Parquet shards of contiguous row ranges, written in one encoding and read as a stream of batches.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use crossbeam_channel::{Sender, bounded};
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::columns::parquet_file::ParquetFile;
use crate::columns::parquet_pages::PagesRead;
use crate::io::atomic_files::{Draft, Temporary};
use crate::io::panics::catch;
use crate::io::threads::Background;
use crate::{Error, Result};

/// The folder in a step's folder that holds the shards of its columns and nothing else, so that other tools read it whole.
pub const COLUMNS: &str = "columns";

/// Rows of a batch that a reader hands out.
pub const BATCH_ROWS: usize = 65_536;

/// Rows of a shard: a range of rows of the whole corpus that begins at a multiple of this.
pub const SHARD_ROWS: u64 = 1 << 20;
/// Bytes of memory for which the pages of a column file must be small enough, whatever the pass.
const MEMORY_BYTES: usize = 1 << 30;
/// Rows whose encoded columns a writer holds in memory.
const ROW_GROUP_ROWS: usize = 1 << 18;

/// A published shard, as manifests list it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, PartialEq, Eq)]
pub struct PublishedShard {
    /// Relative to the step's folder.
    pub file: String,
    pub first: u64,
    pub end: u64,
    pub digest: String,
    /// How many records it holds.
    pub rows: u64,
}

/// The file of a shard that covers rows `first..end`, relative to the step's folder; `folder` holds its column set.
pub fn shard_file(folder: &str, first: u64, end: u64) -> String {
    format!("{folder}/part-{first:012}-{end:012}.parquet")
}

/// Writes one shard: the named columns in order, the first being `row`. Returns the digest of the file.
pub fn write_shard(
    path: &Path,
    columns: Vec<(String, ArrayRef)>,
    metadata: &BTreeMap<String, String>,
) -> Result<String> {
    let fields = columns.iter().map(|(name, array)| field(name, array.data_type().clone())).collect();
    let mut writer = ShardWriter::create(path, fields, metadata)?;
    writer.write(columns.into_iter().map(|(_, array)| array).collect())?;
    writer.publish_as(path)
}

/// A column of a shard; all but `row` may be null.
pub fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, name != "row")
}

/// Writes a shard batch by batch. Integers are delta-packed, floats are plain, and nothing is compressed, so that a scan
/// is about as fast as reading. Equal batches give equal bytes.
pub struct ShardWriter {
    path: PathBuf,
    schema: Arc<Schema>,
    writer: ArrowWriter<Draft>,
}

impl ShardWriter {
    /// Begins a draft of this name; makes its folder.
    pub fn create(path: &Path, fields: Vec<Field>, metadata: &BTreeMap<String, String>) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let schema = Arc::new(Schema::new(fields));
        let draft = Draft::create(path)?;
        let writer = ArrowWriter::try_new(draft, Arc::clone(&schema), Some(properties(&schema, metadata)))
            .map_err(|error| Error::parquet(path, error))?;
        Ok(Self { path: path.to_owned(), schema, writer })
    }

    pub fn write(&mut self, columns: Vec<ArrayRef>) -> Result<()> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| Error::input(format!("{}: {error}", self.path.display())))?;
        self.writer.write(&batch).map_err(|error| Error::parquet(&self.path, error))
    }

    /// Ends the file and publishes it as `path`; returns its digest.
    pub fn publish_as(self, path: &Path) -> Result<String> {
        self.into_draft()?.publish_as(path)
    }

    /// Ends the file under a temporary name, for this pass to read again.
    pub fn keep(self) -> Result<Temporary> {
        self.into_draft()?.keep()
    }

    fn into_draft(self) -> Result<Draft> {
        self.writer.into_inner().map_err(|error| Error::parquet(&self.path, error))
    }
}

/// A shard that its own thread encodes, so that the thread that fills it goes on.
pub struct BackgroundShard {
    /// Dropped before the writer, which waits for its end.
    batches: Option<Sender<Vec<ArrayRef>>>,
    writer: Background<ShardWriter>,
}

/// Batches that wait to be encoded.
const WAITING_BATCHES: usize = 1;

impl BackgroundShard {
    /// Begins a draft, like `ShardWriter::create`.
    pub fn create(path: &Path, fields: Vec<Field>, metadata: &BTreeMap<String, String>) -> Result<Self> {
        let mut writer = ShardWriter::create(path, fields, metadata)?;
        let (send, batches) = bounded(WAITING_BATCHES);
        let writer = Background::spawn(move || {
            batches.iter().try_for_each(|columns| writer.write(columns))?;
            Ok(writer)
        });
        Ok(Self { batches: Some(send), writer })
    }

    pub fn write(&mut self, columns: Vec<ArrayRef>) -> Result<()> {
        let sent = self.batches.as_ref().is_some_and(|batches| batches.send(columns).is_ok());
        // A thread that takes no more batches has failed.
        if sent { Ok(()) } else { self.writer.wait().map(drop) }
    }

    /// The writer, when it has encoded all batches.
    pub fn finish(mut self) -> Result<ShardWriter> {
        self.batches = None;
        self.writer.join()
    }
}

fn properties(schema: &Schema, metadata: &BTreeMap<String, String>) -> WriterProperties {
    let pairs = metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_key_value_metadata(Some(pairs));
    for field in schema.fields() {
        let column = ColumnPath::from(field.name().as_str());
        properties = match field.data_type() {
            DataType::Int64 | DataType::UInt32 => {
                properties.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
            }
            DataType::Dictionary(..) => properties.set_column_dictionary_enabled(column, true),
            _ => properties,
        };
    }
    properties.build()
}

/// Calls the Parquet library, which panics on some damaged files.
pub fn guarded<T>(path: &Path, read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    match catch(read) {
        Some(read) => read.map_err(|error| Error::parquet(path, error)),
        None => Err(Error::input(format!("{} is damaged: fetch it, or make it again", path.display()))),
    }
}

/// Batches of the named columns of one Parquet file, in the order of `names`.
pub struct ShardReader {
    path: PathBuf,
    order: Vec<usize>,
    batches: ParquetRecordBatchReader,
}

impl ShardReader {
    pub fn open(path: &Path, names: &[&str]) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let footer = guarded(path, || ArrowReaderMetadata::load(&file, ArrowReaderOptions::default()))?;
        let groups = 0..footer.metadata().num_row_groups();
        Self::build(path, file, &footer, groups, 0, names)
    }

    /// Reads one row group of a file whose footer was read before, without its first `skip` records.
    pub fn open_group(
        path: &Path,
        footer: &ArrowReaderMetadata,
        group: usize,
        skip: usize,
        names: &[&str],
    ) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        Self::build(path, file, footer, group..group + 1, skip, names)
    }

    fn build(
        path: &Path,
        file: File,
        footer: &ArrowReaderMetadata,
        groups: Range<usize>,
        skip: usize,
        names: &[&str],
    ) -> Result<Self> {
        let wanted = places(path, footer.schema(), names)?;
        let schema = footer.metadata().file_metadata().schema_descr();
        let leaves: Vec<usize> = (0..schema.num_columns())
            .filter(|&leaf| wanted.contains(&schema.get_column_root_idx(leaf)))
            .collect();
        let (metadata, memory) = (footer.metadata().as_ref(), MEMORY_BYTES);
        let pages =
            PagesRead { path, file: &file, metadata, groups: groups.clone(), leaves: &leaves, memory };
        pages.batch_rows(BATCH_ROWS..=BATCH_ROWS)?;
        let mask = ProjectionMask::roots(schema, wanted.iter().copied());
        let mut sorted = wanted.clone();
        sorted.sort_unstable();
        // The reader returns columns in file order; `order` restores the requested order.
        let order = wanted.iter().map(|index| sorted.partition_point(|other| other < index)).collect();
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(ParquetFile(file), footer.clone())
            .with_row_groups(groups.collect())
            .with_offset(skip)
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS);
        let batches = guarded(path, || builder.build())?;
        Ok(Self { path: path.to_owned(), order, batches })
    }
}

/// The places of columns in a file, in the order of `names`.
pub fn places(path: &Path, schema: &Schema, names: &[&str]) -> Result<Vec<usize>> {
    let place = |&name: &&str| {
        schema.index_of(name).map_err(|_| {
            let present: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            Error::input(format!("{} has no column {name}; it has {}", path.display(), present.join(", ")))
        })
    };
    names.iter().map(place).collect()
}

impl Iterator for ShardReader {
    type Item = Result<Vec<ArrayRef>>;

    fn next(&mut self) -> Option<Self::Item> {
        let path = &self.path;
        let batch = match guarded(path, || Ok(self.batches.next())) {
            Ok(None) => return None,
            Ok(Some(Ok(batch))) => batch,
            Ok(Some(Err(error))) => {
                let path = path.display();
                return Some(Err(Error::input(format!("{path} is damaged ({error}): make it again"))));
            }
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(self.order.iter().map(|&index| Arc::clone(batch.column(index))).collect()))
    }
}

/// The error for a column of the wrong type.
pub fn wrong_type(path: &Path, name: &str, array: &ArrayRef, wanted: &str) -> Error {
    Error::input(format!("{}: column {name} is {}, not {wanted}", path.display(), array.data_type()))
}
