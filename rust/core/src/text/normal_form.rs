//! The normal form of a text: texts with equal normal forms are duplicates, or equal for decontamination.
// Copying is compiled for the instruction set of its lanes, but only with the functions inlined into it.
#![allow(clippy::inline_always)]

use serde::{Deserialize, Serialize};
use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use crate::text::character_table::CharacterTable;
use crate::text::lanes::{Lanes, MOST_LANES, OnLanes, Width};

/// The differences that are removed before texts are compared.
// Five independent options of the user.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// Unicode NFKC, except for numbers that are no decimal digits: 10² stays different from 102.
    pub nfkc: bool,
    /// Lower case.
    pub case: bool,
    /// A run of white space becomes one space; white space at the ends and invisible characters are removed.
    pub white_space: bool,
    /// Punctuation separates words like a space, except where it changes the meaning (see [`keeps`]); a text that has
    /// nothing else keeps it.
    pub punctuation: bool,
    /// Every decimal digit becomes 0.
    pub digits: bool,
}

impl Form {
    pub const NORMALISED: Self =
        Self { nfkc: true, case: true, white_space: true, punctuation: true, digits: false };

    /// Whether texts are compared byte for byte.
    pub fn is_raw(self) -> bool {
        self == Self::default()
    }
}

/// The normal form of a character: the character that replaces it in the lower 24 bits, flags above.
type Class = u32;
const SPACE: Class = 1 << 24;
const PUNCTUATION: Class = 1 << 25;
/// The normal form depends on the neighbours, or is more than one character.
const SLOW: Class = 1 << 26;
const INVISIBLE: Class = 1 << 27;
const CHARACTER: Class = SPACE - 1;

/// Writes normal forms; created once and shared by threads.
pub struct Normaliser {
    lanes: Width,
    form: Form,
    /// The classes of the characters: most characters cost one look-up.
    classes: Box<CharacterTable>,
}

impl Normaliser {
    pub fn new(form: Form) -> Self {
        Self::on(Width::widest(), form)
    }

    /// With lanes of a given width; normal forms do not depend on it.
    pub fn on(lanes: Width, form: Form) -> Self {
        Self { lanes, form, classes: Box::new(CharacterTable::new()) }
    }

