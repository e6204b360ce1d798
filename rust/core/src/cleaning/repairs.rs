//! Counts the records that each repair changed, with a few of them as examples.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::cleaning::examples::{EXAMPLES, Example, order, shown};
use crate::corpus::chunk::Chunk;
use crate::corpus::record::Record;
use crate::text::repair::{REPAIRS, Repair};

/// Characters of an example before the first that was repaired.
const CHARACTERS_BEFORE: usize = 40;

/// The records that a repair changed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RepairCounts {
    pub records: u64,
    /// Those with the lowest hashes of their rows, by hash.
    pub examples: Vec<RepairExample>,
}

/// A record before and after all repairs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RepairExample {
    #[serde(flatten)]
    pub repaired: Example,
    pub stored_source: String,
    pub stored_target: String,
}

/// No counts yet of each repair, by its name.
pub fn no_counts(repairs: &[Repair]) -> BTreeMap<String, RepairCounts> {
    let asked = REPAIRS.iter().filter(|(repair, _)| repairs.contains(repair));
    asked.map(|(_, name)| ((*name).to_owned(), RepairCounts::default())).collect()
}

/// Counts records of a chunk.
pub fn add(repairs: &mut BTreeMap<String, RepairCounts>, chunk: &Chunk, places: &Range<usize>) {
    for (bit, (_, name)) in REPAIRS.iter().enumerate() {
        let Some(counts) = repairs.get_mut(*name) else { continue };
        for place in places.clone().filter(|&place| chunk.changes(place) & 1 << bit != 0) {
            counts.records += 1;
            counts.offer(chunk, place);
        }
    }
}

impl RepairCounts {
    fn offer(&mut self, chunk: &Chunk, place: usize) {
        let row = chunk.first + place as u64;
        let before = |example: &RepairExample| order(example.repaired.row) < order(row);
        let at = self.examples.iter().rposition(before).map_or(0, |at| at + 1);
        if at == EXAMPLES {
            return;
        }
        let [(stored_source, source), (stored_target, target)] =
            match (chunk.stored(place), chunk.record(place)) {
                (
                    Record::Pair { source: stored_source, target: stored_target },
                    Record::Pair { source, target },
                ) => [around(stored_source, source), around(stored_target, target)],
                _ => return,
            };
        let repaired = Example { row, source, target };
        self.examples.insert(at, RepairExample { repaired, stored_source, stored_target });
        self.examples.truncate(EXAMPLES);
    }
}

/// A stored and a repaired side, shortened to what is around their first difference.
fn around(stored: &[u8], repaired: &[u8]) -> (String, String) {
    let [stored, repaired] = [stored, repaired].map(String::from_utf8_lossy);
    let alike = stored.chars().zip(repaired.chars()).take_while(|(one, other)| one == other).count();
    let begin = alike.saturating_sub(CHARACTERS_BEFORE);
    let part = |text: &str| {
        let rest: String = text.chars().skip(begin).collect();
        shown(if begin > 0 { format!("…{rest}") } else { rest }.as_bytes())
    };
    (part(&stored), part(&repaired))
}
