//! Fingerprints: 128-bit hashes of what two records must share to be duplicates.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::text::normal_form::{Form, Normaliser};

/// What two records must share to be duplicates.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    None,
    Pair,
    Source,
    Target,
    /// The source or the target.
    Either,
}

impl Key {
    /// The keys that are compared separately, each with its own fingerprints.
    pub fn parts(self) -> &'static [Self] {
        match self {
            Self::None => &[],
            Self::Pair => &[Self::Pair],
            Self::Source => &[Self::Source],
            Self::Target => &[Self::Target],
            Self::Either => &[Self::Source, Self::Target],
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pair => "pair",
            Self::Source => "source",
            Self::Target => "target",
            Self::Either => "either",
        }
    }
}

/// Makes fingerprints; reuses its buffer.
pub struct Fingerprints<'n> {
    /// None: texts are compared byte for byte.
    normaliser: Option<&'n Normaliser>,
    buffer: Vec<u8>,
}

impl<'n> Fingerprints<'n> {
    pub fn new(normaliser: &'n Normaliser, form: Form) -> Self {
        Self { normaliser: (!form.is_raw()).then_some(normaliser), buffer: Vec::new() }
    }

    /// xxh3-128 of a text's normal form.
    pub fn of_text(&mut self, text: &str) -> u128 {
        xxh3_128(self.form(text))
    }

    /// The fingerprint of one of `Key::parts`. A pair's is the hash of its sides' fingerprints (little-endian, source first).
    pub fn of(&mut self, key: Key, source: &str, target: &str) -> u128 {
        match key {
            Key::Source => self.of_text(source),
            Key::Target => self.of_text(target),
            _ => {
                let mut sides = [0; 32];
                sides[..16].copy_from_slice(&self.of_text(source).to_le_bytes());
                sides[16..].copy_from_slice(&self.of_text(target).to_le_bytes());
                xxh3_128(&sides)
            }
        }
    }

    /// Appends the text of the key: the normal forms of its sides, each after its length (u32, little-endian).
    pub fn append_text(&mut self, key: Key, source: &str, target: &str, bytes: &mut Vec<u8>) {
        for (side, text) in [(Key::Source, source), (Key::Target, target)] {
            if key == Key::Pair || key == side {
                let form = self.form(text);
                bytes.extend_from_slice(&(form.len() as u32).to_le_bytes());
                bytes.extend_from_slice(form);
            }
        }
    }

    fn form<'t>(&'t mut self, text: &'t str) -> &'t [u8] {
        let Some(normaliser) = self.normaliser else { return text.as_bytes() };
        normaliser.normalise(text, &mut self.buffer)
    }
}
