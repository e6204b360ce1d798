//! The records of a chunk after repair.

use std::borrow::Cow;

use simdutf8::basic::from_utf8;

use crate::corpus::record::{Pairs, Record};
use crate::text::repair::Repairer;

/// Repaired records, and for each side of each of them a bit for each repair that changed it.
pub struct Repaired {
    pub pairs: Pairs,
    changes: Vec<[u8; 2]>,
}

impl Repaired {
    /// Repairs records; None if that changes none of them. A side that is not UTF-8 stays as it is.
    pub fn new<'a>(records: impl Iterator<Item = Record<'a>>, repairer: &Repairer) -> Option<Self> {
        let mut result = Self { pairs: Pairs::default(), changes: Vec::new() };
        for record in records {
            let Record::Pair { source, target } = record else {
                result.changes.push([0, 0]);
                result.pairs.push(record);
                continue;
            };
            let ((source, of_source), (target, of_target)) =
                (repair(source, repairer), repair(target, repairer));
            result.changes.push([of_source, of_target]);
            result.pairs.push(Record::Pair { source: &source, target: &target });
        }
        result.changes.iter().any(|&changes| changes != [0, 0]).then_some(result)
    }

    /// A bit for each repair that changed a record.
    pub fn changes(&self, index: usize) -> u8 {
        self.changes[index][0] | self.changes[index][1]
    }

    /// The sides of a record that were changed; None if none was.
    pub fn changed(&self, index: usize) -> Option<[Option<&[u8]>; 2]> {
        let is_changed = self.changes[index].map(|changes| changes != 0);
        match self.pairs.record(index) {
            Record::Pair { source, target } if is_changed != [false, false] => {
                Some([Some(source).filter(|_| is_changed[0]), Some(target).filter(|_| is_changed[1])])
            }
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
