//! Examples of dropped pairs: for each reason the few rows with the lowest hashes, so that they come from the whole
//! corpus and are the same in every run.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::cleaning::reasons::{REASONS, places};
use crate::corpus::chunk::Chunk;
use crate::corpus::record::Record;

/// Examples for each reason, and characters of a side that they show.
pub const EXAMPLES: usize = 3;
const EXAMPLE_CHARACTERS: usize = 200;
/// Survivors whose text is kept in case they turn out to be duplicates. This suffices unless fewer than about one in
/// fifty does.
const CANDIDATES: usize = 256;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Example {
    pub row: u64,
    pub source: String,
    pub target: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Examples {
    /// For each reason, by hash.
    reasons: [Vec<Example>; REASONS.len()],
    /// Survivors by hash.
    candidates: BTreeMap<u64, Example>,
    /// Rows whose text was not kept.
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

    /// The position of a row among the examples of a reason; None for nearly all rows.
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

    /// Offers a row that turned out to be a duplicate; its text may be missing.
    pub fn offer_late(&mut self, reason: u32, row: u64) {
        if places(reason).all(|reason| self.place(reason, row).is_none()) {
            return;
        }
        let text = self.candidates.get(&order(row)).cloned();
        if text.is_none() {
            self.wanting.insert(row);
        }
        let wanting = || Example { row, source: String::new(), target: String::new() };
        self.offer(reason, row, || text.clone().unwrap_or_else(wanting));
        // Rows that are no longer examples need not be read at the end.
        if self.wanting.len() > 64 * EXAMPLES {
            self.wanting = self.wanting().into_iter().collect();
        }
    }

    /// The rows of examples whose text is missing, ascending.
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

/// A hash of a row: the lowest are shown.
pub fn order(row: u64) -> u64 {
    xxh3_64(&row.to_le_bytes())
}

/// The example of a record; a malformed record is shown as it is in the file, if it was kept.
pub fn example(chunk: &Chunk, index: usize) -> Example {
    let row = chunk.first + index as u64;
    match chunk.record(index) {
        Record::Pair { source, target } => shorten(row, source, target),
        Record::Malformed | Record::Columns if chunk.monolingual => {
            shorten(row, b"", &chunk.whole(index).unwrap_or_default())
        }
        Record::Malformed | Record::Columns => shorten(row, &chunk.whole(index).unwrap_or_default(), b""),
        Record::TooLong | Record::MissingSide => shorten(row, b"", b""),
    }
}

fn shorten(row: u64, source: &[u8], target: &[u8]) -> Example {
    Example { row, source: shown(source), target: shown(target) }
}

/// The first characters of a side.
pub fn shown(side: &[u8]) -> String {
    let text = String::from_utf8_lossy(side);
    let mut shown: String = text.chars().take(EXAMPLE_CHARACTERS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
