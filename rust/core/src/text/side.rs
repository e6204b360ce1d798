//! The measures of one side of a pair. ASCII is measured in blocks of 64 bytes as bit masks, one bit per byte; only
//! other characters are processed one by one.
// Measuring is compiled for the instruction set of its lanes, but only with the functions inlined into it.
#![allow(clippy::inline_always)]

use crate::text::characters::{
    ALPHABETIC, CLASSES, CONTROL, Characters, DIGIT, HAN_KANA, SYLLABIC, Scripts, UNSPACED, WHITE_SPACE,
};
use crate::text::lanes::{Lanes, OnLanes, Width};
use crate::text::words::Words;

/// The measures of one side. A character is a Unicode scalar value, a letter a character with the Unicode property
/// Alphabetic, a visible character one that is not white space.
///
/// A word is the text between white space. If that text has characters of scripts without spaces, every two characters
/// of Han and kana, or four of Thai, Tibetan and the like, count as a word; so does each part between them that has a
/// letter or a digit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measures {
    pub characters: u32,
    pub words: u32,
    pub letters: u32,
    pub visible: u32,
    pub words_with_letter: u32,
    pub longest_word: u32,
    /// Letters of the scripts of the side's language; all letters if the scripts are unknown.
    pub script_letters: u32,
    /// Visible characters of tags, entities and placeholders.
    pub markup: u32,
    pub numbers: u32,
    /// Numbers that are not on the other side.
    pub unmatched_numbers: u32,
}

/// The column names of the measures, in the order of `Measures::values`.
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

/// The number of measures of a monolingual corpus: the last one compares the two sides.
pub const MONOLINGUAL_MEASURES: usize = MEASURES.len() - 1;

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

/// One bit for each of 64 bytes: whether it is white space, begins a letter, begins a character, is not ASCII.
#[derive(Default, Clone, Copy)]
struct ByteMasks {
    white: u64,
    letter: u64,
    lead: u64,
    beyond: u64,
}

/// The buffers of a side, reused for every pair.
pub struct Side {
    lanes: Width,
    characters: Characters,
    scripts: Scripts,
    blocks: Vec<ByteMasks>,
    pub measures: Measures,
    /// The classes that any character of the text has: `CONTROL`, `DIGIT` and others.
    pub classes: u32,
    /// False if no character of the text can begin markup.
    pub markup: bool,
    pub words: Words,
    /// The buffer of bounds that `split_words` does not read from.
    spare: Vec<[u32; 2]>,
}

impl Side {
    pub fn new(scripts: Scripts, lanes: Width) -> Self {
        Self {
            lanes,
            characters: Characters::new(),
            scripts,
            blocks: Vec::new(),
            measures: Measures::default(),
            classes: 0,
            markup: false,
            words: Words::default(),
            spare: Vec::new(),
        }
    }

    /// Measures a text, except its markup and numbers.
    pub fn measure(&mut self, text: &str) {
        self.lanes.run(Measuring { side: self, text });
    }

    #[inline(always)]
    fn measure_here(&mut self, text: &str, lanes: impl Lanes) {
        let beyond = self.mask(text.as_bytes(), lanes);
        let mut of_ascii = 0;
        for block in &self.blocks {
            of_ascii += block.letter.count_ones();
        }
        let (classes, others) = if beyond { self.mask_beyond_ascii(text) } else { (0, 0) };
        self.classes |= classes;
        self.measures = Measures {
            script_letters: others + if self.scripts.holds_latin() { of_ascii } else { 0 },
            ..Measures::default()
        };
        self.count();
        self.measures.characters -= (self.blocks.len() * BLOCK - text.len()) as u32;
        self.words.clear();
        self.cut();
        if classes & UNSPACED != 0 {
            self.split_words(text);
        }
        self.measures.longest_word = self.measures.longest_word.max(self.longest(beyond));
    }

    /// Fills the masks from ASCII; returns whether the text has other characters.
    #[inline(always)]
    fn mask(&mut self, text: &[u8], lanes: impl Lanes) -> bool {
        let (chunks, rest) = text.as_chunks::<BLOCK>();
        let mut seen = Seen::new(lanes);
        // No branch between a comparison and its mask: the compiler would then build the mask bit by bit.
        self.blocks.resize(chunks.len() + 1, ByteMasks::default());
        for (block, bytes) in self.blocks.iter_mut().zip(chunks) {
            *block = seen.block(bytes);
        }
        // The padding ends the last word.
        let mut padded = [b' '; BLOCK];
        padded[..rest.len()].copy_from_slice(rest);
        self.blocks[chunks.len()] = seen.block(&padded);
        let control =
            seen.may_be_control() && text.iter().any(|&byte| byte.is_ascii_control() && byte != b'\t');
        self.classes =
            if control { CONTROL } else { 0 } | if lanes.mask(seen.digit) != 0 { DIGIT } else { 0 };
        self.markup = lanes.mask(seen.markup) != 0;
        seen.beyond
    }

