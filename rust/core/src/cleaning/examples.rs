//! Examples of dropped pairs: of each reason the few rows whose hashes are lowest, so that they come from all over the
//! corpus and are the same at every run.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::cleaning::reasons::{REASONS, places};
use crate::corpus::chunk::Chunk;
use crate::corpus::record::Record;

/// Examples kept of each reason, and how much of a side they show.
const EXAMPLES: usize = 3;
const EXAMPLE_CHARACTERS: usize = 200;
/// Survivors whose text is held in case that they turn out to be duplicates: enough unless fewer than about one in
/// fifty does.
const CANDIDATES: usize = 256;

#[derive(Debug, Clone, Serialize)]
pub struct Example {
    pub row: u64,
    pub source: String,
    pub target: String,
}

#[derive(Default)]
pub struct Examples {
    /// Of each reason, by hash.
    reasons: [Vec<Example>; REASONS.len()],
    /// Survivors by hash.
    candidates: BTreeMap<u64, Example>,
    /// Rows whose text was not held.
    wanting: BTreeSet<u64>,
}

impl Examples {
    /// Offers a dropped row; `example` is made only if it is among the lowest.
    pub fn offer(&mut self, reasons: u32, row: u64, example: impl Fn() -> Example) {
        for reason in places(reasons) {
            if let Some(place) = self.place(reason, row) {
                let held = &mut self.reasons[reason];
                held.insert(place, example());
                held.truncate(EXAMPLES);
            }
        }
    }

    /// Where a row stands among the examples of a reason; nearly all stand nowhere.
    fn place(&self, reason: usize, row: u64) -> Option<usize> {
        let held = &self.reasons[reason];
        let place = held.iter().rposition(|example| order(example.row) < order(row)).map_or(0, |at| at + 1);
        (place < EXAMPLES).then_some(place)
    }

    /// Offers a row that may turn out to be a duplicate.
    pub fn offer_candidate(&mut self, row: u64, example: impl Fn() -> Example) {
        let order = order(row);
        if self.candidates.len() == CANDIDATES
            && self.candidates.last_key_value().is_some_and(|(&highest, _)| highest < order)
        {
            return;
        }
        self.candidates.insert(order, example());
        if self.candidates.len() > CANDIDATES {
            self.candidates.pop_last();
        }
    }

    /// Offers a row that has turned out to be one; its text may be wanting.
    pub fn offer_found(&mut self, reason: u32, row: u64) {
        if places(reason).all(|reason| self.place(reason, row).is_none()) {
            return;
        }
        let text = self.candidates.get(&order(row)).cloned();
        if text.is_none() {
            self.wanting.insert(row);
        }
        let wanting = || Example { row, source: String::new(), target: String::new() };
        self.offer(reason, row, || text.clone().unwrap_or_else(wanting));
        // Only what is still an example is read at the end.
        if self.wanting.len() > 64 * EXAMPLES {
            self.wanting = self.wanting().into_iter().collect();
        }
    }

    /// The rows, ascending, of examples whose text was not held.
    pub fn wanting(&self) -> Vec<u64> {
        let shown: BTreeSet<u64> = self.reasons.iter().flatten().map(|example| example.row).collect();
        self.wanting.intersection(&shown).copied().collect()
    }

    /// Gives an example its text.
    pub fn complete(&mut self, row: u64, source: &str, target: &str) {
        for example in self.reasons.iter_mut().flatten().filter(|example| example.row == row) {
            *example = shorten(row, source.as_bytes(), target.as_bytes());
        }
    }

    pub fn into_reasons(self) -> BTreeMap<&'static str, Vec<Example>> {
        REASONS.into_iter().zip(self.reasons).filter(|(_, examples)| !examples.is_empty()).collect()
    }
}

fn order(row: u64) -> u64 {
    xxh3_64(&row.to_le_bytes())
}

/// A record that is no pair, or no text, is shown as it stands, as far as it was held.
pub fn example(chunk: &Chunk, index: usize) -> Example {
    let row = chunk.first + index as u64;
    match chunk.record(index) {
        Record::Pair { source, target } => shorten(row, source, target),
        Record::Malformed if chunk.monolingual => shorten(row, b"", chunk.whole(index).unwrap_or_default()),
        Record::Malformed => shorten(row, chunk.whole(index).unwrap_or_default(), b""),
        Record::TooLong | Record::MissingSide => shorten(row, b"", b""),
    }
}

fn shorten(row: u64, source: &[u8], target: &[u8]) -> Example {
    let shown = |side: &[u8]| {
        let text = String::from_utf8_lossy(side);
        let mut shown: String = text.chars().take(EXAMPLE_CHARACTERS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        shown
    };
    Example { row, source: shown(source), target: shown(target) }
}
