//! A table of the best row of each key, for priorities other than row order and for byte-for-byte comparison.

use crate::duplicates::candidates::Candidate;
use crate::duplicates::first_rows::{Slot, row, same};

const SMALLEST_BITS: u32 = 12;
const FREE: u32 = u32::MAX;

struct Entry {
    slot: Slot,
    priority: u32,
    text: std::ops::Range<usize>,
}

/// Among equal keys the row with the lowest priority number is the best; ties go to the lower row.
pub struct BestRows {
    /// Numbers of entries, by the leading bits of their fingerprints.
    places: Vec<u32>,
    bits: u32,
    shared: u32,
    entries: Vec<Entry>,
    texts: Vec<u8>,
    max_bytes: usize,
}

impl BestRows {
    pub fn new(max_bytes: usize, shared: u32) -> Self {
        let places = vec![FREE; 1 << SMALLEST_BITS];
        Self { places, bits: SMALLEST_BITS, shared, entries: Vec::new(), texts: Vec::new(), max_bytes }
    }

    /// Empties the table. It keeps its size: memory that was used before is much faster than fresh memory.
    pub fn clear(&mut self) {
        self.places.fill(FREE);
        self.entries.clear();
        self.texts.clear();
    }

    /// Adds a row; false if the table has no room for its key.
    pub fn offer(&mut self, candidate: Candidate<'_>) -> bool {
        let mut at = self.find(candidate);
        if let Some(entry) = self.entries.get_mut(self.places[at] as usize) {
            let better = |priority, slot| (priority, row(slot));
            if better(candidate.priority, candidate.slot) < better(entry.priority, entry.slot) {
                (entry.priority, entry.slot) = (candidate.priority, candidate.slot);
            }
            return true;
        }
        if !self.has_room(candidate.text.len()) {
            return false;
        }
        if (self.entries.len() + 1) * 4 > self.places.len() * 3 {
            self.grow();
            at = self.find(candidate);
        }
        self.places[at] = self.entries.len() as u32;
        let start = self.texts.len();
        self.texts.extend_from_slice(candidate.text);
        let Candidate { slot, priority, .. } = candidate;
        self.entries.push(Entry { slot, priority, text: start..self.texts.len() });
        true
    }

    /// The best row of the candidate's key.
    pub fn best(&self, candidate: Candidate<'_>) -> Option<u64> {
        let entry = self.entries.get(self.places[self.find(candidate)] as usize);
        entry.map(|entry| row(entry.slot))
    }

    /// Vectors double when they grow, so twice their size must fit.
    fn has_room(&self, text: usize) -> bool {
        let entries = (self.entries.len() + 1) * size_of::<Entry>() + self.places.len() * size_of::<u32>();
        2 * entries + 2 * (self.texts.len() + text) <= self.max_bytes && self.entries.len() < FREE as usize
    }

    fn grow(&mut self) {
        self.bits += 1;
        self.places = vec![FREE; 1 << self.bits];
        for number in 0..self.entries.len() {
            let mut at = self.place(self.entries[number].slot);
            while self.places[at] != FREE {
                at = (at + 1) & (self.places.len() - 1);
            }
            self.places[at] = number as u32;
        }
    }

    fn place(&self, slot: Slot) -> usize {
        ((slot << self.shared) >> (u128::BITS - self.bits)) as usize
    }

    fn find(&self, candidate: Candidate<'_>) -> usize {
        let mut at = self.place(candidate.slot);
        while let Some(entry) = self.entries.get(self.places[at] as usize) {
            if same(entry.slot, candidate.slot) && self.texts[entry.text.clone()] == *candidate.text {
                return at;
            }
            at = (at + 1) & (self.places.len() - 1);
        }
        at
    }
}
