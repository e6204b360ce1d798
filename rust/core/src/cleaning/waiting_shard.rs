//! A shard that waits for its duplicates: written under a temporary name, and completed when the whole text was read.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::UInt32Array;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;

use crate::Result;
use crate::cleaning::fingerprint_shards::{FingerprintColumns, FingerprintWriter};
use crate::cleaning::ready_shard::ReadyShard;
use crate::cleaning::shards::{Published, ShardLayout, reason_names};
use crate::columns::shards::ShardReader;
use crate::duplicates::late;
use crate::io::atomic_files::Temporary;
use crate::io::spool::{Blocks, Spool};

/// A shard whose duplicates are not known yet.
pub struct WaitingShard {
    pub first: u64,
    pub end: u64,
    pub decisions: Temporary,
    pub fingerprints: Option<Temporary>,
    /// The duplicates that were known when the shard was set aside.
    pub known: Blocks,
}

/// A row that turned out to be a duplicate after the whole text was read.
#[derive(Debug, Clone, Copy)]
pub struct LateDuplicate {
    pub row: u64,
    pub of: u64,
    pub reason: u32,
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
        let (Some(waiting), Some(mut writer)) =
            (&self.fingerprints, FingerprintWriter::create(layout, self.first)?)
        else {
            return Ok(None);
        };
        let mut left = late.iter().map(|late| late.row).peekable();
        for columns in FingerprintColumns::open(&waiting.path, layout.key)? {
            let columns = columns?;
            for (index, &row) in columns.rows.iter().enumerate() {
                if left.next_if_eq(&row).is_none() {
                    writer.add(row, columns.of_row(index))?;
                }
            }
        }
        Ok(Some(writer))
    }
}
