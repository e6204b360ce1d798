//! The words of a side, for the rules on repeated and copied text; words are only compared as far as a decision needs.

use xxhash_rust::xxh3::xxh3_64;

use crate::text::mix::GOLDEN;

/// Bytes that a word may begin or end with: ASCII letters and digits, and all bytes beyond ASCII.
static INNER: [bool; 256] = {
    let mut inner = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        inner[byte] = byte >= 0x80 || (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    inner
};

/// The bounds of a word without the ASCII punctuation at its ends, unless it is only punctuation.
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

/// The words of a side, as bounds in bytes; in scripts without spaces every character is a word.
#[derive(Default)]
pub struct Words {
    pub bounds: Vec<[u32; 2]>,
    /// A Bloom filter of the first `inserted` words, of which `new` set a bit that was not set.
    bloom: [u64; 8],
    inserted: usize,
    new: usize,
    /// The text in lower case, the hashes of its words, and of its n-grams; filled only for the few texts that need
    /// them.
    lower: Vec<u8>,
    hashes: Vec<u64>,
    ngrams: Vec<u64>,
}

/// Words of an n-gram of the rule on repeated text.
const NGRAM: usize = 3;
/// The fewest words of sides that can be copies of each other: the translation of a shorter text may well differ only
/// in capitals or order.
const MIN_COPIED_WORDS: usize = 4;

impl Words {
    pub fn clear(&mut self) {
        self.bounds.clear();
        (self.bloom, self.inserted, self.new) = ([0; 8], 0, 0);
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

    /// Hashes the words; ASCII case does not count.
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

    /// Whether the share of word n-grams that occurred earlier in the text is above `limit`.
    pub fn repeat(&mut self, text: &str, limit: f64) -> bool {
        let count = (self.len() + 1).saturating_sub(NGRAM);
        let least = least_above(limit * count as f64);
        // The last word of a repeated n-gram is a repeated word, so there are no more repeated n-grams than repeated
        // words.
        if count < least || self.insert(text.as_bytes(), self.len() - least) > self.len() - least {
            return false;
        }
        self.hash(text);
        self.ngrams.clear();
        self.ngrams.extend(self.hashes.windows(NGRAM).map(|words| {
            words.iter().fold(0_u64, |hash, word| (hash ^ word).wrapping_mul(GOLDEN).rotate_left(29))
        }));
        self.ngrams.sort_unstable();
        self.ngrams.windows(2).filter(|pair| pair[0] == pair[1]).count() >= least
    }

    /// Whether 2 |A ∩ B| / (|A| + |B|) of the two multisets of words is above `limit`.
    pub fn resemble(&mut self, text: &str, other: &mut Self, other_text: &str, limit: f64) -> bool {
        let shorter = self.len().min(other.len());
        let least = least_above(limit * (self.len() + other.len()) as f64 / 2.0);
        if shorter < MIN_COPIED_WORDS || shorter < least {
            return false;
        }
        self.insert(text.as_bytes(), usize::MAX);
        if self.missing(other, other_text.as_bytes(), other.len() - least) > other.len() - least {
            return false;
        }
        self.hash(text);
        other.hash(other_text);
        self.hashes.sort_unstable();
        other.hashes.sort_unstable();
        common(&self.hashes, &other.hashes) >= least
    }

    /// Inserts further words into the Bloom filter and returns how many words were new, a lower bound of the number of
    /// different words. Stops above `enough`.
    fn insert(&mut self, text: &[u8], enough: usize) -> usize {
        for &[start, end] in self.bounds.iter().skip(self.inserted) {
            if self.new > enough {
                break;
            }
            let (index, bit) = bloom_bit(text, start as usize, end as usize);
            self.new += usize::from(self.bloom[index] & bit == 0);
            self.bloom[index] |= bit;
            self.inserted += 1;
        }
        self.new
    }

    /// A lower bound of the number of words of another text that are not in this one, all of whose words were inserted.
    /// Stops above `enough`.
    fn missing(&self, other: &Self, text: &[u8], enough: usize) -> usize {
        let mut missing = 0;
        for &[start, end] in &other.bounds {
            let (index, bit) = bloom_bit(text, start as usize, end as usize);
            missing += usize::from(self.bloom[index] & bit == 0);
            if missing > enough {
                break;
            }
        }
        missing
    }
}

/// The bit of a word among 512 bits, from its length and first bytes: words that differ only in ASCII case have the
/// same bit.
// A function call per word would double the cost.
#[allow(clippy::inline_always)]
#[inline(always)]
fn bloom_bit(text: &[u8], start: usize, end: usize) -> (usize, u64) {
    let (start, end) = trim(text, start, end);
    let rest = &text[start..];
    let first = match rest.first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => rest.iter().rev().fold(0, |bytes, &byte| bytes << 8 | u64::from(byte)),
    };
    let length = (end - start).max(1);
    let lower = (first | 0x2020_2020_2020_2020) & (u64::MAX >> (64 - 8 * length.min(8)));
    let hash = (lower ^ length as u64).wrapping_mul(GOLDEN);
    ((hash >> 61) as usize, 1 << (hash >> 55 & 63))
}

/// The least integer above a bound.
fn least_above(bound: f64) -> usize {
    bound as usize + 1
}

/// The size of the intersection of two sorted multisets.
pub fn common<T: Ord>(a: &[T], b: &[T]) -> usize {
    let (mut at, mut count) = (0, 0);
    for element in a {
        while at < b.len() && b[at] < *element {
            at += 1;
        }
        if at < b.len() && b[at] == *element {
            count += 1;
            at += 1;
        }
    }
    count
}
