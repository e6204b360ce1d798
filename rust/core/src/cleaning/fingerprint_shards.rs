//! The shards of fingerprints: written for kept rows, and read for rows of another corpus, or of an earlier cleaning.

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::FixedSizeBinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array};
use arrow_schema::DataType;

use crate::cleaning::shards::ShardLayout;
use crate::columns::shards::{BATCH_ROWS, BackgroundShard, ShardReader, field};
use crate::duplicates::fingerprints::Key;
use crate::io::atomic_files::Temporary;
use crate::{Error, Result};

/// A batch of published fingerprints.
pub struct FingerprintColumns {
    pub rows: Vec<u64>,
    /// One list for each part of the key.
    pub parts: Vec<Vec<u128>>,
}

impl FingerprintColumns {
    /// Reads a shard that was written with this key.
    pub fn open(path: &Path, key: Key) -> Result<impl Iterator<Item = Result<Self>>> {
        let mut names = vec!["row"];
        names.extend(key.parts().iter().map(|part| part.name()));
        let wrong = Error::input(format!("{}: not a shard of fingerprints", path.display())).to_string();
        let read =
            move |columns: Vec<ArrayRef>| Self::of(&columns).ok_or_else(|| Error::input(wrong.clone()));
        Ok(ShardReader::open(path, &names)?.map(move |columns| columns.and_then(&read)))
    }

    /// None if a column has another type, or no value somewhere.
    fn of(columns: &[ArrayRef]) -> Option<Self> {
        let (rows, parts) = columns.split_first()?;
        let rows = rows.as_primitive_opt::<Int64Type>()?.values().iter().map(|&row| row as u64).collect();
        let numbers = |part: &ArrayRef| {
            let part = part.as_fixed_size_binary_opt().filter(|part| part.null_count() == 0)?;
            let numbers =
                part.iter().flatten().map(|value| Some(u128::from_be_bytes(value.try_into().ok()?)));
            numbers.collect()
        };
        Some(Self { rows, parts: parts.iter().map(numbers).collect::<Option<_>>()? })
    }

    /// The fingerprints of one row, one for each part of the key.
    pub fn of_row(&self, index: usize) -> impl Iterator<Item = u128> {
        self.parts.iter().map(move |part| part[index])
    }
}

/// Writes fingerprints in batches of one size, so that the bytes do not depend on the chunks that they come in.
pub struct FingerprintWriter {
    writer: BackgroundShard,
    rows: Vec<i64>,
    parts: Vec<Vec<[u8; 16]>>,
    written: u64,
}

impl FingerprintWriter {
    /// Begins the shard of the rows from `first` on; None if no fingerprints are kept.
    pub fn create(layout: &ShardLayout, first: u64) -> Result<Option<Self>> {
        if layout.key == Key::None {
            return Ok(None);
        }
        let parts = layout.key.parts();
        let mut fields = vec![field("row", DataType::Int64)];
        fields.extend(parts.iter().map(|part| field(part.name(), DataType::FixedSizeBinary(16))));
        let path = layout.out.join("fingerprints").join(format!("part-{first:012}"));
        let writer = BackgroundShard::create(&path, fields, &layout.metadata())?;
        Ok(Some(Self { writer, rows: Vec::new(), parts: vec![Vec::new(); parts.len()], written: 0 }))
    }

    /// Adds the fingerprints of a row, one for each part of the key.
    pub fn add(&mut self, row: u64, parts: impl Iterator<Item = u128>) -> Result<()> {
        self.rows.push(row as i64);
        for (column, fingerprint) in self.parts.iter_mut().zip(parts) {
            column.push(fingerprint.to_be_bytes());
        }
        if self.rows.len() == BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        self.written += rows.len() as u64;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(rows))];
        for part in &mut self.parts {
            let mut builder = FixedSizeBinaryBuilder::with_capacity(part.len(), 16);
            for value in part.drain(..) {
                builder.append_value(value).map_err(|error| Error::input(error.to_string()))?;
            }
            columns.push(Arc::new(builder.finish()));
        }
        self.writer.write(columns)
    }

    /// Publishes the file; returns its digest and its number of rows.
    pub fn publish_as(mut self, path: &Path) -> Result<(String, u64)> {
        self.flush()?;
        Ok((self.writer.finish()?.publish_as(path)?, self.written))
    }

    pub fn keep(mut self) -> Result<Temporary> {
        self.flush()?;
        self.writer.finish()?.keep()
    }
}
