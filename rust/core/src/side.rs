//! One side of a pair: measured in blocks of 64 bytes as bit masks, a bit a byte; only characters beyond ASCII
//! are looked at one by one. Its words as hashes are what the rules on repetition and on copies compare.

use wide::{CmpEq, CmpGt, CmpLt, i8x16};
use xxhash_rust::xxh3::xxh3_64;

use crate::characters::{
    ALPHABETIC, CONTROL, Characters, DIGIT, HAN_KANA, SOUTH_EAST_ASIAN, Scripts, UNSPACED, WHITE_SPACE,
};

/// What is measured of one side. A character is a Unicode scalar value, a letter a character with the Unicode
/// property Alphabetic, a visible character one that is not white space. A word is what stands between white space;
/// where that holds characters of scripts without spaces, two of Han and kana, or four of Thai, Lao, Khmer and Burmese,
/// count as a word, and so does what stands between them and holds a letter or a digit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measures {
    pub characters: u32,
    pub words: u32,
    pub letters: u32,
    pub visible: u32,
    pub words_with_letter: u32,
    pub longest_word: u32,
    /// Letters of the scripts that the side's language is written in; all letters where they are not known.
    pub script_letters: u32,
    /// Visible characters of tags, entities and placeholders.
    pub markup: u32,
    pub numbers: u32,
    /// Numbers that the other side lacks.
    pub unmatched_numbers: u32,
}

/// Names of the measures as columns, in the order of `Measures::values`.
pub const MEASURES: [&str; 10] = [
    "characters",
    "words",
    "letters",
    "visible",
    "words_with_letter",
    "longest_word",
    "script_letters",
    "markup",
    "numbers",
    "unmatched_numbers",
];

impl Measures {
    pub fn values(&self) -> [u32; MEASURES.len()] {
        [
            self.characters,
            self.words,
            self.letters,
            self.visible,
            self.words_with_letter,
            self.longest_word,
            self.script_letters,
            self.markup,
            self.numbers,
            self.unmatched_numbers,
        ]
    }
}

const BLOCK: usize = 64;

/// Of each of 64 bytes: whether it is of white space, begins a letter, begins a character, is beyond ASCII.
#[derive(Default, Clone, Copy)]
struct Block {
    white: u64,
    letter: u64,
    lead: u64,
    beyond: u64,
}

/// The buffers of a side, used again for every pair.
pub struct Side {
    characters: Characters,
    scripts: Scripts,
    /// Whether the words are wanted as hashes.
    hashing: bool,
    /// The text with ASCII letters in lower case, filled up with spaces to whole blocks.
    lower: Vec<u8>,
    blocks: Vec<Block>,
    pub measures: Measures,
    /// What is said of any character of the text: `CONTROL`, `DIGIT` and others.
    pub classes: u16,
    /// Whether a character stands here that markup begins with.
    pub markup: bool,
    pub units: Units,
}

impl Side {
    pub fn new(scripts: Scripts, hashing: bool) -> Self {
        Self {
            characters: Characters::new(),
            scripts,
            hashing,
            lower: Vec::new(),
            blocks: Vec::new(),
            measures: Measures::default(),
            classes: 0,
            markup: false,
            units: Units::default(),
        }
    }

    /// Measures a text: all but its markup and its numbers.
    pub fn measure(&mut self, text: &str) {
        let beyond = self.mask(text.as_bytes());
        let count = |bits: u64| bits.count_ones();
        let of_ascii: u32 = self.blocks.iter().map(|block| count(block.letter)).sum();
        let (classes, others) = if beyond { self.mask_beyond_ascii(text) } else { (0, 0) };
        self.classes |= classes;
        let mut measures = Measures {
            script_letters: others + if self.scripts.holds_latin() { of_ascii } else { 0 },
            ..Measures::default()
        };
        for block in &self.blocks {
            measures.characters += count(block.lead);
            measures.letters += count(block.letter);
            measures.visible += count(block.lead & !block.white);
        }
        measures.characters -= (self.lower.len() - text.len()) as u32;
        self.measures = measures;
        self.units.clear();
        self.count_words(classes & UNSPACED != 0, beyond, text);
    }

