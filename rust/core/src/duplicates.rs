//! Exact duplicates: fingerprints of a pair's key, and one table of 16-byte slots that keeps the first row of each.

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};
use xxhash_rust::xxh3::Xxh3;

use crate::{Error, Result};

/// What two records must share to be duplicates.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    None,
    Pair,
    Source,
    Target,
}

/// Whether they must share it byte for byte.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    Raw,
    /// Unicode NFKC, lower case, no punctuation, runs of white space as one space and none at the ends; a side
    /// that is nothing but punctuation keeps it.
    Normalised,
}

/// Makes fingerprints; keeps its buffer from one to the next.
pub struct Fingerprints {
    key: Key,
    form: Form,
    buffer: String,
}

impl Fingerprints {
    pub fn new(key: Key, form: Form) -> Self {
        Self { key, form, buffer: String::new() }
    }

    /// xxh3-128 over the key's sides, each after its length in bytes (u64, little-endian).
    pub fn of(&mut self, source: &str, target: &str) -> u128 {
        let mut hash = Xxh3::new();
        if self.key != Key::Target {
            self.add(&mut hash, source);
        }
        if self.key != Key::Source {
            self.add(&mut hash, target);
        }
        hash.digest128()
    }

    fn add(&mut self, hash: &mut Xxh3, side: &str) {
        let text = match self.form {
            Form::Raw => side,
            Form::Normalised => {
                normalise(side, &mut self.buffer);
                &self.buffer
            }
        };
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
}

/// Writes the normalised form of `side` to `normal`.
pub fn normalise(side: &str, normal: &mut String) {
    collapse(side, normal, true);
    if normal.is_empty() {
        collapse(side, normal, false);
    }
}

fn collapse(side: &str, normal: &mut String, drop_punctuation: bool) {
    normal.clear();
    let mut space = false;
    let mut push = |character: char| {
        if character.is_whitespace() {
            space = true;
        } else if !(drop_punctuation && is_punctuation(character)) {
            if space && !normal.is_empty() {
                normal.push(' ');
            }
            space = false;
            normal.push(character);
        }
    };
    if side.is_ascii() {
        side.chars().for_each(|character| push(character.to_ascii_lowercase()));
    } else {
        side.nfkc().flat_map(char::to_lowercase).for_each(push);
    }
}

fn is_punctuation(character: char) -> bool {
    // ASCII symbols ($+<=>^`|~) are not punctuation to Unicode.
    if character.is_ascii() {
        return character.is_ascii_punctuation() && !b"$+<=>^`|~".contains(&(character as u8));
    }
    character.general_category_group() == GeneralCategoryGroup::Punctuation
}

const ROW_BITS: u32 = 40;
const ROW_MASK: u128 = (1 << ROW_BITS) - 1;

/// Fingerprint to first row. A slot holds the upper 88 bits of a fingerprint and row + 1 in the lower 40; zero is
/// free. Two different keys share 88 bits with odds of about n² / 2^89: 2e-7 at ten billion rows.
pub struct FirstRows {
    slots: Vec<u128>,
    used: usize,
    max_bytes: usize,
}

impl FirstRows {
    /// `max_bytes` bounds the table, the old one included while it grows.
    pub fn new(max_bytes: usize) -> Self {
        Self { slots: vec![0; 1 << 12], used: 0, max_bytes }
    }

    /// The row that has this fingerprint already, or None after noting that `row` has it.
    pub fn insert(&mut self, fingerprint: u128, row: u64) -> Result<Option<u64>> {
        if self.used * 4 >= self.slots.len() * 3 {
            self.grow()?;
        }
        let slot = find(&self.slots, fingerprint);
        let held = self.slots[slot];
        if held != 0 {
            return Ok(Some((held & ROW_MASK) as u64 - 1));
        }
        self.slots[slot] = (fingerprint & !ROW_MASK) | (u128::from(row) + 1);
        self.used += 1;
        Ok(None)
    }

    fn grow(&mut self) -> Result<()> {
        let wanted = self.slots.len() * 2;
        let bytes = (wanted + self.slots.len()) * size_of::<u128>();
        if bytes > self.max_bytes {
            return Err(Error::input(format!(
                "the fingerprints of {} distinct pairs need {} MiB, more than --memory gives: \
                 raise it, or give --duplicates none",
                self.used,
                bytes >> 20
            )));
        }
        let old = std::mem::replace(&mut self.slots, vec![0; wanted]);
        for held in old.into_iter().filter(|&held| held != 0) {
            let slot = find(&self.slots, held);
            self.slots[slot] = held;
        }
        Ok(())
    }
}

/// The slot that holds the fingerprint's upper bits, or the free one where they belong.
fn find(slots: &[u128], fingerprint: u128) -> usize {
    let mask = slots.len() - 1;
    let mut slot = (fingerprint >> ROW_BITS) as usize & mask;
    while slots[slot] != 0 && (slots[slot] ^ fingerprint) & !ROW_MASK != 0 {
        slot = (slot + 1) & mask;
    }
    slot
}