    /// Adds the characters beyond ASCII to the masks; returns the union of their classes, and the number of letters of
    /// the side's scripts.
    #[inline(always)]
    fn mask_beyond_ascii(&mut self, text: &str) -> (u32, u32) {
        let (mut classes, mut script_letters) = (0, 0);
        for place in 0..self.blocks.len() {
            let mut bits = self.blocks[place].beyond & self.blocks[place].lead;
            while bits != 0 {
                let at = place * BLOCK + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let Some(character) = text[at..].chars().next() else { break };
                let class = self.characters.class(character);
                classes |= class & CLASSES;
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

    /// Counts everything that the masks give without a loop over words.
    #[inline(always)]
    fn count(&mut self) {
        let measures = &mut self.measures;
        let (mut before, mut carry) = (1, false);
        for block in &self.blocks {
            measures.characters += block.lead.count_ones();
            measures.letters += block.letter.count_ones();
            measures.visible += (block.lead & !block.white).count_ones();
            measures.words += (!block.white & (block.white << 1 | before)).count_ones();
            before = block.white >> 63;
            // Addition as a search: the ones of a word plus the bit of any letter in it carry into the space after the
            // word.
            let (sum, over) = (!block.white).overflowing_add(block.letter);
            let (sum, over_by_carry) = sum.overflowing_add(u64::from(carry));
            carry = over | over_by_carry;
            measures.words_with_letter += (sum & block.white).count_ones();
        }
    }

    /// Records where words start and end: the changes between white space and other text.
    #[inline(always)]
    fn cut(&mut self) {
        /// Edges that are written per step, even if there are fewer: mispredicted branches would cost more.
        const TOGETHER: usize = 8;
        let bounds = &mut self.words.bounds;
        let words = self.measures.words as usize;
        bounds.resize(words + TOGETHER, [0; 2]);
        let edges = bounds.as_flattened_mut();
        let (mut count, mut before) = (0, 1);
        for (place, block) in self.blocks.iter().enumerate() {
            let mut bits = block.white ^ (block.white << 1 | before);
            before = block.white >> 63;
            let end = count + bits.count_ones() as usize;
            while count < end {
                if let Some(edges) = edges[count..].first_chunk_mut::<TOGETHER>() {
                    for edge in edges {
                        *edge = (place * BLOCK) as u32 + bits.trailing_zeros();
                        bits &= bits.wrapping_sub(1);
                    }
                }
                count += TOGETHER;
            }
            count = end;
        }
        bounds.truncate(words);
    }

    /// The number of characters of the longest word.
    #[inline(always)]
    fn longest(&self, beyond: bool) -> u32 {
        let mut longest = 0;
        for &[start, end] in &self.words.bounds {
            // A word has at most as many characters as bytes.
            if end - start > longest {
                let characters =
                    if beyond { self.characters(start as usize, end as usize) } else { end - start };
                longest = longest.max(characters);
            }
        }
        longest
    }

    /// The number of characters that begin in `start..end`.
    fn characters(&self, start: usize, end: usize) -> u32 {
        let (first, last) = (start / BLOCK, end / BLOCK);
        let (from, below) = (u64::MAX << (start % BLOCK), !(u64::MAX << (end % BLOCK)));
        let lead = |place: usize| self.blocks[place].lead;
        if first == last {
            return (lead(first) & from & below).count_ones();
        }
        let inner: u32 = (first + 1..last).map(|place| lead(place).count_ones()).sum();
        (lead(first) & from).count_ones() + inner + (lead(last) & below).count_ones()
    }

    /// Splits the words that have characters of scripts without spaces.
    fn split_words(&mut self, text: &str) {
        let whole = std::mem::take(&mut self.words.bounds);
        self.words.bounds = std::mem::take(&mut self.spare);
        self.words.bounds.clear();
        for &[start, end] in &whole {
            if !self.split_word(start as usize, &text[start as usize..end as usize]) {
                self.words.push(start as usize, end as usize);
            }
        }
        self.spare = whole;
    }

    /// Splits one word; false if it has no character of such scripts.
    fn split_word(&mut self, start: usize, text: &str) -> bool {
        let class = |character| self.characters.class(character);
        let classes = text.chars().fold(0, |all, character| all | class(character));
        if classes & UNSPACED == 0 {
            return false;
        }
        self.measures.words -= 1;
        self.measures.words_with_letter -= u32::from(classes & ALPHABETIC != 0);
        let (mut han_kana, mut syllabic, mut at) = (0_u32, 0_u32, start);
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
            self.measures.longest_word = self.measures.longest_word.max(run_length);
            if run_classes & (ALPHABETIC | DIGIT) != 0 {
                self.measures.words += 1;
                self.measures.words_with_letter += u32::from(run_classes & ALPHABETIC != 0);
                self.words.push(run, at);
            }
            if at < end {
                han_kana += u32::from(class & HAN_KANA != 0);
                syllabic += u32::from(class & HAN_KANA == 0 && class & SYLLABIC != 0);
                self.words.push(at, next);
            }
            (run, run_length, run_classes, at) = (next, 0, 0, next);
        }
        let words = han_kana.div_ceil(HAN_KANA_WORD) + syllabic.div_ceil(SYLLABIC_WORD);
        self.measures.words += words;
        self.measures.words_with_letter += words;
        let longest = han_kana.min(HAN_KANA_WORD).max(syllabic.min(SYLLABIC_WORD));
        self.measures.longest_word = self.measures.longest_word.max(longest);
        true
    }
}

/// `Side::measure` for lanes: counting bits is several times as fast with the instructions of x86-64-v3.
struct Measuring<'a> {
    side: &'a mut Side,
    text: &'a str,
}

impl OnLanes for Measuring<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        self.side.measure_here(self.text, lanes);
    }
}

