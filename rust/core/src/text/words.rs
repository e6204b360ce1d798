//! The words of a side, and what the rules on repetition and on copies ask of them: each is looked at only as far as a
//! decision needs it.

use xxhash_rust::xxh3::xxh3_64;

use crate::text::mix::GOLDEN;

/// Bytes that a word may begin or end with: ASCII letters and digits, and anything beyond ASCII.
static INNER: [bool; 256] = {
    let mut inner = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        inner[byte] = byte >= 0x80 || (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    inner
};

/// The bounds of a word without the ASCII punctuation at its ends, unless it is nothing else.
#[inline]
fn trim(text: &[u8], start: usize, end: usize) -> (usize, usize) {
    let kept = |byte: u8| INNER[usize::from(byte)];
    if kept(text[start]) & kept(text[end - 1]) { (start, end) } else { trim_punctuation(text, start, end) }
}

fn trim_punctuation(text: &[u8], start: usize, end: usize) -> (usize, usize) {
    let kept = |byte: u8| INNER[usize::from(byte)];
    let word = &text[start..end];
    match (word.iter().position(|&byte| kept(byte)), word.iter().rposition(|&byte| kept(byte))) {
        (Some(first), Some(last)) => (start + first, start + last + 1),
        _ => (start, end),
    }
}

/// The words of a side, by their bounds in bytes; of scripts without spaces each character.
#[derive(Default)]
pub struct Words {
    pub bounds: Vec<[u32; 2]>,
    /// The places of the first `noted` words, of which `new` were new when they came.
    places: [u64; 8],
    noted: usize,
    new: usize,
    /// The text in lower case, the hashes of its words, and those of its n-grams: of the few texts that need them.
    lower: Vec<u8>,
    hashes: Vec<u64>,
    sorted: Vec<u64>,
}

/// Words of an n-gram whose repetitions count.
const NGRAM: usize = 3;
/// Words that both sides need before they can be copies of each other: of shorter ones the translation may well be
/// the same but for capitals or order.
const FEWEST_COPIED: usize = 4;

impl Words {
    pub fn clear(&mut self) {
        self.bounds.clear();
        (self.places, self.noted, self.new) = ([0; 8], 0, 0);
    }

    pub fn push(&mut self, start: usize, end: usize) {
        self.bounds.push([start as u32, end as u32]);
    }

    fn len(&self) -> usize {
        self.bounds.len()
    }

    /// The bounds of the words without the ASCII punctuation at their ends.
    fn trimmed(&self, text: &[u8]) -> impl Iterator<Item = (usize, usize)> {
        self.bounds.iter().map(|&[start, end]| trim(text, start as usize, end as usize))
    }

    /// Hashes the words, whatever their case in ASCII.
    fn hash(&mut self, text: &str) {
        let mut lower = std::mem::take(&mut self.lower);
        let mut hashes = std::mem::take(&mut self.hashes);
        lower.clear();
        lower.extend_from_slice(text.as_bytes());
        lower.make_ascii_lowercase();
        hashes.clear();
        hashes.extend(self.trimmed(&lower).map(|(start, end)| xxh3_64(&lower[start..end])));
        (self.lower, self.hashes) = (lower, hashes);
    }

    /// Whether the share of word n-grams of the text that stood before in it is above `most`.
    pub fn repeat(&mut self, text: &str, most: f64) -> bool {
        let count = (self.len() + 1).saturating_sub(NGRAM);
        let least = least_above(most * count as f64);
        // The last word of an n-gram that stood before stood before: no more of those than of these.
        if count < least || self.note(text.as_bytes(), self.len() - least) > self.len() - least {
            return false;
        }
        self.hash(text);
        self.sorted.clear();
        self.sorted.extend(self.hashes.windows(NGRAM).map(|words| {
            words.iter().fold(0_u64, |hash, word| (hash ^ word).wrapping_mul(GOLDEN).rotate_left(29))
        }));
        self.sorted.sort_unstable();
        self.sorted.windows(2).filter(|pair| pair[0] == pair[1]).count() >= least
    }

    /// Whether 2 |A ∩ B| / (|A| + |B|) over the two multisets of words is above `most`.
    pub fn resemble(&mut self, text: &str, other: &mut Self, other_text: &str, most: f64) -> bool {
        let few = self.len().min(other.len());
        let least = least_above(most * (self.len() + other.len()) as f64 / 2.0);
        if few < FEWEST_COPIED || few < least {
            return false;
        }
        self.note(text.as_bytes(), usize::MAX);
        if self.missing(other, other_text.as_bytes(), other.len() - least) > other.len() - least {
            return false;
        }
        self.hash(text);
        other.hash(other_text);
        self.hashes.sort_unstable();
        other.hashes.sort_unstable();
        common(&self.hashes, &other.hashes) >= least
    }

    /// Notes the places of further words; gives how many were not noted before, which is no more than words that did not
    /// stand before. Stops above `enough` of them.
    fn note(&mut self, text: &[u8], enough: usize) -> usize {
        for &[start, end] in self.bounds.iter().skip(self.noted) {
            if self.new > enough {
                break;
            }
            let (bits, bit) = place(text, start as usize, end as usize);
            self.new += usize::from(self.places[bits] & bit == 0);
            self.places[bits] |= bit;
            self.noted += 1;
        }
        self.new
    }

    /// How many words of another text surely stand nowhere in this one, all of whose words are noted. Stops above `enough`.
    fn missing(&self, other: &Self, text: &[u8], enough: usize) -> usize {
        let mut missing = 0;
        for &[start, end] in &other.bounds {
            let (bits, bit) = place(text, start as usize, end as usize);
            missing += usize::from(self.places[bits] & bit == 0);
            if missing > enough {
                break;
            }
        }
        missing
    }
}

/// Where a word stands among 512 bits, by its length and first bytes: equal words have equal places, whatever their
/// case, and few others do.
// A call for every word would cost as much as this does.
#[allow(clippy::inline_always)]
#[inline(always)]
fn place(text: &[u8], start: usize, end: usize) -> (usize, u64) {
    let (start, end) = trim(text, start, end);
    let rest = &text[start..];
    let first = match rest.first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => rest.iter().rev().fold(0, |bytes, &byte| bytes << 8 | u64::from(byte)),
    };
    let length = (end - start).max(1);
    let lower = (first | 0x2020_2020_2020_2020) & (u64::MAX >> (64 - 8 * length.min(8)));
    let place = (lower ^ length as u64).wrapping_mul(GOLDEN);
    ((place >> 61) as usize, 1 << (place >> 55 & 63))
}

/// The least count above a bound.
fn least_above(bound: f64) -> usize {
    bound as usize + 1
}

/// How many elements two sorted lists share, each as often as both have it.
pub fn common<T: Ord>(one: &[T], other: &[T]) -> usize {
    let (mut place, mut count) = (0, 0);
    for element in one {
        while place < other.len() && other[place] < *element {
            place += 1;
        }
        if place < other.len() && other[place] == *element {
            count += 1;
            place += 1;
        }
    }
    count
}
