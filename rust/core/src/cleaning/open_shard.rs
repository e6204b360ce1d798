//! The shard that cleaning fills: its rows are encoded by threads of their own, and published, or set aside until all
//! duplicates are known.

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, UInt32Type};
use arrow_array::{ArrayRef, Int64Array, UInt32Array};
use arrow_schema::{DataType, Field};

use crate::cleaning::decisions::MeasureColumns;
use crate::cleaning::fingerprint_shards::{FingerprintColumns, FingerprintWriter};
use crate::cleaning::ready_shard::ReadyShard;
use crate::cleaning::request::LastShard;
use crate::cleaning::shards::{Published, ShardLayout, reason_names};
use crate::cleaning::waiting_shard::WaitingShard;
use crate::columns::shards::{BATCH_ROWS, BackgroundShard, SHARD_ROWS, ShardReader};
use crate::duplicates::first_rows::ELSEWHERE;
use crate::duplicates::late;
use crate::io::spool::Spool;
use crate::io::threads::Background;
use crate::{Error, Result};

/// Rows of a chunk, with their decisions and measures.
pub struct DecidedRows<'a> {
    pub reasons: &'a [u32],
    /// Of the whole chunk, in which the rows begin at `first`.
    pub measures: &'a MeasureColumns,
    pub first: usize,
    /// Empty without tags.
    pub tags: &'a [&'a str],
}

/// A shard that is being filled.
pub struct OpenShard {
    layout: Arc<ShardLayout>,
    first: u64,
    rows: u64,
    decisions: BackgroundShard,
    batch: Batch,
    fingerprints: Option<FingerprintWriter>,
    duplicates: Vec<(u64, u64)>,
}

/// Rows that are not encoded yet.
#[derive(Default)]
struct Batch {
    reasons: Vec<u32>,
    measures: MeasureColumns,
    tags: StringDictionaryBuilder<Int32Type>,
}

impl OpenShard {
    pub fn open(layout: &Arc<ShardLayout>, first: u64) -> Result<Self> {
        Ok(Self {
            layout: Arc::clone(layout),
            first,
            rows: 0,
            decisions: layout.decisions(first)?,
            batch: Batch::default(),
            fingerprints: FingerprintWriter::create(layout, first)?,
            duplicates: Vec::new(),
        })
    }

    /// Begins a shard with the rows of a published one.
    pub fn reopen(layout: &Arc<ShardLayout>, last: &LastShard) -> Result<Self> {
        let mut shard = Self::open(layout, last.first)?;
        shard.copy_decisions(&last.decisions)?;
        if let Some(path) = &last.fingerprints {
            shard.copy_fingerprints(path)?;
        }
        if let Some(path) = &last.duplicates {
            shard.copy_duplicates(path)?;
        }
        if shard.first + shard.rows == last.end { Ok(shard) } else { Err(other_shard(&last.decisions)) }
    }

    fn copy_decisions(&mut self, path: &Path) -> Result<()> {
        let fields = self.layout.columns();
        let is_measure = |field: &&Field| field.data_type() == &DataType::UInt32;
        let names: Vec<&str> = fields.iter().filter(is_measure).map(|field| field.name().as_str()).collect();
        for columns in ShardReader::open(path, &names)? {
            let columns = columns?;
            let mut values = Vec::with_capacity(columns.len());
            for column in &columns {
                values
                    .push(column.as_primitive_opt::<UInt32Type>().ok_or_else(|| other_shard(path))?.values());
            }
            for index in 0..values[0].len() {
                self.batch.reasons.push(values[0][index]);
                let measures = self.batch.measures.iter_mut().zip(self.layout.measures);
                let copied = measures.flat_map(|(columns, count)| &mut columns[..count]);
                copied.zip(&values[1..]).for_each(|(column, values)| column.push(values[index]));
                self.rows += 1;
                self.end_rows()?;
            }
        }
        Ok(())
    }

    fn copy_fingerprints(&mut self, path: &Path) -> Result<()> {
        let Some(writer) = &mut self.fingerprints else { return Err(other_shard(path)) };
        for columns in FingerprintColumns::open(path, self.layout.key)? {
            let columns = columns?;
            for (index, &row) in columns.rows.iter().enumerate() {
                writer.add(row, columns.of_row(index))?;
            }
        }
        Ok(())
    }

