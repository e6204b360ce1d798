//! Exact duplicates in bounded memory: one table of fingerprints while it fits, partitions on disk beyond it. The
//! decisions are the same.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::duplicates::candidates::{Candidate, Layout};
use crate::duplicates::first_rows::{FirstRows, slot};
use crate::duplicates::late::{LateCollector, LateDuplicates};
use crate::duplicates::partitions::Partitions;
use crate::{Progress, Result};

/// The rows of a chunk that pass the rules, ascending, with their keys.
#[derive(Debug, Default)]
pub struct Survivors {
    pub rows: Vec<u64>,
    /// One for every part of the key.
    pub keys: Vec<Keyed>,
}

#[derive(Debug, Default, Clone)]
pub struct Keyed {
    pub fingerprints: Vec<u128>,
    /// The texts of the keys, and where each ends; empty unless keys are compared byte for byte.
    pub texts: Vec<u8>,
    pub ends: Vec<usize>,
}

impl Keyed {
    fn text(&self, index: usize) -> &[u8] {
        let Some(&end) = self.ends.get(index) else { return &[] };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.texts[start..end]
    }
}

/// Finds duplicates by one key, or by each of two.
pub struct Duplicates {
    parts: Vec<Part>,
    layout: Layout,
    memory: usize,
    /// The folder of temporary files.
    folder: PathBuf,
}

enum Part {
    Table(FirstRows),
    Files(Partitions),
}

impl Duplicates {
    /// `keys` tables share `memory` bytes. With priorities or byte-for-byte comparison, all decisions wait for the end of
    /// the corpus.
    pub fn new(keys: usize, layout: Layout, memory: usize, folder: &Path) -> Result<Self> {
        let table = || Part::Table(FirstRows::new(memory / keys.max(1), 0));
        let parts = (0..keys).map(|_| table()).collect();
        let mut duplicates = Self { parts, layout, memory, folder: folder.to_owned() };
        if !layout.is_plain() && keys > 0 {
            duplicates.spill()?;
        }
        Ok(duplicates)
    }

    /// Whether decisions wait for `resolve`.
    pub fn are_deferred(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Files(_)))
    }

    /// Adds the rows of a chunk. While the tables fit, calls `earlier` for each duplicate, with its index among the
    /// survivors and the row that is kept; later, duplicates wait for `resolve`. The row with the lowest `priority` is kept.
    pub fn add(
        &mut self,
        survivors: &Survivors,
        priority: impl Fn(usize) -> u32,
        mut earlier: impl FnMut(usize, u64),
    ) -> Result<()> {
        let count = survivors.rows.len();
        let has_room = |part: &mut Part| match part {
            Part::Table(table) => table.reserve(count),
            Part::Files(_) => true,
        };
        if !self.parts.iter_mut().all(has_room) {
            self.spill()?;
        }
        let mut of = vec![None; if self.are_deferred() { 0 } else { count }];
        for (part, key) in self.parts.iter_mut().zip(&survivors.keys) {
            let rows = key.fingerprints.iter().zip(&survivors.rows);
            match part {
                Part::Table(table) => {
                    let slots: Vec<_> = rows.map(|(&fingerprint, &row)| slot(fingerprint, row)).collect();
                    table.insert(&slots, |index, held| {
                        of[index] = of[index].into_iter().chain(held).min();
                    });
                }
                Part::Files(files) => {
                    for (index, (&fingerprint, &row)) in rows.enumerate() {
                        let slot = slot(fingerprint, row);
                        files.add(Candidate { slot, priority: priority(index), text: key.text(index) })?;
                    }
                }
            }
        }
        for (index, of) in of.into_iter().enumerate() {
            if let Some(of) = of {
                earlier(index, of);
            }
        }
        Ok(())
    }

    /// Moves the tables to partitions: later duplicates are reported by `resolve`.
    fn spill(&mut self) -> Result<()> {
        let buffers = self.memory / 4 / self.parts.len().max(1);
        for part in &mut self.parts {
            let Part::Table(table) = part else { continue };
            // The table is freed before the buffers are allocated.
            let table = std::mem::replace(table, FirstRows::new(0, 0));
            let mut files = Partitions::create(&self.folder, self.layout, buffers)?;
            for slot in table.held() {
                files.add(Candidate { slot, ..Candidate::default() })?;
            }
            *part = Part::Files(files);
        }
        Ok(())
    }

    /// The duplicates whose decisions waited, by shards that end at these rows.
    pub fn resolve(self, ends: Vec<u64>, threads: usize, progress: &Progress) -> Result<LateDuplicates> {
        let late = Mutex::new(LateCollector::new(ends, &self.folder, self.memory / 8)?);
        for part in self.parts {
            if let Part::Files(files) = part {
                files.resolve(&late, threads, self.memory, progress)?;
            }
        }
        late.into_inner().unwrap_or_else(PoisonError::into_inner).finish()
    }
}