    /// Fills the masks with what ASCII says; true if there is anything beyond it.
    fn mask(&mut self, text: &[u8]) -> bool {
        // A space after the last word, and eight bytes to read its end with.
        let blocks = (text.len() + 8) / BLOCK + 1;
        self.lower.clear();
        self.lower.extend_from_slice(text);
        self.lower.resize(blocks * BLOCK, b' ');
        self.blocks.clear();
        let is = |byte: u8| i8x16::splat(byte as i8);
        let [mut control, mut digit, mut markup] = [i8x16::default(); 3];
        for bytes in self.lower.as_chunks_mut::<BLOCK>().0 {
            let mut block = Block::default();
            for (quarter, bytes) in bytes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let text = i8x16::new(bytes.map(|byte| byte as i8));
                let between =
                    |text: i8x16, low: u8, high: u8| text.cmp_gt(is(low - 1)) & text.cmp_lt(is(high + 1));
                let lower = text | (between(text, b'A', b'Z') & is(0x20));
                let white = between(text, b'\t', b'\r') | text.cmp_eq(is(b' '));
                let below_space = text.cmp_gt(i8x16::splat(-1)) & text.cmp_lt(is(b' '));
                control |= (below_space & !text.cmp_eq(is(b'\t'))) | text.cmp_eq(is(0x7f));
                digit |= between(text, b'0', b'9');
                markup |= between(text, b'%', b'&')
                    | text.cmp_eq(is(b'<'))
                    | text.cmp_eq(is(b'{'))
                    | text.cmp_eq(is(b'\\'));
                let bits = |mask: i8x16| u64::from(mask.move_mask() as u32) << (16 * quarter);
                block.white |= bits(white);
                block.letter |= bits(between(lower, b'a', b'z'));
                // Continuation bytes are 0x80 to 0xbf, the lowest of the signed numbers.
                block.lead |= bits(text.cmp_gt(i8x16::splat(-65)));
                block.beyond |= bits(text);
                *bytes = lower.to_array().map(|byte| byte as u8);
            }
            self.blocks.push(block);
        }
        self.classes = if control.any() { CONTROL } else { 0 } | if digit.any() { DIGIT } else { 0 };
        self.markup = markup.any();
        self.blocks.iter().any(|block| block.beyond != 0)
    }

    /// Adds what the characters beyond ASCII say: their classes, all in one, and how many letters of the scripts.
    fn mask_beyond_ascii(&mut self, text: &str) -> (u16, u32) {
        let (mut classes, mut script_letters) = (0, 0);
        for place in 0..self.blocks.len() {
            let mut bits = self.blocks[place].beyond & self.blocks[place].lead;
            while bits != 0 {
                let at = place * BLOCK + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let Some(character) = text[at..].chars().next() else { break };
                let class = self.characters.class(character);
                classes |= class & 0xff;
                if class & WHITE_SPACE != 0 {
                    let bytes = at..at + character.len_utf8();
                    bytes.for_each(|at| self.blocks[at / BLOCK].white |= 1 << (at % BLOCK));
                }
                if class & ALPHABETIC != 0 {
                    self.blocks[place].letter |= 1 << (at % BLOCK);
                    script_letters += u32::from(self.scripts.holds_class(class));
                }
            }
        }
        (classes, script_letters)
    }

    /// Counts the words, from the changes between white space and anything else.
    fn count_words(&mut self, unspaced: bool, beyond: bool, text: &str) {
        let (mut start, mut inside, mut before) = (0, false, 1);
        for place in 0..self.blocks.len() {
            let white = self.blocks[place].white;
            let mut edges = white ^ (white << 1 | before);
            before = white >> 63;
            while edges != 0 {
                let at = place * BLOCK + edges.trailing_zeros() as usize;
                edges &= edges - 1;
                inside = !inside;
                if inside {
                    start = at;
                } else if !(unspaced && self.split_word(start, &text[start..at])) {
                    let length =
                        if beyond { self.count(|block| block.lead, start, at) } else { (at - start) as u32 };
                    let has_letter = self.lower[start].is_ascii_lowercase()
                        || self.count(|block| block.letter, start, at) > 0;
                    self.add_word(start, at, length, has_letter);
                }
            }
        }
    }

    /// How many of the bits from `start` to before `end` are set.
    fn count(&self, bits: fn(&Block) -> u64, start: usize, end: usize) -> u32 {
        let (first, last) = (start / BLOCK, end / BLOCK);
        let (from, below) = (u64::MAX << (start % BLOCK), !(u64::MAX << (end % BLOCK)));
        if first == last {
            return (bits(&self.blocks[first]) & from & below).count_ones();
        }
        let inner: u32 = self.blocks[first + 1..last].iter().map(|block| bits(block).count_ones()).sum();
        (bits(&self.blocks[first]) & from).count_ones()
            + inner
            + (bits(&self.blocks[last]) & below).count_ones()
    }

    #[inline]
    fn add_word(&mut self, start: usize, end: usize, length: u32, has_letter: bool) {
        self.measures.words += 1;
        self.measures.words_with_letter += u32::from(has_letter);
        self.measures.longest_word = self.measures.longest_word.max(length);
        if self.hashing {
            let (start, end) = trim(&self.lower, start, end);
            self.units.add(&self.lower, start, end);
        }
    }

    /// Counts what stands between white space, from the byte `start` on, if characters of scripts without spaces do.
    fn split_word(&mut self, start: usize, text: &str) -> bool {
        let class = |character| self.characters.class(character);
        if !text.chars().any(|character| class(character) & UNSPACED != 0) {
            return false;
        }
        let (mut han_kana, mut south_east_asian, mut at) = (0_u32, 0_u32, start);
        let (mut run, mut run_length, mut run_classes) = (start, 0, 0);
        let end = start + text.len();
        // The space after the word ends its last run.
        for character in text.chars().chain([' ']) {
            let class = self.characters.class(character);
            let next = at + character.len_utf8();
            if class & UNSPACED == 0 && at < end {
                run_length += 1;
                run_classes |= class;
                at = next;
                continue;
            }
            if run_classes & (ALPHABETIC | DIGIT) != 0 {
                self.add_word(run, at, run_length, run_classes & ALPHABETIC != 0);
            } else {
                self.measures.longest_word = self.measures.longest_word.max(run_length);
            }
            if at < end {
                han_kana += u32::from(class & HAN_KANA != 0);
                south_east_asian += u32::from(class & HAN_KANA == 0 && class & SOUTH_EAST_ASIAN != 0);
                if self.hashing {
                    self.units.add(&self.lower, at, next);
                }
            }
            (run, run_length, run_classes, at) = (next, 0, 0, next);
        }
        let words = han_kana.div_ceil(HAN_KANA_WORD) + south_east_asian.div_ceil(SOUTH_EAST_ASIAN_WORD);
        self.measures.words += words;
        self.measures.words_with_letter += words;
        let longest = han_kana.min(HAN_KANA_WORD).max(south_east_asian.min(SOUTH_EAST_ASIAN_WORD));
        self.measures.longest_word = self.measures.longest_word.max(longest);
        true
    }
}

