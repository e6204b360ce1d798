//! Ranks of columns that do not fit into memory: keys are spilled by their leading digits, and each spill is ranked in
//! place by counting its low digits. Needs 12 bytes of temporary disk per record.
//!
//! The rank that is merged is (b + c/2) / n: b values are lower, c are equal (the mean of their ranks), n are ranked; so
//! it lies between 0 and 1, and higher values have higher ones. A spill holds its records in row order, so the pass that
//! adds the ranks up reads every spill from its beginning to its end.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::columns::float32::order;
use crate::io::disk::{self, Scratch};
use crate::io::threads::on_threads;
use crate::selection::request::Merge;
use crate::selection::scan::Scan;
use crate::{Error, Progress, Result};

/// Files that are open at a time, and the buffer of each.
const SPILLS: usize = 512;
const BUFFER: usize = 1 << 14;
/// Bytes that are rewritten at a time.
const CHUNK: usize = 1 << 20;
/// Memory for the tables of the spills that are ranked at a time, if there are several.
const TABLE_BYTES: usize = 256 << 20;
/// Values of a spill whose ranks fit into the place of its keys; a leading digit with more has a spill of its own.
const MOST_NARROW: u64 = if cfg!(test) { 100 } else { i32::MAX as u64 };

fn open_file(scratch: &Scratch, name: &str) -> Result<(PathBuf, File)> {
    let path = scratch.path().join(name);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
    let file = file.map_err(Error::io(&path))?;
    Ok((path, file))
}

/// The weighted sums of ranks, one float64 for every record in row order, in a temporary file.
pub struct Ranks {
    path: PathBuf,
    sums: File,
    /// Removes the files when the ranks are dropped.
    _scratch: Scratch,
}

impl Ranks {
    /// Reads the records a few times; temporary files are made in `tmp`, which is removed at last.
    pub fn of(
        scan: &impl Scan,
        merge: &Merge,
        tmp: &Path,
        records: u64,
        scored: u64,
        threads: usize,
        progress: &Progress,
    ) -> Result<Self> {
        let scratch = Scratch::create(tmp)?;
        disk::require(
            scratch.path(),
            8 * records + 4 * scored,
            "the ranks (in tmp_dir; merge_by = z needs none)",
        )?;
        let (path, sums) = open_file(&scratch, "sums.tmp")?;
        for (number, &(column, weight)) in merge.terms.iter().enumerate() {
            let spills = Spills::of(scan, column, &scratch, progress)?;
            let spills = spills.rank(threads, progress)?;
            spills.add(scan, column, weight, scored, (&path, &sums, number == 0), progress)?;
            for spill in spills.spills {
                fs::remove_file(&spill.path).map_err(Error::io(&spill.path))?;
            }
        }
        Ok(Self { path, sums, _scratch: scratch })
    }

    /// The sums of `count` records from the given one on, NaN where there is none.
    pub fn read(&self, ordinal: u64, count: usize) -> Result<impl Iterator<Item = f64>> {
        read_sums(&self.path, &self.sums, ordinal, count).map(Vec::into_iter)
    }
}

fn read_sums(path: &Path, sums: &File, ordinal: u64, count: usize) -> Result<Vec<f64>> {
    let mut bytes = vec![0; count * 8];
    sums.read_exact_at(&mut bytes, ordinal * 8).map_err(Error::io(path))?;
    Ok(bytes.as_chunks().0.iter().map(|&sum| f64::from_le_bytes(sum)).collect())
}

/// The keys of one contiguous range of leading digits, in row order.
struct Spill {
    path: PathBuf,
    file: File,
    /// How many leading digits occur in the spill, and how many values are below it.
    digits: usize,
    before: u64,
    values: u64,
    /// For a spill whose ranks do not fit into the place of its keys: the rank of each key, by its low digit.
    wide: Option<Vec<u64>>,
}

/// A column's keys, spilled; by leading digit, the number of its spill and its place among the digits there.
struct Spills {
    spills: Vec<Spill>,
    slots: Vec<(u16, u16)>,
}

