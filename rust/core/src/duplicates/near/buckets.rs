//! Near duplicates in row order: the bands of all pairs are spilled to partitions on disk. Buckets of equal bands are
//! resolved in memory, partition by partition, and the linked rows are joined to clusters.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::duplicates::near::components::{Components, Labels};
use crate::duplicates::near::signature::NearOptions;
use crate::io::disk;
use crate::io::spool::Spool;
use crate::io::threads::on_threads;
use crate::text::mix::GOLDEN;
use crate::{Error, Progress, Result, Row};

/// Bands are partitioned by the highest byte of their hash.
const PARTITIONS: usize = 256;
/// The other 7 bytes of the hash, 5 of the row, 16 of the sketch.
const RECORD: usize = 28;
const MAX_ROW: u64 = 1 << 40;
/// Memory of a bucket: 56 bytes and 1 of the table, if the table has just doubled.
const BUCKET_BYTES: usize = 160;
/// Disk is estimated when this many pairs were added, and whenever their number has doubled.
const FIRST_ESTIMATE: u64 = 1 << 17;

/// The first and the latest row of a bucket.
struct Bucket {
    first: (u64, u128),
    latest: (u64, u128),
}

/// The keys are hashes already, but the table looks at the high bits first, and all keys of a partition share those.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(GOLDEN);
    }
}

type Buckets = HashMap<u64, Bucket, BuildHasherDefault<Spread>>;

/// Collects the bands of pairs in row order, and resolves them at the end.
///
/// In a bucket (the pairs that agree on a band) each row is compared with the bucket's first row and with the row before
/// it; rows are linked if the similarity of their sketches reaches the threshold. A cluster is a
/// connected component of all links. A bucket depends on the rows that are in it and on their order alone, so clusters
/// do not depend on partitions, memory or threads.
pub struct NearDuplicates {
    bands: Spool,
    bands_of_a_pair: u64,
    most_differing: u32,
    pairs: u64,
    rows: u64,
    /// One bit for each row, up to the last row that was left out.
    left_out: Vec<u64>,
    folder: PathBuf,
    memory: usize,
}

impl NearDuplicates {
    /// Temporary files are in `folder`; `memory` bounds buffers and tables, and later the clusters.
    pub fn new(options: &NearOptions, folder: &Path, memory: usize) -> Result<Self> {
        Ok(Self {
            bands: Spool::new(folder, PARTITIONS, memory / 8)?,
            bands_of_a_pair: options.bands as u64,
            most_differing: options.most_differing(),
            pairs: 0,
            rows: 0,
            left_out: Vec::new(),
            folder: folder.to_owned(),
            memory,
        })
    }

    /// Adds a pair; rows ascend. `done` is the share of the corpus that was read; it is used to estimate the disk space.
    pub fn add(&mut self, row: u64, bands: &[u64], sketch: u128, done: f64) -> Result<()> {
        if row >= MAX_ROW {
            return Err(Error::input(format!(
                "{}: near duplicates are found among the first {MAX_ROW} rows",
                Row(row)
            )));
        }
        // The bits of rows that are left out are the only memory that grows with the rows.
        if row / 8 > (self.memory / 4) as u64 {
            return Err(Error::input(format!(
                "{}: near duplicates of more rows do not fit into memory: give more memory",
                Row(row)
            )));
        }
        let mut record = [0; RECORD];
        record[7..12].copy_from_slice(&row.to_le_bytes()[..5]);
        record[12..].copy_from_slice(&sketch.to_le_bytes());
        for hash in bands {
            record[..7].copy_from_slice(&hash.to_le_bytes()[..7]);
            self.bands.push((hash >> 56) as usize, &record)?;
        }
        self.rows = row + 1;
        self.pairs += 1;
        if self.pairs >= FIRST_ESTIMATE && self.pairs.is_power_of_two() {
            self.check_room(done)?;
        }
        Ok(())
    }

    fn check_room(&self, done: f64) -> Result<()> {
        let to_come = self.pairs as f64 * (1.0 / done.clamp(1e-9, 1.0) - 1.0);
        let needed = (to_come * (RECORD as u64 * self.bands_of_a_pair) as f64) as u64;
        disk::require(&self.folder, needed, "the bands of near duplicates")
    }

