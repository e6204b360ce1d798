//! The shards of `clean/`: decisions and measures, fingerprints of kept rows, and duplicates. If duplicates are only
//! known at the end, shards are first written without them and completed later.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use arrow_array::builder::{FixedSizeBinaryBuilder, StringDictionaryBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, UInt32Type};
use arrow_array::{ArrayRef, DictionaryArray, Int32Array, Int64Array, StringArray, UInt32Array};
use arrow_schema::{DataType, Field};

use crate::cleaning::reasons::{self, DUPLICATE, DUPLICATE_ELSEWHERE, REASONS};
use crate::cleaning::request::LastShard;
use crate::columns::shards::{
    BATCH_ROWS, BackgroundShard, COLUMNS, PublishedShard, SHARD_ROWS, ShardReader, field, shard_file,
    write_shard,
};
use crate::duplicates::fingerprints::Key;
use crate::duplicates::first_rows::ELSEWHERE;
use crate::duplicates::late;
use crate::io::atomic_files::Temporary;
use crate::io::spool::{Blocks, Spool};
use crate::text::side::{MEASURES, Measures};
use crate::{Error, Result};

/// What all shards of a corpus have in common.
pub struct ShardLayout {
    pub out: PathBuf,
    pub plan: String,
    /// How many measures are written for the source, and for the target.
    pub measures: [usize; 2],
    pub tagged: bool,
    pub key: Key,
}

impl ShardLayout {
    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("plan".to_owned(), self.plan.clone())])
    }

    fn columns(&self) -> Vec<Field> {
        let strings = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let mut fields = vec![
            field("row", DataType::Int64),
            field("reasons", DataType::UInt32),
            field("reason", strings()),
        ];
        for (side, count) in ["source", "target"].into_iter().zip(self.measures) {
            let names = MEASURES[..count].iter();
            fields.extend(names.map(|name| field(&format!("{side}_{name}"), DataType::UInt32)));
        }
        if self.tagged {
            fields.push(field("tag", strings()));
        }
        fields
    }

    fn fingerprint_columns(&self) -> Vec<Field> {
        let parts = self.key.parts().iter();
        let mut fields = vec![field("row", DataType::Int64)];
        fields.extend(parts.map(|part| field(part.name(), DataType::FixedSizeBinary(16))));
        fields
    }

    fn decisions(&self, first: u64) -> Result<BackgroundShard> {
        let mut metadata = self.metadata();
        metadata.insert("reasons".to_owned(), REASONS.join(","));
        BackgroundShard::create(
            &self.out.join(COLUMNS).join(format!("part-{first:012}")),
            self.columns(),
            &metadata,
        )
    }

    fn fingerprints(&self, first: u64) -> Result<Option<FingerprintWriter>> {
        if self.key == Key::None {
            return Ok(None);
        }
        let path = self.out.join("fingerprints").join(format!("part-{first:012}"));
        let writer = BackgroundShard::create(&path, self.fingerprint_columns(), &self.metadata())?;
        let parts = vec![Vec::new(); self.key.parts().len()];
        Ok(Some(FingerprintWriter { writer, rows: Vec::new(), parts, written: 0 }))
    }
}

/// The published shards by their first row. Several threads add shards as soon as these have their final names.
#[derive(Default)]
pub struct Published {
    pub decisions: Mutex<BTreeMap<u64, PublishedShard>>,
    pub fingerprints: Mutex<BTreeMap<u64, PublishedShard>>,
    pub duplicates: Mutex<BTreeMap<u64, PublishedShard>>,
}

fn note(shards: &Mutex<BTreeMap<u64, PublishedShard>>, shard: PublishedShard) {
    shards.lock().unwrap_or_else(PoisonError::into_inner).insert(shard.first, shard);
}

impl Published {
    fn sets(&self) -> [&Mutex<BTreeMap<u64, PublishedShard>>; 3] {
        [&self.decisions, &self.fingerprints, &self.duplicates]
    }

    /// The shards of decisions, fingerprints and duplicates, in row order.
    pub fn listed(&self) -> [Vec<PublishedShard>; 3] {
        self.sets().map(|set| set.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect())
    }

    /// Adds the shards that an earlier cleaning published.
    pub fn restore(&self, shards: [Vec<PublishedShard>; 3]) {
        for (set, shards) in self.sets().into_iter().zip(shards) {
            for shard in shards {
                note(set, shard);
            }
        }
    }

    /// Removes all published shards.
    pub fn discard(&self, out: &Path) -> Result<()> {
        for shards in self.sets() {
            for shard in shards.lock().unwrap_or_else(PoisonError::into_inner).values() {
                let path = out.join(&shard.file);
                std::fs::remove_file(&path).map_err(Error::io(&path))?;
            }
        }
        Ok(())
    }
}

