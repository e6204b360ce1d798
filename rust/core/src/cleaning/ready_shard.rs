//! A shard that is complete: its files get their final names, the decisions last.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array};

use crate::Result;
use crate::cleaning::fingerprint_shards::FingerprintWriter;
use crate::cleaning::shards::{Published, ShardLayout, note};
use crate::columns::shards::{BackgroundShard, COLUMNS, PublishedShard, shard_file, write_shard};
use crate::duplicates::first_rows::ELSEWHERE;

/// A shard that is complete.
pub struct ReadyShard<'k> {
    pub layout: &'k ShardLayout,
    pub first: u64,
    pub end: u64,
}

impl ReadyShard<'_> {
    pub fn publish(
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
