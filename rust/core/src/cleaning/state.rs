//! The state of a cleaning after a published shard: a killed cleaning goes on from there. It is for decisions that are
//! known as a pair passes; where they wait for the end of the corpus, a cleaning starts again.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cleaning::examples::Examples;
use crate::cleaning::repairs::RepairCounts;
use crate::cleaning::request::{CleanRequest, RowCounts};
use crate::columns::shards::PublishedShard;
use crate::corpus::files_read::InputRead;
use crate::corpus::request::Input;
use crate::io::atomic_files::Draft;
use crate::io::digests::{digest_bytes, digest_file};
use crate::{Error, Progress, Result};

/// What is known when all rows before `end` are in published shards.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// The digest of the plan.
    pub plan: String,
    pub end: u64,
    /// Size, time and inode of every file when the cleaning started.
    pub looks: Vec<[i64; 3]>,
    /// The inputs that were read to their end.
    pub ended: Vec<InputRead>,
    pub total: RowCounts,
    pub inputs: Vec<RowCounts>,
    pub tags: BTreeMap<String, RowCounts>,
    /// Rows of each reason, and those that have no other.
    pub reasons: Vec<(u64, u64)>,
    pub examples: Examples,
    pub repairs: BTreeMap<String, RepairCounts>,
    /// Pairs with a side in each test set.
    pub excluded: Vec<u64>,
    /// The published shards of decisions, fingerprints and duplicates.
    pub shards: [Vec<PublishedShard>; 3],
}

/// Size, time and inode of the files of a corpus: equal values mean unchanged files.
pub fn looks(request: &CleanRequest) -> Result<Vec<[i64; 3]>> {
    let files = request.corpus.inputs.iter().flat_map(Input::paths).chain(request.corpus.tags.as_deref());
    let look = |path: &Path| {
        let metadata = fs::metadata(path).map_err(Error::io(path))?;
        let time = metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec());
        Ok([metadata.size() as i64, time, metadata.ino() as i64])
    };
    files.map(look).collect()
}

impl State {
    /// Writes the state, with its digest in the first line.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let content = serde_json::to_vec(self).map_err(|error| Error::input(error.to_string()))?;
        let mut draft = Draft::create(path)?;
        writeln!(draft, "{}", digest_bytes(&content)).map_err(Error::io(path))?;
        draft.write_all(&content).map_err(Error::io(path))?;
        draft.publish()?;
        Ok(())
    }

    /// Reads the state of a killed cleaning with this plan; None if there is none, if an input looks otherwise than it
    /// did, or if a shard has other bytes.
    pub fn read(request: &CleanRequest, looks: &[[i64; 3]], progress: &Progress) -> Result<Option<Self>> {
        let Some(bytes) = request.state.as_ref().and_then(|path| fs::read(path).ok()) else {
            return Ok(None);
        };
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
        let (digest, content) = (&bytes[..end], &bytes[end + 1..]);
        if digest != digest_bytes(content).as_bytes() {
            return Ok(None);
        }
        let Ok(state) = serde_json::from_slice::<Self>(content) else { return Ok(None) };
        let is_of_work = state.plan == request.plan
            && state.looks == looks
            && state.inputs.len() == request.corpus.inputs.len()
            && state.end > request.corpus.first_row;
        if !is_of_work {
            return Ok(None);
        }
        for shard in state.shards.iter().flatten() {
            progress.check()?;
            let path = request.out.join(&shard.file);
            if !path.is_file() || digest_file(&path, progress)? != shard.digest {
                return Ok(None);
            }
        }
        Ok(Some(state))
    }
}