    /// The normal form of `text`, in UTF-8, written to `buffer`, which is reused.
    pub fn normalise<'b>(&self, text: &str, buffer: &'b mut Vec<u8>) -> &'b [u8] {
        let mut length = self.write(text, buffer, self.form.punctuation);
        if length == 0 && self.form.punctuation {
            length = self.write(text, buffer, false);
        }
        &buffer[..length]
    }

    /// Like `normalise`, as a string.
    pub fn normalise_text(&self, text: &str, normal: &mut String) {
        let mut bytes = std::mem::take(normal).into_bytes();
        let length = self.normalise(text, &mut bytes).len();
        bytes.truncate(length);
        *normal = String::from_utf8(bytes).unwrap_or_default();
    }

    /// Writes the normal form to the start of `buffer` and returns its length in bytes.
    fn write(&self, text: &str, buffer: &mut Vec<u8>, drop_punctuation: bool) -> usize {
        let writing = Writing { buffer, length: 0, drop_punctuation, after_space: true, separated: false };
        self.lanes.run(Normalising { normaliser: self, text, writing })
    }

    #[inline(always)]
    fn write_here(&self, text: &str, mut writing: Writing<'_>, lanes: impl Lanes) -> usize {
        let class = |character| self.classes.get(character, |character| classify(self.form, character));
        if !self.append(text, class, &mut writing, lanes) {
            // Neighbours that were written already may change too, so the whole text is written again.
            (writing.length, writing.after_space, writing.separated) = (0, true, false);
            let folded = self.fold(text);
            self.append(&folded, |character| flags(self.form, character), &mut writing, lanes);
        }
        // Removes a space at the end.
        if self.form.white_space && writing.after_space && writing.length > 0 {
            writing.length -= 1;
        }
        writing.length
    }

    /// Appends a text character by character; false at the first character that is `SLOW`.
    #[inline(always)]
    fn append(
        &self,
        text: &str,
        class: impl Fn(char) -> Class,
        writing: &mut Writing<'_>,
        lanes: impl Lanes,
    ) -> bool {
        let mut at = 0;
        loop {
            if writing.separated {
                match text.as_bytes().get(at) {
                    Some(b' ') => writing.separated = false,
                    Some(next) if next.is_ascii_alphanumeric() => writing.separate(),
                    _ => {}
                }
            }
            at += self.copy_plain(&text.as_bytes()[at..], writing, lanes);
            let Some(character) = text[at..].chars().next() else { return true };
            let class = class(character);
            let next = at + character.len_utf8();
            if class & SLOW != 0 {
                return false;
            }
            let mark = char::from_u32(class & CHARACTER)
                .filter(|_| class & PUNCTUATION != 0 && writing.drop_punctuation);
            if mark.is_some_and(|mark| !self.keeps(&text[..at], mark, &text[next..])) {
                writing.separated = true;
            } else if class & INVISIBLE == 0 {
                writing.push(class);
            }
            at = next;
        }
    }

    /// Whether a punctuation mark between these texts is kept.
    fn keeps(&self, before: &str, mark: char, after: &str) -> bool {
        let visible = |character: &char| !(self.form.white_space && is_invisible(*character));
        let next = after.chars().find(visible);
        // Most punctuation: without a digit after it, only the marks of a word or number are kept.
        if !is_mark_of_word(mark) && !next.is_some_and(is_digit) {
            return false;
        }
        keeps(before.chars().rev().find(visible), mark, next)
    }

    /// A text as NFKC and lower case make it, without invisible characters.
    fn fold(&self, text: &str) -> String {
        let visible = text.chars().filter(|&character| !(self.form.white_space && is_invisible(character)));
        let mut folded: String = if self.form.nfkc {
            let visible: String = visible.collect();
            let parts = visible.split_inclusive(is_other_number).map(|part| {
                let kept = part.len()
                    - part.chars().next_back().filter(|&c| is_other_number(c)).map_or(0, char::len_utf8);
                part[..kept].nfkc().chain(part[kept..].chars()).collect::<String>()
            });
            parts.collect()
        } else {
            visible.collect()
        };
        if self.form.case {
            folded = folded.chars().flat_map(char::to_lowercase).collect();
        }
        folded
    }

    /// Copies ASCII letters, digits and single spaces up to the first other byte; most text consists of them. Returns
    /// the number of bytes.
    #[inline(always)]
    fn copy_plain<L: Lanes>(&self, bytes: &[u8], writing: &mut Writing<'_>, lanes: L) -> usize {
        let all_if = |wanted| if wanted { u64::MAX } else { 0 };
        let single_spaces = all_if(self.form.white_space);
        let digits = lanes.splat(all_if(!self.form.digits) as u8);
        let lower_case = lanes.splat(all_if(self.form.case) as u8 & b' ');
        let mut done = 0;
        // No branch between a comparison and its mask: the compiler would then build the mask bit by bit.
        loop {
            let rest = &bytes[done..];
            let mut padded = [0; MOST_LANES];
            let chunk = rest.get(..L::COUNT).unwrap_or_else(|| {
                padded[..rest.len()].copy_from_slice(rest);
                &padded
            });
            let text = lanes.load(chunk);
            let upper = lanes.between(text, b'A', b'Z');
            let letter = lanes.or(upper, lanes.between(text, b'a', b'z'));
            let digit = lanes.and(digits, lanes.between(text, b'0', b'9'));
            let space = lanes.equal(text, lanes.splat(b' '));
            let plain = lanes.mask(lanes.or(lanes.or(letter, digit), space));
            let spaces = lanes.mask(space);
            let after_spaces = spaces << 1 | u64::from(writing.after_space);
            let stops = !plain | (spaces & after_spaces & single_spaces);
            let count = (stops | 1 << L::COUNT).trailing_zeros() as usize;
            lanes.store(lanes.or(text, lanes.and(upper, lower_case)), writing.room(L::COUNT));
            writing.length += count;
            writing.after_space = after_spaces >> count & 1 == 1;
            done += count;
            if count < L::COUNT {
                return done;
            }
        }
    }
}

struct Normalising<'a> {
    normaliser: &'a Normaliser,
    text: &'a str,
    writing: Writing<'a>,
}

impl OnLanes for Normalising<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> usize {
        self.normaliser.write_here(self.text, self.writing, lanes)
    }
}