impl Spills {
    fn of(scan: &impl Scan, column: usize, scratch: &Scratch, progress: &Progress) -> Result<Self> {
        let counts = count(scan, column, progress)?;
        let occupied = counts.iter().filter(|&&count| count > 0).count();
        let most = occupied.div_ceil(SPILLS).max(1);
        let mut found = Self { spills: Vec::new(), slots: vec![(0, 0); counts.len()] };
        let mut before = 0;
        for (digit, &count) in counts.iter().enumerate().filter(|&(_, &count)| count > 0) {
            let is_full = |spill: &Spill| spill.digits == most || spill.values + count > MOST_NARROW;
            if found.spills.last().is_none_or(is_full) {
                let (path, file) = open_file(scratch, &format!("ranks-{}.tmp", found.spills.len()))?;
                found.spills.push(Spill { path, file, digits: 0, before, values: 0, wide: None });
            }
            let number = found.spills.len() as u16 - 1;
            if let Some(spill) = found.spills.last_mut() {
                found.slots[digit] = (number, spill.digits as u16);
                spill.digits += 1;
                spill.values += count;
            }
            before += count;
        }
        found.spill(scan, column, progress)?;
        Ok(found)
    }

    fn spill(&self, scan: &impl Scan, column: usize, progress: &Progress) -> Result<()> {
        let mut writers: Vec<_> =
            self.spills.iter().map(|spill| BufWriter::with_capacity(BUFFER, &spill.file)).collect();
        scan.all(false, progress, &mut |batch| {
            for (&value, score) in batch.columns[column].iter().zip(&batch.scores) {
                if !score.is_nan() {
                    let key = order(value);
                    let number = usize::from(self.slots[(key >> 16) as usize].0);
                    let failed = Error::io(&self.spills[number].path);
                    writers[number].write_all(&key.to_le_bytes()).map_err(failed)?;
                }
            }
            Ok(())
        })?;
        for (mut writer, spill) in writers.into_iter().zip(&self.spills) {
            writer.flush().map_err(Error::io(&spill.path))?;
        }
        Ok(())
    }

    /// Ranks the spills, several at a time if their tables fit into memory together.
    fn rank(mut self, threads: usize, progress: &Progress) -> Result<Self> {
        let digits = self.spills.iter().map(|spill| spill.digits).max().unwrap_or(1);
        let workers = threads.min(TABLE_BYTES / (digits << 16) / size_of::<u64>()).max(1);
        let rank = |(): &mut (), number: usize| self.spills[number].rank(&self.slots, progress);
        let tables = on_threads(workers, self.spills.len(), || (), rank)?;
        for (spill, wide) in self.spills.iter_mut().zip(tables) {
            spill.wide = wide;
        }
        Ok(self)
    }

    /// Adds the weighted ranks of a column to the sums; the first column begins them.
    fn add(
        &self,
        scan: &impl Scan,
        column: usize,
        weight: f64,
        scored: u64,
        (path, sums, begin): (&Path, &File, bool),
        progress: &Progress,
    ) -> Result<()> {
        let mut readers = Vec::with_capacity(self.spills.len());
        for spill in &self.spills {
            // One handle for each file: a process may only have about twice as many.
            (&spill.file).rewind().map_err(Error::io(&spill.path))?;
            readers.push(BufReader::with_capacity(BUFFER, &spill.file));
        }
        let mut ordinal = 0;
        let mut bytes = Vec::new();
        scan.all(false, progress, &mut |batch| {
            let mut held = if begin {
                vec![0.0; batch.rows.len()]
            } else {
                read_sums(path, sums, ordinal, batch.rows.len())?
            };
            for ((&value, score), sum) in batch.columns[column].iter().zip(&batch.scores).zip(&mut held) {
                if score.is_nan() {
                    *sum = f64::NAN;
                    continue;
                }
                let key = order(value);
                let number = usize::from(self.slots[(key >> 16) as usize].0);
                let spill = &self.spills[number];
                let place = if let Some(ranks) = &spill.wide {
                    ranks[(key & 0xffff) as usize]
                } else {
                    let mut place = [0; 4];
                    readers[number].read_exact(&mut place).map_err(Error::io(&spill.path))?;
                    u64::from(u32::from_le_bytes(place))
                };
                let doubled = 2 * spill.before + place;
                *sum += weight * (doubled as f64 / (2 * scored) as f64);
            }
            bytes.clear();
            bytes.extend(held.iter().flat_map(|sum| sum.to_le_bytes()));
            sums.write_all_at(&bytes, ordinal * 8).map_err(Error::io(path))?;
            ordinal += batch.rows.len() as u64;
            Ok(())
        })
    }
}

/// How many scored values have each leading digit.
fn count(scan: &impl Scan, column: usize, progress: &Progress) -> Result<Vec<u64>> {
    let parts = scan.fold(
        true,
        progress,
        || vec![0u64; 1 << 16],
        |counts, batch| {
            for (&value, score) in batch.columns[column].iter().zip(&batch.scores) {
                if !score.is_nan() {
                    counts[(order(value) >> 16) as usize] += 1;
                }
            }
            Ok(())
        },
    )?;
    Ok((0..1 << 16).map(|digit| parts.iter().map(|part| part[digit]).sum()).collect())
}

