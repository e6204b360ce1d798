//! The `sample` pass: writes a seeded sample of the kept pairs, for training a tokenizer.

use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::corpus::pipeline::stream;
use crate::corpus::record::Record;
use crate::corpus::request::Corpus;
use crate::corpus::row_filter::WantedRows;
use crate::io::atomic_files::Draft;
use crate::{Error, Progress, Result};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleRequest {
    pub corpus: Corpus,
    pub kept: WantedRows,
    /// The share of the kept pairs, 0 to 1: a row is sampled if its hash is in the lowest such share of all hashes.
    pub fraction: f64,
    pub seed: u64,
    /// A text file, one line per side.
    pub out: PathBuf,
    pub threads: usize,
}

/// A hash that is independent of the method `random`, so that a random selection neither avoids nor prefers this
/// sample.
fn sample_hash(row: u64, seed: u64) -> u64 {
    let mut salted = *b"........sample";
    salted[..8].copy_from_slice(&row.to_le_bytes());
    xxh3_64_with_seed(&salted, seed)
}

/// Writes a seeded sample of the kept pairs and returns the number of sampled pairs. Whether a row is sampled depends
/// only on the seed and the row.
pub fn sample(request: &SampleRequest, progress: &Progress) -> Result<u64> {
    let mut draft = Draft::create(&request.out)?;
    let mut pairs = 0;
    // 2^64 * fraction; the cast saturates at the largest hash.
    let highest = (request.fraction * 18_446_744_073_709_551_616.0) as u64;
    stream(
        &request.corpus,
        &request.kept,
        request.threads,
        progress,
        |chunk| {
            let mut text = Vec::new();
            let mut sampled = 0_u64;
            for index in chunk.wanted() {
                let row = chunk.first + index as u64;
                if sample_hash(row, request.seed) <= highest
                    && let Record::Pair { source, target } = chunk.record(index)
                {
                    sampled += 1;
                    for side in &[source, target][usize::from(chunk.monolingual)..] {
                        text.extend_from_slice(side);
                        text.push(b'\n');
                    }
                }
            }
            Ok((sampled, chunk.len(), text))
        },
        |(sampled, rows, text)| {
            progress.add(0, rows as u64);
            pairs += sampled;
            draft.write_all(&text).map_err(Error::io(&request.out))?;
            Ok(true)
        },
    )?;
    draft.publish()?;
    Ok(pairs)
}