/// A row's decision and measures.
pub struct RowDecision<'a> {
    pub reasons: u32,
    pub measures: [Measures; 2],
    pub tag: Option<&'a str>,
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
    measures: [[Vec<u32>; MEASURES.len()]; 2],
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
            fingerprints: layout.fingerprints(first)?,
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
                self.end_row()?;
            }
        }
        Ok(())
    }

    fn copy_fingerprints(&mut self, path: &Path) -> Result<()> {
        let Some(writer) = &mut self.fingerprints else { return Err(other_shard(path)) };
        for columns in FingerprintColumns::open(path, &self.layout)? {
            let columns = columns?;
            for (index, &row) in columns.rows().iter().enumerate() {
                writer.add(row, columns.parts(index))?;
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

    pub fn add(&mut self, decision: &RowDecision<'_>) -> Result<()> {
        self.batch.reasons.push(decision.reasons);
        let sides = self.batch.measures.iter_mut().zip(&decision.measures);
        for ((columns, measures), count) in sides.zip(self.layout.measures) {
            for (column, value) in columns[..count].iter_mut().zip(measures.values()) {
                column.push(value);
            }
        }
        if let Some(tag) = decision.tag {
            self.batch.tags.append_value(tag);
        }
        self.end_row()
    }

    fn end_row(&mut self) -> Result<()> {
        self.rows += 1;
        if self.batch.reasons.len() == BATCH_ROWS { self.write_decisions() } else { Ok(()) }
    }

    /// Adds the fingerprints of a row that is not known to be a duplicate, one for each part of the key.
    pub fn add_fingerprints(&mut self, row: u64, parts: impl Iterator<Item = u128>) -> Result<()> {
        match &mut self.fingerprints {
            Some(writer) => writer.add(row as i64, parts.map(u128::to_be_bytes)),
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
    ) -> Result<Publishing> {
        self.write_decisions()?;
        let (first, end) = (self.first, self.first + self.rows);
        let published = Arc::clone(published);
        let publish = move || {
            let shard = ReadyShard { layout: &self.layout, first, end };
            shard.publish(self.decisions, self.fingerprints, &self.duplicates, &published)?;
            after(&published)
        };
        Ok(Publishing(Some(thread::spawn(publish))))
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

/// A batch of published fingerprints.
pub struct FingerprintColumns(Vec<ArrayRef>);

impl FingerprintColumns {
    /// Reads a shard of fingerprints that was written with this layout.
    pub fn open(path: &Path, layout: &ShardLayout) -> Result<impl Iterator<Item = Result<Self>>> {
        let fields = layout.fingerprint_columns();
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        Ok(ShardReader::open(path, &names)?.map(|columns| columns.map(Self)))
    }

    pub fn rows(&self) -> &[i64] {
        self.0[0].as_primitive::<Int64Type>().values()
    }

    /// The fingerprints of one row, one for each part of the key.
    pub fn parts(&self, index: usize) -> impl Iterator<Item = [u8; 16]> {
        self.0[1..].iter().map(move |part| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(part.as_fixed_size_binary().value(index));
            bytes
        })
    }
}

/// A shard that a thread publishes.
pub struct Publishing(Option<JoinHandle<Result<()>>>);

impl Publishing {
    pub fn join(mut self) -> Result<()> {
        self.wait()
    }

    fn wait(&mut self) -> Result<()> {
        let joined = self.0.take().map(JoinHandle::join);
        let panicked = || Err(Error::input("a writer panicked: this is a bug of catprune"));
        joined.and_then(std::result::Result::ok).unwrap_or_else(panicked)
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        if self.0.is_some() {
            // No file of the pass appears after its end.
            let _ = self.wait();
        }
    }
}

/// Writes fingerprints in batches of one size, so that the bytes do not depend on the chunks that they come in.
struct FingerprintWriter {
    writer: BackgroundShard,
    rows: Vec<i64>,
    parts: Vec<Vec<[u8; 16]>>,
    written: u64,
}

impl FingerprintWriter {
    fn add(&mut self, row: i64, parts: impl Iterator<Item = [u8; 16]>) -> Result<()> {
        self.rows.push(row);
        for (column, fingerprint) in self.parts.iter_mut().zip(parts) {
            column.push(fingerprint);
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
    fn publish_as(mut self, path: &Path) -> Result<(String, u64)> {
        self.flush()?;
        Ok((self.writer.finish()?.publish_as(path)?, self.written))
    }

    fn keep(mut self) -> Result<Temporary> {
        self.flush()?;
        self.writer.finish()?.keep()
    }
}

/// A shard that is complete.
struct ReadyShard<'k> {
    layout: &'k ShardLayout,
    first: u64,
    end: u64,
}

impl ReadyShard<'_> {
    fn publish(
        &self,
        decisions: BackgroundShard,
        fingerprints: Option<FingerprintWriter>,
        duplicates: &[(u64, u64)],
        published: &Published,
    ) -> Result<()> {
        let Self { layout, first, end } = *self;
        let shard = |file, digest, rows| PublishedShard { file, first, end, digest, rows };
        if let Some(writer) = fingerprints {
            let name = shard_file("fingerprints", first, end);
            let (digest, rows) = writer.publish_as(&layout.out.join(&name))?;
            note(&published.fingerprints, shard(name, digest, rows));
        }
        if !duplicates.is_empty() {
            let name = shard_file("duplicates", first, end);
            let rows = duplicates.iter().map(|&(row, _)| row as i64);
            // Rows of another corpus mean nothing in this one.
            let of = duplicates.iter().map(|&(_, of)| (of != ELSEWHERE).then_some(of as i64));
            let columns: Vec<(String, ArrayRef)> = vec![
                ("row".to_owned(), Arc::new(Int64Array::from_iter_values(rows))),
                ("duplicate_of".to_owned(), Arc::new(of.collect::<Int64Array>())),
            ];
            let digest = write_shard(&layout.out.join(&name), columns, &layout.metadata())?;
            note(&published.duplicates, shard(name, digest, duplicates.len() as u64));
        }
        let file = shard_file(COLUMNS, first, end);
        let digest = decisions.finish()?.publish_as(&layout.out.join(&file))?;
        note(&published.decisions, shard(file, digest, end - first));
        Ok(())
    }
}

/// A shard whose duplicates are not known yet.
pub struct WaitingShard {
    first: u64,
    pub end: u64,
    decisions: Temporary,
    fingerprints: Option<Temporary>,
    /// The duplicates that were known when the shard was set aside.
    known: Blocks,
}

/// A row that turned out to be a duplicate after the whole text was read.
#[derive(Debug, Clone, Copy)]
pub struct LateDuplicate {
    pub row: u64,
    pub of: u64,
    pub reason: u32,
}

/// The names of the reasons of each record, joined by `+`; null for kept records. The dictionary has one value for each
/// mask that occurs.
fn reason_names(masks: &[u32]) -> Result<DictionaryArray<Int32Type>> {
    let (mut keys, mut names) = (BTreeMap::new(), Vec::new());
    let key = |&mask: &u32| {
        (mask != 0).then(|| {
            *keys.entry(mask).or_insert_with(|| {
                names.push(reasons::names(mask));
                names.len() as i32 - 1
            })
        })
    };
    let indices: Int32Array = masks.iter().map(key).collect();
    DictionaryArray::try_new(indices, Arc::new(StringArray::from(names)))
        .map_err(|error| Error::input(error.to_string()))
}

/// The reason for a duplicate of row `of`.
pub fn reason(of: u64) -> u32 {
    if of == ELSEWHERE { DUPLICATE_ELSEWHERE } else { DUPLICATE }
}

impl WaitingShard {
    /// Publishes the shard with the duplicates that were `known` when it was set aside, and the `late` ones among its rows.
    /// Returns how many late duplicates each tag has.
    pub fn publish(
        &self,
        layout: &ShardLayout,
        known: Option<&Spool>,
        late: &[LateDuplicate],
        published: &Published,
    ) -> Result<BTreeMap<String, u64>> {
        let mut writer = layout.decisions(self.first)?;
        let fields = layout.columns();
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        let (mut first, mut left) = (self.first, late);
        let mut tags = BTreeMap::new();
        for columns in ShardReader::open(&self.decisions.path, &names)? {
            let mut columns = columns?;
            let mut reasons = columns[1].as_primitive::<UInt32Type>().values().to_vec();
            let end = first + reasons.len() as u64;
            let here = left.partition_point(|late| late.row < end);
            for duplicate in &left[..here] {
                reasons[(duplicate.row - first) as usize] |= duplicate.reason;
            }
            if let Some(column) = columns.last().filter(|_| layout.tagged).map(AsArray::as_any_dictionary) {
                let (keys, values) = (column.normalized_keys(), column.values().as_string::<i32>());
                let mut counts = vec![0; values.iter().len()];
                left[..here].iter().for_each(|late| counts[keys[(late.row - first) as usize]] += 1);
                for (tag, &count) in values.iter().flatten().zip(&counts).filter(|(_, count)| **count > 0) {
                    *tags.entry(tag.to_owned()).or_default() += count;
                }
            }
            columns[2] = Arc::new(reason_names(&reasons)?);
            columns[1] = Arc::new(UInt32Array::from(reasons));
            writer.write(columns)?;
            (first, left) = (end, &left[here..]);
        }
        let fingerprints = self.kept_fingerprints(layout, late)?;
        let mut duplicates = match known {
            Some(known) => late::read(known, self.known)?,
            None => Vec::new(),
        };
        duplicates.extend(late.iter().map(|late| (late.row, late.of)));
        duplicates.sort_unstable();
        let ready = ReadyShard { layout, first: self.first, end: self.end };
        ready.publish(writer, fingerprints, &duplicates, published)?;
        Ok(tags)
    }

    /// Writes the fingerprints of the rows that are not late duplicates.
    fn kept_fingerprints(
        &self,
        layout: &ShardLayout,
        late: &[LateDuplicate],
    ) -> Result<Option<FingerprintWriter>> {
        let (Some(waiting), Some(mut writer)) = (&self.fingerprints, layout.fingerprints(self.first)?) else {
            return Ok(None);
        };
        let mut left = late.iter().map(|late| late.row as i64).peekable();
        for columns in FingerprintColumns::open(&waiting.path, layout)? {
            let columns = columns?;
            for (index, &row) in columns.rows().iter().enumerate() {
                if left.next_if_eq(&row).is_none() {
                    writer.add(row, columns.parts(index))?;
                }
            }
        }
        Ok(Some(writer))
    }
}