    fn copy_duplicates(&mut self, path: &Path) -> Result<()> {
        for columns in ShardReader::open(path, &["row", "duplicate_of"])? {
            let columns = columns?;
            let values = |index: usize| columns[index].as_primitive_opt::<Int64Type>();
            let (Some(rows), Some(of)) = (values(0), values(1)) else { return Err(other_shard(path)) };
            let of = of.iter().map(|of| of.map_or(ELSEWHERE, |of| of as u64));
            self.duplicates.extend(rows.values().iter().map(|&row| row as u64).zip(of));
        }
        Ok(())
    }

    /// The row where the shard ends when it is full: shards are ranges of rows of the whole corpus.
    pub fn limit(&self) -> u64 {
        (self.first / SHARD_ROWS + 1) * SHARD_ROWS
    }

    /// The row after the last.
    pub fn end(&self) -> u64 {
        self.first + self.rows
    }

    pub fn is_full(&self) -> bool {
        self.end() >= self.limit()
    }

    pub fn add(&mut self, rows: &DecidedRows<'_>) -> Result<()> {
        let (mut at, count) = (0, rows.reasons.len());
        while at < count {
            let end = count.min(at + BATCH_ROWS - self.batch.reasons.len());
            self.batch.reasons.extend_from_slice(&rows.reasons[at..end]);
            let sides = self.batch.measures.iter_mut().zip(rows.measures).zip(self.layout.measures);
            for ((columns, measures), measured) in sides {
                for (column, values) in columns[..measured].iter_mut().zip(measures) {
                    column.extend_from_slice(&values[rows.first + at..rows.first + end]);
                }
            }
            for tag in rows.tags.iter().take(end).skip(at) {
                self.batch.tags.append_value(tag);
            }
            self.rows += (end - at) as u64;
            self.end_rows()?;
            at = end;
        }
        Ok(())
    }

    fn end_rows(&mut self) -> Result<()> {
        if self.batch.reasons.len() == BATCH_ROWS { self.write_decisions() } else { Ok(()) }
    }

    /// Adds the fingerprints of a row that is not known to be a duplicate, one for each part of the key.
    pub fn add_fingerprints(&mut self, row: u64, parts: impl Iterator<Item = u128>) -> Result<()> {
        match &mut self.fingerprints {
            Some(writer) => writer.add(row, parts),
            None => Ok(()),
        }
    }

    pub fn add_duplicate(&mut self, row: u64, of: u64) {
        self.duplicates.push((row, of));
    }

    fn write_decisions(&mut self) -> Result<()> {
        let end = self.first + self.rows;
        let reasons = std::mem::take(&mut self.batch.reasons);
        if reasons.is_empty() {
            return Ok(());
        }
        let rows = (end - reasons.len() as u64) as i64..end as i64;
        let names = Arc::new(reason_names(&reasons)?);
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from_iter_values(rows)), Arc::new(UInt32Array::from(reasons)), names];
        for (measures, count) in self.batch.measures.iter_mut().zip(self.layout.measures) {
            let measures = measures[..count].iter_mut();
            columns.extend(measures.map(|column| Arc::new(UInt32Array::from(std::mem::take(column))) as _));
        }
        if self.layout.tagged {
            columns.push(Arc::new(self.batch.tags.finish()));
        }
        self.decisions.write(columns)
    }

    /// Encodes what is left and publishes the shard on another thread, then does `after` there.
    pub fn publish(
        mut self,
        published: &Arc<Published>,
        after: impl FnOnce(&Published) -> Result<()> + Send + 'static,
    ) -> Result<Background<()>> {
        self.write_decisions()?;
        let (first, end) = (self.first, self.first + self.rows);
        let published = Arc::clone(published);
        let publish = move || {
            let shard = ReadyShard { layout: &self.layout, first, end };
            shard.publish(self.decisions, self.fingerprints, &self.duplicates, &published)?;
            after(&published)
        };
        Ok(Background::spawn(publish))
    }

    /// Sets the shard aside until all duplicates are known; duplicates that are already known are pushed to `known`.
    pub fn wait(mut self, known: &mut Spool) -> Result<WaitingShard> {
        self.write_decisions()?;
        self.duplicates.iter().try_for_each(|&(row, of)| known.push(0, &late::record(row, of)))?;
        Ok(WaitingShard {
            first: self.first,
            end: self.first + self.rows,
            decisions: self.decisions.finish()?.keep()?,
            fingerprints: self.fingerprints.map(FingerprintWriter::keep).transpose()?,
            known: known.take(0)?,
        })
    }
}

/// The error of a published shard that does not hold what its manifest says.
fn other_shard(path: &Path) -> Error {
    Error::input(format!(
        "{} holds other rows than it was written with: clean again with force = true",
        path.display()
    ))
}
