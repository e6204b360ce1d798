//! Decontamination: reads the segments of test sets and finds training pairs that contain one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::corpus::files_read::FileRead;
use crate::corpus::readers::lines::LineReader;
use crate::text::normal_form::{Form, Normaliser};
use crate::{Error, Progress, Result};

/// Test segments with fewer normalised characters are ignored: they occur in many corpora without having leaked.
pub const LEAST_CHARACTERS: usize = 10;
/// Memory of a segment in bytes, at most, while its table doubles.
const SEGMENT_BYTES: usize = 208;

/// A test set: two files of equal line count, or one file whose lines are compared with both sides.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestSet {
    pub source: PathBuf,
    #[serde(default)]
    pub target: Option<PathBuf>,
}

/// The counts of a test set.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Excluded {
    pub files: Vec<FileRead>,
    /// Lines of all its files.
    pub lines: u64,
    /// Lines of fewer than `LEAST_CHARACTERS`, which exclude nothing.
    pub too_short: u64,
    /// Training pairs with a side in the test set.
    pub pairs: u64,
}

/// The segments of all test sets, by xxh3-128 of their normalised form. The probability that any two of n different
/// segments collide is n² / 2^129.
pub struct Exclusion {
    normaliser: Normaliser,
    /// Numbers of the test sets that have a segment, for sources and for targets.
    segments: [HashMap<u128, Vec<u32>>; 2],
    pub sets: Vec<Excluded>,
}

impl Exclusion {
    /// Reads the test sets; fails if they need more than half of `memory`.
    pub fn read(sets: &[TestSet], max_line_bytes: usize, memory: usize, progress: &Progress) -> Result<Self> {
        let normaliser = Normaliser::new(Form::NORMALISED);
        let mut exclusion = Self { normaliser, segments: Default::default(), sets: Vec::new() };
        for (number, set) in sets.iter().enumerate() {
            exclusion.sets.push(Excluded::default());
            let mut take = |path: &Path, sides: &[usize]| {
                exclusion.read_file(path, sides, number, (max_line_bytes, memory), progress)
            };
            let Some(target) = &set.target else {
                take(&set.source, &[0, 1])?;
                continue;
            };
            let lines = (take(&set.source, &[0])?, take(target, &[1])?);
            if lines.0 != lines.1 {
                return Err(Error::input(format!(
                    "{} has {} lines, {} has {}: the two sides of a test set must have equal line counts",
                    set.source.display(),
                    lines.0,
                    target.display(),
                    lines.1
                )));
            }
        }
        Ok(exclusion)
    }

    /// Adds the lines of a file to `sides`; returns their number.
    fn read_file(
        &mut self,
        path: &Path,
        sides: &[usize],
        number: usize,
        (max_line_bytes, memory): (usize, usize),
        progress: &Progress,
    ) -> Result<u64> {
        let mut reader = LineReader::open(path, max_line_bytes, progress)?;
        let mut normal = String::new();
        loop {
            progress.check()?;
            let first = reader.lines;
            let lines = reader.chunk()?;
            let set = &mut self.sets[number];
            if lines.is_empty() {
                set.lines += first;
                set.files.push(reader.finish()?);
                return Ok(first);
            }
            for index in 0..lines.len() {
                let wrong = |what: &str| {
                    let line = first + index as u64 + 1;
                    Error::input(format!("{}, line {line}: {what}: correct the test set", path.display()))
                };
                if lines.is_too_long(index) {
                    return Err(wrong("the segment is longer than max_line_bytes"));
                }
                let line = std::str::from_utf8(lines.line(index));
                let line = line.map_err(|_| wrong("the segment is not valid UTF-8"))?;
                self.normaliser.normalise_text(line, &mut normal);
                if is_short(&normal) {
                    set.too_short += 1;
                    continue;
                }
                for &side in sides {
                    let sets = self.segments[side].entry(xxh3_128(normal.as_bytes())).or_default();
                    if sets.last() != Some(&(number as u32)) {
                        sets.push(number as u32);
                    }
                }
            }
            if self.bytes() > memory / 2 {
                return Err(Error::input(format!(
                    "{}: the test sets need more than half of memory ({} MiB): raise memory, or exclude fewer test sets",
                    path.display(),
                    memory >> 20
                )));
            }
        }
    }

    /// Memory of the segments in bytes, at most.
    pub fn bytes(&self) -> usize {
        self.segments.iter().map(HashMap::len).sum::<usize>() * SEGMENT_BYTES
    }

    /// The numbers of the test sets that contain one of the sides, ascending. `normal` is a buffer.
    pub fn find(&self, sides: [&str; 2], normal: &mut String) -> Vec<u32> {
        let mut numbers = Vec::new();
        for (side, segments) in sides.into_iter().zip(&self.segments) {
            if segments.is_empty() {
                continue;
            }
            self.normaliser.normalise_text(side, normal);
            if !is_short(normal) {
                numbers.extend(segments.get(&xxh3_128(normal.as_bytes())).into_iter().flatten());
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

fn is_short(normal: &str) -> bool {
    normal.chars().nth(LEAST_CHARACTERS - 1).is_none()
}