impl Spill {
    /// Replaces every key by 2b + c: b values of this spill are lower, c are equal. Where this does not fit into the place
    /// of the keys, they stay, and the numbers are returned.
    fn rank(&self, slots: &[(u16, u16)], progress: &Progress) -> Result<Option<Vec<u64>>> {
        let place = |key: u32| usize::from(slots[(key >> 16) as usize].1) << 16 | (key & 0xffff) as usize;
        let mut table = vec![0u64; self.digits << 16];
        self.rewrite(progress, false, |key| {
            table[place(key)] += 1;
            key
        })?;
        let mut before = 0;
        for entry in &mut table {
            let count = *entry;
            *entry = 2 * before + count;
            before += count;
        }
        if self.values > MOST_NARROW {
            return Ok(Some(table));
        }
        self.rewrite(progress, true, |key| table[place(key)] as u32)?;
        Ok(None)
    }

    /// Calls `change` for every number in the file, and replaces the number by the result if `keep`.
    fn rewrite(&self, progress: &Progress, keep: bool, mut change: impl FnMut(u32) -> u32) -> Result<()> {
        let failed = || Error::io(&self.path);
        let size = self.file.metadata().map_err(failed())?.len();
        let mut buffer = vec![0; CHUNK.min(size as usize)];
        let mut at = 0;
        while at < size {
            progress.check()?;
            let chunk = &mut buffer[..CHUNK.min((size - at) as usize)];
            self.file.read_exact_at(chunk, at).map_err(failed())?;
            for bytes in chunk.as_chunks_mut().0 {
                *bytes = change(u32::from_le_bytes(*bytes)).to_le_bytes();
            }
            if keep {
                self.file.write_all_at(chunk, at).map_err(failed())?;
            }
            at += chunk.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::batch::Batch;
    use crate::selection::request::By;

    /// One column in batches of 64 rows.
    struct Values(Vec<f32>);

    impl Scan for Values {
        fn fold<A: Send>(
            &self,
            rowless: bool,
            progress: &Progress,
            start: impl Fn() -> A + Sync,
            visit: impl Fn(&mut A, &Batch) -> Result<()> + Sync,
        ) -> Result<Vec<A>> {
            let mut state = start();
            self.all(rowless, progress, &mut |batch| visit(&mut state, batch))?;
            Ok(vec![state])
        }

        fn all(
            &self,
            _rowless: bool,
            _progress: &Progress,
            visit: &mut dyn FnMut(&Batch) -> Result<()>,
        ) -> Result<()> {
            for (number, values) in self.0.chunks(64).enumerate() {
                let rows = (0..values.len()).map(|row| (number * 64 + row) as u64).collect();
                let (columns, scores) = (vec![values.to_vec()], values.to_vec());
                visit(&Batch { rows, columns, scores, ..Batch::default() })?;
            }
            Ok(())
        }
    }

    #[test]
    fn values_beyond_the_narrow_ranks_are_ranked_like_others() -> Result<()> {
        // Of 3,000 values 1,500 are 1.0, and others share its leading digit; the rest are spread.
        let value = |row: usize| match row % 6 {
            0..3 => 1.0,
            3 => 1.0 + (row % 40) as f32 * 1e-5,
            4 => (row * 7919 % 500) as f32 - 250.0,
            _ => 2.0 + (row % 7) as f32 * 1e-4,
        };
        let values: Vec<f32> = (0..3000).map(value).collect();
        let below = |value: f32| values.iter().filter(|&&other| other < value).count();
        let up_to = |value: f32| values.iter().filter(|&&other| other <= value).count();
        // 2b + c: b values are lower, b + c are at most equal.
        let expected: Vec<f64> =
            values.iter().map(|&value| (below(value) + up_to(value)) as f64 / 6000.0).collect();
        let merge = Merge { by: By::Rank, terms: vec![(0, 1.0)] };
        for threads in [1, 2, 8] {
            let tmp = std::env::temp_dir().join(format!("catprune-ranks-{}-{threads}", std::process::id()));
            let scan = Values(values.clone());
            let ranks = Ranks::of(&scan, &merge, &tmp, 3000, 3000, threads, &Progress::default())?;
            assert_eq!(ranks.read(0, 3000)?.collect::<Vec<_>>(), expected);
        }
        Ok(())
    }
}
