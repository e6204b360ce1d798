//! The records of a chunk after repair.

use std::borrow::Cow;

use simdutf8::basic::from_utf8;

use crate::corpus::record::{Pairs, Record};
use crate::text::repair::Repairer;

/// Repaired records, and for each of them a bit for each repair that changed it.
pub struct Repaired {
    pub pairs: Pairs,
    pub changes: Vec<u8>,
}

impl Repaired {
    /// Repairs records; None if that changes none of them. A side that is not UTF-8 stays as it is.
    pub fn new<'a>(records: impl Iterator<Item = Record<'a>>, repairer: &Repairer) -> Option<Self> {
        let mut result = Self { pairs: Pairs::default(), changes: Vec::new() };
        for record in records {
            let Record::Pair { source, target } = record else {
                result.changes.push(0);
                result.pairs.push(record);
                continue;
            };
            let ((source, of_source), (target, of_target)) =
                (repair(source, repairer), repair(target, repairer));
            result.changes.push(of_source | of_target);
            result.pairs.push(Record::Pair { source: &source, target: &target });
        }
        result.changes.iter().any(|&changes| changes != 0).then_some(result)
    }

    /// The two sides of a record that was changed.
    pub fn changed(&self, index: usize) -> Option<[&[u8]; 2]> {
        match self.pairs.record(index) {
            Record::Pair { source, target } if self.changes[index] != 0 => Some([source, target]),
            _ => None,
        }
    }
}

fn repair<'a>(side: &'a [u8], repairer: &Repairer) -> (Cow<'a, [u8]>, u8) {
    let Ok(text) = from_utf8(side) else { return (Cow::Borrowed(side), 0) };
    match repairer.repair(text) {
        (Cow::Borrowed(_), changes) => (Cow::Borrowed(side), changes),
        (Cow::Owned(text), changes) => (Cow::Owned(text.into_bytes()), changes),
    }
}
