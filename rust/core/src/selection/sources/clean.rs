//! The records of a cleaned corpus that has no scores yet: its kept rows, by length or at random.

use arrow_array::types::UInt32Type;

use crate::Result;
use crate::columns::shards::ShardReader;
use crate::selection::batch::Batch;
use crate::selection::methods::{self, Method};
use crate::selection::request::{Computed, Measure, Shard};
use crate::selection::sources::shards::{rows, typed};

/// Streams the kept rows of one shard, with their length in characters or a random number.
pub fn stream_kept(
    measure: &Measure,
    shard: &Shard,
    batch: &mut Batch,
    visit: &mut dyn FnMut(&mut Batch) -> Result<()>,
) -> Result<()> {
    let by_length = measure.computed.iter().any(|column| column.method == Method::Length);
    let names: &[&str] =
        if by_length { &["row", "reasons", "target_characters"] } else { &["row", "reasons"] };
    let mut next = shard.first;
    for arrays in ShardReader::open(&shard.path, names)? {
        let arrays = arrays?;
        let reasons = typed::<UInt32Type>(&arrays[1], "reasons", shard)?.values();
        let all = rows(&arrays[0], shard, &mut next)?;
        let kept =
            || reasons.iter().enumerate().filter(|&(_, &reasons)| reasons == 0).map(|(index, _)| index);
        batch.rows.clear();
        batch.rows.extend(kept().map(|index| all[index]));
        for (Computed { method, .. }, column) in measure.computed.iter().zip(&mut batch.columns) {
            column.clear();
            if *method == Method::Length {
                let lengths = typed::<UInt32Type>(&arrays[2], "target_characters", shard)?.values();
                column.extend(kept().map(|index| lengths[index] as f32));
            } else {
                column.extend(batch.rows.iter().map(|&row| methods::random(row, measure.seed)));
            }
        }
        visit(batch)?;
    }
    Ok(())
}
