//! The `rare_words` pass: how many rare words of the kept pairs each selection still has, from a sample of all words.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::corpus::chunk::Chunk;
use crate::corpus::pipeline::stream;
use crate::corpus::record::Record;
use crate::corpus::request::Corpus;
use crate::corpus::row_filter::{RowFilter, WantedRows};
use crate::text::normal_form::{Form, Normaliser};
use crate::{Error, Progress, Result};

/// The most words in the sample; about 8 MB.
const MOST_WORDS: usize = 1 << 17;
/// Selections that the bits of a number can tell apart.
const MOST_SELECTIONS: usize = 64;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RareWordsRequest {
    pub corpus: Corpus,
    pub kept: WantedRows,
    /// The kept rows of each selection.
    pub selections: Vec<WantedRows>,
    /// A word that occurs at most so often in the targets of the kept pairs is rare.
    pub rare: u64,
    pub threads: usize,
}

/// Different words of the sample, and for each selection those that occur in its pairs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RareWords {
    /// The sample holds one word in 2^halvings, all of them with 0.
    pub halvings: u32,
    /// All words, those that occur once, and the rare ones (at most `rare` times, once included).
    pub words: Vec<u64>,
    /// The same numbers for the words that a selection has.
    pub selected: Vec<Vec<u64>>,
}

/// Counts the words of the targets. A word belongs to the sample by its hash alone, and the sample is halved whenever it
/// is too large, so the result depends neither on threads nor on the order of the pairs.
pub fn rare_words(request: &RareWordsRequest, progress: &Progress) -> Result<RareWords> {
    if request.selections.len() > MOST_SELECTIONS {
        return Err(Error::input(format!("at most {MOST_SELECTIONS} selections can be compared")));
    }
    let normaliser = Normaliser::new(Form::NORMALISED);
    let mut filters: Vec<RowFilter> = request.selections.iter().map(RowFilter::open).collect();
    // The highest hash of the sample; workers may see it late, and then pass on words that are not needed.
    let highest = AtomicU64::new(u64::MAX);
    let mut sample = Sample::default();
    stream(
        &request.corpus,
        &request.kept,
        request.threads,
        progress,
        |chunk| {
            let found = hash_words(&chunk, &normaliser, highest.load(Ordering::Relaxed));
            Ok((chunk.first, chunk.len(), found))
        },
        |(first, rows, found)| {
            progress.add(0, rows as u64);
            let mut selected = vec![0_u64; rows];
            for (number, filter) in filters.iter_mut().enumerate() {
                for (bits, is_kept) in selected.iter_mut().zip(filter.take(first, rows)?) {
                    *bits |= u64::from(is_kept) << number;
                }
            }
            sample.add(found.into_iter().map(|(index, hash)| (hash, selected[index])));
            highest.store(sample.highest(), Ordering::Relaxed);
            Ok(true)
        },
    )?;
    Ok(sample.count(request.rare, request.selections.len()))
}

/// The hashes of the words of the wanted targets up to `highest`, each with the index of its record.
fn hash_words(chunk: &Chunk, normaliser: &Normaliser, highest: u64) -> Vec<(usize, u64)> {
    let (mut normal, mut found) = (String::new(), Vec::new());
    for index in chunk.wanted() {
        let Record::Pair { target, .. } = chunk.record(index) else { continue };
        let Ok(target) = std::str::from_utf8(target) else { continue };
        normaliser.normalise_text(target, &mut normal);
        let hashes = normal.split(' ').filter(|word| !word.is_empty()).map(|word| xxh3_64(word.as_bytes()));
        found.extend(hashes.filter(|&hash| hash <= highest).map(|hash| (index, hash)));
    }
    found
}

/// The words with the lowest hashes: how often each occurs, and the bits of the selections that have it.
#[derive(Default)]
struct Sample {
    halvings: u32,
    words: HashMap<u64, (u64, u64)>,
}

impl Sample {
    fn highest(&self) -> u64 {
        u64::MAX >> self.halvings
    }

    /// Adds the words of a chunk; halves the sample while it is too large.
    fn add(&mut self, found: impl Iterator<Item = (u64, u64)>) {
        let highest = self.highest();
        for (hash, selected) in found.filter(|&(hash, _)| hash <= highest) {
            let (count, bits) = self.words.entry(hash).or_default();
            *count += 1;
            *bits |= selected;
        }
        while self.words.len() > MOST_WORDS {
            self.halvings += 1;
            let highest = self.highest();
            self.words.retain(|&hash, _| hash <= highest);
        }
    }

    fn count(self, rare: u64, selections: usize) -> RareWords {
        let Self { halvings, words } = self;
        let mut result = RareWords { halvings, words: vec![0; 3], selected: vec![vec![0; 3]; selections] };
        for (count, bits) in words.into_values() {
            let counted = [true, count == 1, count <= rare];
            for (place, _) in counted.into_iter().enumerate().filter(|(_, is_counted)| *is_counted) {
                result.words[place] += 1;
                for (number, selected) in result.selected.iter_mut().enumerate() {
                    selected[place] += bits >> number & 1;
                }
            }
        }
        result
    }
}
