//! Decontamination: reads the segments of test sets and finds training pairs that contain one.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use crate::corpus::files_read::FileRead;
use crate::corpus::request::Corpus;
use crate::corpus::segments::{TestSet, read_segments};
use crate::text::normal_form::{Form, Normaliser};
use crate::text::repair::Repairer;
use crate::{Error, Progress, Result};

/// Test segments with fewer normalised characters are ignored: they occur in many corpora without having leaked.
pub const LEAST_CHARACTERS: usize = 10;
/// Memory of a segment in bytes, at most, while its table doubles.
const SEGMENT_BYTES: usize = 208;

/// The counts of a test set.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Excluded {
    pub files: Vec<FileRead>,
    /// Lines, or segments of markup, of all its files.
    pub lines: u64,
    /// The sides in these lines: two for each line of TSV.
    pub segments: u64,
    /// Segments that look like a tag or an object of JSON.
    pub markup: u64,
    /// Segments of fewer than `LEAST_CHARACTERS`, which exclude nothing.
    pub too_short: u64,
    /// Training pairs with a side in the test set.
    pub pairs: u64,
}

/// The segments of all test sets, by xxh3-128 of their normalised form. The probability that any two of n different
/// segments collide is n² / 2^129.
pub struct Exclusion {
    /// Segments are repaired like the corpus.
    repairer: Repairer,
    normaliser: Normaliser,
    /// Numbers of the test sets that have a segment, for sources and for targets.
    segments: [HashMap<u128, Vec<u32>>; 2],
    /// A buffer.
    normal: String,
    pub sets: Vec<Excluded>,
}

impl Exclusion {
    /// Reads the test sets; fails if they need more than half of `memory`.
    pub fn read(sets: &[TestSet], corpus: &Corpus, memory: usize, progress: &Progress) -> Result<Self> {
        let mut exclusion = Self {
            repairer: Repairer::new(&corpus.repair),
            normaliser: Normaliser::new(Form::NORMALISED),
            segments: Default::default(),
            normal: String::new(),
            sets: Vec::new(),
        };
        for (number, set) in sets.iter().enumerate() {
            exclusion.sets.push(Excluded::default());
            let mut take = |path: &Path, sides: &[usize]| {
                let (lines, file) =
                    read_segments(path, set.format, corpus.max_line_bytes, memory, progress, |segment| {
                        let named = segment.side.map(|side| [side]);
                        exclusion.add(segment.text, named.as_ref().map_or(sides, |side| side), number);
                        exclusion.check_memory(path, memory)
                    })?;
                exclusion.sets[number].lines += lines;
                exclusion.sets[number].files.push(file);
                Ok::<_, Error>(lines)
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

    /// Adds a segment of a test set to `sides`.
    fn add(&mut self, text: &str, sides: &[usize], number: usize) {
        let set = &mut self.sets[number];
        set.segments += 1;
        let trimmed = text.trim();
        set.markup += u64::from(
            trimmed.starts_with('<') && trimmed.ends_with('>')
                || trimmed.starts_with('{') && trimmed.ends_with('}'),
        );
        self.normaliser.normalise_text(&self.repairer.repair(text).0, &mut self.normal);
        if is_short(&self.normal) {
            set.too_short += 1;
            return;
        }
        for &side in sides {
            let sets = self.segments[side].entry(xxh3_128(self.normal.as_bytes())).or_default();
            if sets.last() != Some(&(number as u32)) {
                sets.push(number as u32);
            }
        }
    }

    fn check_memory(&self, path: &Path, memory: usize) -> Result<()> {
        if self.bytes() <= memory / 2 {
            return Ok(());
        }
        Err(Error::input(format!(
            "{}: the test sets need more than half of memory ({} MiB): raise memory, or exclude fewer test sets",
            path.display(),
            memory >> 20
        )))
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