/// What the blocks so far have in common: the least byte, and the kinds of bytes that any of them has.
struct Seen<L: Lanes> {
    lanes: L,
    least: L::Bytes,
    delete: L::Bytes,
    digit: L::Bytes,
    markup: L::Bytes,
    beyond: bool,
}

impl<L: Lanes> Seen<L> {
    #[inline(always)]
    fn new(lanes: L) -> Self {
        let [least, none] = [u8::MAX, 0].map(|byte| lanes.splat(byte));
        Self { lanes, least, delete: none, digit: none, markup: none, beyond: false }
    }

    /// Returns the masks of a block.
    #[inline(always)]
    fn block(&mut self, bytes: &[u8; BLOCK]) -> ByteMasks {
        let lanes = self.lanes;
        let is = |text, byte: u8| lanes.equal(text, lanes.splat(byte));
        let mut block = ByteMasks::default();
        for at in (0..BLOCK).step_by(L::COUNT) {
            let text = lanes.load(&bytes[at..]);
            let lower = lanes.or(text, lanes.splat(0x20));
            self.least = lanes.least(self.least, text);
            self.delete = lanes.or(self.delete, is(text, 0x7f));
            self.digit = lanes.or(self.digit, lanes.between(text, b'0', b'9'));
            // The lower case of the backslash is `|`, and that of `[` is `{`: `[` and `|` may begin markup here too.
            let markup = lanes.or(lanes.between(text, b'%', b'&'), lanes.between(lower, b'{', b'|'));
            self.markup = lanes.or(self.markup, lanes.or(markup, is(text, b'<')));
            block.white |= lanes.mask(lanes.or(lanes.between(text, b'\t', b'\r'), is(text, b' '))) << at;
            block.letter |= lanes.mask(lanes.between(lower, b'a', b'z')) << at;
            // Continuation bytes are 0x80 to 0xbf, the lowest of the signed numbers.
            block.lead |= lanes.mask(lanes.above(text, lanes.splat(0xbf))) << at;
            block.beyond |= lanes.mask(text) << at;
        }
        self.beyond |= block.beyond != 0;
        block
    }

    /// Whether the text may have an ASCII control character; the tab counts as one here.
    #[inline(always)]
    fn may_be_control(&self) -> bool {
        let lanes = self.lanes;
        let least = lanes.least(self.least, lanes.splat(b' ' - 1));
        lanes.mask(lanes.or(lanes.equal(self.least, least), self.delete)) != 0
    }
}

/// Characters per word in scripts without spaces, approximately the average length of a word.
const HAN_KANA_WORD: u32 = 2;
const SYLLABIC_WORD: u32 = 4;
