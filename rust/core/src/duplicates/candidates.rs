//! A row that may be a duplicate, and the layout of its spilled record.

use crate::duplicates::first_rows::Slot;

/// The parts of a spilled record besides the slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// The priority: among equal keys the row with the lowest number is kept, not the first.
    pub priority: bool,
    /// The text of the key, to be compared byte for byte.
    pub text: bool,
}

impl Layout {
    /// Whether the first row of each fingerprint is kept.
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
