//! Late duplicates: the shards that wait for them are set aside, and published when the whole text was read.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cleaning::open_shard::OpenShard;
use crate::cleaning::reasons::NEAR_DUPLICATE;
use crate::cleaning::shards::{Published, ShardLayout, reason};
use crate::cleaning::waiting_shard::{LateDuplicate, WaitingShard};
use crate::duplicates::exact::Duplicates;
use crate::duplicates::late::LateDuplicates;
use crate::duplicates::near::buckets::NearDuplicates;
use crate::duplicates::near::components::Labels;
use crate::io::spool::Spool;
use crate::io::threads::on_threads;
use crate::{Progress, Result};

/// Buffer for the known duplicates of waiting shards.
const KNOWN_BYTES: usize = 1 << 16;
/// Memory for publishing a waiting shard: its duplicates, and the buffers of reading and writing.
const PUBLISH_BYTES: usize = 64 << 20;

/// The shards whose duplicates are not known yet.
#[derive(Default)]
pub struct WaitingShards {
    shards: Vec<WaitingShard>,
    /// The duplicates that were known when their shards were set aside.
    known: Option<Spool>,
}

/// The late duplicates of all shards.
pub struct Late {
    exact: LateDuplicates,
    near: Option<Labels>,
}

/// What publishing may use.
pub struct Publishing<'a> {
    pub layout: &'a ShardLayout,
    pub published: &'a Published,
    pub threads: usize,
    pub memory: usize,
    pub progress: &'a Progress,
}

impl WaitingShards {
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// Sets a shard aside; temporary files are in `folder`.
    pub fn add(&mut self, shard: OpenShard, folder: &Path) -> Result<()> {
        let known = match &mut self.known {
            Some(known) => known,
            none => none.insert(Spool::new(folder, 1, KNOWN_BYTES)?),
        };
        self.shards.push(shard.wait(known)?);
        Ok(())
    }

    /// Finds the late duplicates; a row that is an exact duplicate is no near duplicate.
    pub fn resolve(
        &self,
        exact: Duplicates,
        near: Option<NearDuplicates>,
        threads: usize,
        progress: &Progress,
    ) -> Result<Late> {
        let ends = self.shards.iter().map(|waiting| waiting.end).collect();
        let exact = exact.resolve(ends, threads, progress)?;
        let near = match near {
            Some(mut near) => {
                exact.see(progress, |row| near.leave_out(row))?;
                Some(near.resolve(threads, progress)?)
            }
            None => None,
        };
        Ok(Late { exact, near })
    }

    /// Publishes the shards, several at a time. Calls `seen` in row order with the late duplicates of each shard, and how
    /// many of them each tag has.
    pub fn publish(
        self,
        late: Late,
        publishing: &Publishing<'_>,
        mut seen: impl FnMut(&[LateDuplicate], BTreeMap<String, u64>),
    ) -> Result<()> {
        let Publishing { layout, published, progress, .. } = *publishing;
        let mut near = late.near.into_iter().flatten().peekable();
        let threads = publishing.threads.min(publishing.memory / PUBLISH_BYTES).max(1);
        let mut shards = self.shards.into_iter().enumerate();
        loop {
            progress.check()?;
            let group: Vec<_> = shards.by_ref().take(threads).collect();
            if group.is_empty() {
                return Ok(());
            }
            let mut near_duplicates = Vec::with_capacity(group.len());
            for (_, waiting) in &group {
                let mut of_shard = Vec::new();
                let is_here =
                    |next: &Result<(u64, u64)>| next.as_ref().map_or(true, |&(row, _)| row < waiting.end);
                while let Some(next) = near.next_if(is_here) {
                    let (row, of) = next?;
                    of_shard.push(LateDuplicate { row, of, reason: NEAR_DUPLICATE });
                }
                near_duplicates.push(of_shard);
            }
            let publish = |(): &mut (), number: usize| {
                let (shard, waiting) = &group[number];
                let exact = late.exact.of_shard(*shard)?.into_iter();
                let exact = exact.map(|(row, of)| LateDuplicate { row, of, reason: reason(of) });
                let mut of_shard: Vec<LateDuplicate> =
                    near_duplicates[number].iter().copied().chain(exact).collect();
                of_shard.sort_unstable_by_key(|late| late.row);
                let tags = waiting.publish(layout, self.known.as_ref(), &of_shard, published)?;
                Ok((of_shard, tags))
            };
            for (of_shard, tags) in on_threads(threads, group.len(), || (), publish)? {
                seen(&of_shard, tags);
            }
        }
    }
}