/// Characters of a word in scripts without spaces, about as many as a word of the language has.
const HAN_KANA_WORD: u32 = 2;
const SOUTH_EAST_ASIAN_WORD: u32 = 4;

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
fn trim(text: &[u8], start: usize, end: usize) -> (usize, usize) {
    let kept = |byte: u8| INNER[usize::from(byte)];
    if kept(text[start]) && kept(text[end - 1]) {
        return (start, end);
    }
    let word = &text[start..end];
    match (word.iter().position(|&byte| kept(byte)), word.iter().rposition(|&byte| kept(byte))) {
        (Some(first), Some(last)) => (start + first, start + last + 1),
        _ => (start, end),
    }
}

/// The words of a side, by their bounds; of scripts without spaces each character.
#[derive(Default)]
pub struct Units {
    bounds: Vec<(u32, u32)>,
    /// A bit for nine bits of a word's first bytes and length, and how often it was set already: no fewer than words
    /// that stood before.
    seen: [u64; 8],
    again: usize,
    hashes: Vec<u64>,
    sorted: Vec<u64>,
}

/// Words of an n-gram whose repetitions count.
const NGRAM: usize = 3;
/// Words that both sides need before they can be copies of each other: of shorter ones the translation may well be
/// the same but for capitals or order.
const FEWEST_COPIED: usize = 4;
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