/// The class of a character whose neighbours do not matter, otherwise `SLOW`. NFKC leaves alone what passes its quick check
/// (Unicode Standard Annex 15). Marks are `SLOW`, because NFKC may reorder them.
fn classify(form: Form, character: char) -> Class {
    if form.white_space && is_invisible(character) {
        return INVISIBLE;
    }
    let mut character = character;
    let is_stable =
        |c| canonical_combining_class(c) == 0 && is_nfkc_quick(std::iter::once(c)) == IsNormalized::Yes;
    if form.nfkc && !is_stable(character) && !is_other_number(character) {
        // A single character that stands for this one, like the ASCII forms of full-width punctuation.
        let mut normal = std::iter::once(character).nfkc();
        match (normal.next(), normal.next()) {
            (Some(normal), None) if canonical_combining_class(character) == 0 && is_stable(normal) => {
                character = normal;
            }
            _ => return SLOW,
        }
    }
    if !form.case {
        return flags(form, character);
    }
    // A lower case of several characters (`İ`) does not fit into a class.
    let mut lower = character.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(lower), None) => flags(form, lower),
        _ => SLOW,
    }
}

fn flags(form: Form, character: char) -> Class {
    let plain = character as Class;
    if character.is_whitespace() && form.white_space {
        return plain | SPACE;
    }
    if form.punctuation && is_punctuation(character) {
        return plain | PUNCTUATION;
    }
    if form.digits && is_digit(character) {
        return '0' as Class;
    }
    plain
}

fn is_punctuation(character: char) -> bool {
    // Unicode classes these as symbols, not punctuation.
    if character.is_ascii() {
        return character.is_ascii_punctuation() && !b"$+<=>^`|~".contains(&(character as u8));
    }
    character.general_category_group() == GeneralCategoryGroup::Punctuation
}

/// Whether a punctuation mark that follows `before` and precedes `after` changes the meaning: between digits (1.5, 10:30,
/// 3-4), the sign of a number (-5), and what is written behind a word or number (C#, 5%).
fn keeps(before: Option<char>, mark: char, after: Option<char>) -> bool {
    let digit = |side: Option<char>| side.is_some_and(is_digit);
    let word = before.is_some_and(char::is_alphanumeric);
    let sign = || mark.general_category() == GeneralCategory::DashPunctuation && !word && digit(after);
    digit(before) && digit(after) || is_mark_of_word(mark) && word || sign()
}

fn is_mark_of_word(mark: char) -> bool {
    matches!(mark, '#' | '%' | '‰' | '‱' | '٪')
}

fn is_digit(character: char) -> bool {
    // The look-up of a category costs more.
    if character.is_ascii() {
        return character.is_ascii_digit();
    }
    character.general_category() == GeneralCategory::DecimalNumber
}

/// Superscripts, fractions, circled digits and the like.
fn is_other_number(character: char) -> bool {
    !character.is_ascii() && character.general_category() == GeneralCategory::OtherNumber
}

/// `Default_Ignorable_Code_Point` of Unicode: soft hyphen, zero-width characters, byte order mark, direction marks …
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

struct Writing<'a> {
    /// The text is `buffer[..length]`; the bytes after it are undefined.
    buffer: &'a mut Vec<u8>,
    length: usize,
    drop_punctuation: bool,
    /// Whether another space would be dropped: at the start, and after a space.
    after_space: bool,
    /// Whether punctuation was dropped after the last character that was written.
    separated: bool,
}

impl Writing<'_> {
    fn push(&mut self, class: Class) {
        if class & SPACE != 0 {
            self.separated = false;
            if !self.after_space {
                self.room(1)[0] = b' ';
                self.length += 1;
                self.after_space = true;
            }
            return;
        }
        let Some(character) = char::from_u32(class & CHARACTER) else { return };
        if self.separated {
            if character.is_whitespace() { self.separated = false } else { self.separate() }
        }
        self.after_space = false;
        self.length += character.encode_utf8(self.room(4)).len();
    }

    /// Writes the space that dropped punctuation leaves between two characters that are no white space.
    fn separate(&mut self) {
        self.separated = false;
        let start = self.buffer[..self.length].iter().rposition(|&byte| byte & 0xc0 != 0x80).unwrap_or(0);
        let last = std::str::from_utf8(&self.buffer[start..self.length]).unwrap_or_default();
        if !last.trim().is_empty() {
            self.room(1)[0] = b' ';
            self.length += 1;
        }
    }

    /// The next `bytes` bytes of the buffer, which grows if necessary.
    #[inline]
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.length + bytes;
        if end > self.buffer.len() {
            self.buffer.resize(end.next_power_of_two(), 0);
        }
        &mut self.buffer[self.length..end]
    }
}