    /// Leaves out a row that was added but is dropped for another reason.
    pub fn leave_out(&mut self, row: u64) {
        let word = (row / 64) as usize;
        if word >= self.left_out.len() {
            self.left_out.resize(word + 1, 0);
        }
        self.left_out[word] |= 1 << (row % 64);
    }

    fn is_left_out(&self, row: u64) -> bool {
        self.left_out.get((row / 64) as usize).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// The rows that are not the first of their cluster, ascending, each with that first row. Several partitions are
    /// resolved at a time, if their buckets fit into memory together.
    pub fn resolve(mut self, threads: usize, progress: &Progress) -> Result<Labels> {
        self.bands.flush()?;
        let clusters = Mutex::new(Components::new(self.rows, &self.folder, self.memory / 3)?);
        let memory = self.memory / 3;
        let largest = (0..PARTITIONS).map(|partition| self.bucket_bytes(partition)).max().unwrap_or(0);
        // Fewer threads are better than reading a partition twice.
        let workers = threads.min(memory / largest.max(1)).max(1);
        on_threads(workers, PARTITIONS, Buckets::default, |buckets, partition| {
            self.resolve_partition(partition, memory / workers, buckets, &clusters, progress)
        })?;
        drop(self);
        clusters.into_inner().unwrap_or_else(PoisonError::into_inner).finish(progress)
    }

    /// Memory for all buckets of a partition, at most.
    fn bucket_bytes(&self, partition: usize) -> usize {
        self.bands.bytes(partition) / RECORD * BUCKET_BYTES
    }

    /// Resolves a partition, in several passes over parts of the hashes if its buckets do not fit into memory.
    fn resolve_partition(
        &self,
        partition: usize,
        memory: usize,
        buckets: &mut Buckets,
        clusters: &Mutex<Components>,
        progress: &Progress,
    ) -> Result<()> {
        let passes = self.bucket_bytes(partition).div_ceil(memory.max(1)).max(1) as u128;
        let (mut buffer, mut links) = (Vec::new(), Vec::new());
        for pass in 0..passes {
            buckets.clear();
            let mut blocks = self.bands.blocks(partition);
            while let Some(records) = self.bands.read(&mut blocks, &mut buffer)? {
                progress.check()?;
                for record in records.as_chunks().0 {
                    let (hash, row, sketch) = parse(record);
                    if (u128::from(hash) * passes) >> 56 == pass && !self.is_left_out(row) {
                        self.meet(buckets.entry(hash), (row, sketch), &mut links);
                    }
                }
                // Clusters do not depend on the order of the links.
                let mut clusters = clusters.lock().unwrap_or_else(PoisonError::into_inner);
                links.drain(..).try_for_each(|(row, earlier)| clusters.link(row, earlier))?;
            }
        }
        Ok(())
    }

    /// Puts a row into its bucket and links it with the rows that it is compared with there.
    fn meet(&self, bucket: Entry<'_, u64, Bucket>, new: (u64, u128), links: &mut Vec<(u64, u64)>) {
        let bucket = match bucket {
            Entry::Vacant(vacant) => {
                vacant.insert(Bucket { first: new, latest: new });
                return;
            }
            Entry::Occupied(occupied) => occupied.into_mut(),
        };
        let similar = |(_, sketch): (u64, u128)| (sketch ^ new.1).count_ones() <= self.most_differing;
        if similar(bucket.first) {
            links.push((new.0, bucket.first.0));
        }
        if bucket.latest.0 != bucket.first.0 && similar(bucket.latest) {
            links.push((new.0, bucket.latest.0));
        }
        bucket.latest = new;
    }
}

fn parse(record: &[u8; RECORD]) -> (u64, u64, u128) {
    let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _] = *record;
    let [_, _, _, _, _, _, _, _, _, _, _, _, sketch @ ..] = *record;
    let head = u128::from_le_bytes(head);
    ((head & ((1 << 56) - 1)) as u64, (head >> 56) as u64 & (MAX_ROW - 1), u128::from_le_bytes(sketch))
}