impl Units {
    fn clear(&mut self) {
        self.bounds.clear();
        self.seen = [0; 8];
        self.again = 0;
    }

    fn add(&mut self, text: &[u8], start: usize, end: usize) {
        let (bits, bit) = place(text, start, end);
        self.again += (self.seen[bits] >> bit & 1) as usize;
        self.seen[bits] |= 1 << bit;
        self.bounds.push((start as u32, end as u32));
    }

    fn hash(&mut self, text: &[u8]) {
        self.hashes.clear();
        self.hashes
            .extend(self.bounds.iter().map(|&(start, end)| xxh3_64(&text[start as usize..end as usize])));
    }
}

/// Where a word's bit stands among the 512; equal words have equal places.
fn place(text: &[u8], start: usize, end: usize) -> (usize, u32) {
    let length = end - start;
    let first = text[start..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let kept = if length < 8 { first & ((1 << (8 * length)) - 1) } else { first };
    let mixed = (kept ^ length as u64).wrapping_mul(MIX);
    ((mixed >> 61) as usize, (mixed >> 55) as u32 & 63)
}

/// Whether the share of word n-grams of a side that stood before in it is above `most`.
pub fn repeats(side: &mut Side, most: f64) -> bool {
    let units = &mut side.units;
    let count = (units.bounds.len() + 1).saturating_sub(NGRAM);
    let above = |repeated: usize| repeated as f64 > most * count as f64;
    // The last word of an n-gram that stood before stood before: no more of those than of these.
    if count == 0 || !above(units.again) {
        return false;
    }
    units.hash(&side.lower);
    units.sorted.clear();
    units.sorted.extend(
        units.hashes.windows(NGRAM).map(|words| {
            words.iter().fold(0_u64, |hash, word| (hash ^ word).wrapping_mul(MIX).rotate_left(29))
        }),
    );
    units.sorted.sort_unstable();
    above(units.sorted.windows(2).filter(|pair| pair[0] == pair[1]).count())
}

/// Whether 2 |A ∩ B| / (|A| + |B|) over the two multisets of words is above `most`.
pub fn resembles(one: &mut Side, other: &mut Side, most: f64) -> bool {
    let (few, both) = {
        let (one, other) = (one.units.bounds.len(), other.units.bounds.len());
        (one.min(other), one + other)
    };
    let above = |common: usize| 2.0 * common as f64 > most * both as f64;
    if few < FEWEST_COPIED || !above(few) {
        return false;
    }
    let seen = |&&(start, end): &&(u32, u32)| {
        let (bits, bit) = place(&other.lower, start as usize, end as usize);
        one.units.seen[bits] >> bit & 1 == 1
    };
    if !above(other.units.bounds.iter().filter(seen).count()) {
        return false;
    }
    for side in [&mut *one, &mut *other] {
        side.units.hash(&side.lower);
        side.units.hashes.sort_unstable();
    }
    above(common(&one.units.hashes, &other.units.hashes))
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
