//! A row that may be a duplicate, and what is kept of it until that is known.

use crate::duplicates::first_rows::Slot;

/// What stands in a record beside the slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// How much the row is wished for: the lowest of equal keys is kept, not the first.
    pub priority: bool,
    /// What the fingerprint is of, to be compared byte for byte.
    pub text: bool,
}

impl Layout {
    /// Whether the first row of a fingerprint is always the one that is kept.
    pub fn is_plain(self) -> bool {
        self == Self::default()
    }
}

/// A row that may be a duplicate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Candidate<'a> {
    pub slot: Slot,
    pub priority: u32,
    pub text: &'a [u8],
}
