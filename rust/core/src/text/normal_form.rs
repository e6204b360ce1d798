//! The normal form of a text: texts with equal normal forms are duplicates, or equal for decontamination.
// Copying is compiled for the instruction set of its lanes, but only with the functions inlined into it.
#![allow(clippy::inline_always)]

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use crate::text::lanes::{Lanes, MOST_LANES, OnLanes, Width};

/// The differences that are removed before texts are compared.
// Five independent options of the user.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// Unicode NFKC.
    pub nfkc: bool,
    /// Lower case.
    pub case: bool,
    /// A run of white space becomes one space; white space at the ends is removed.
    pub white_space: bool,
    /// Punctuation is removed, except from a text that has nothing else.
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
const CHARACTER: Class = SPACE - 1;

/// Writes normal forms; created once and shared by threads.
pub struct Normaliser {
    lanes: Width,
    form: Form,
    /// The classes of the characters of the Basic Multilingual Plane, computed at the first text: most characters then
    /// cost one look-up.
    classes: OnceLock<Vec<Class>>,
}

impl Normaliser {
    pub fn new(form: Form) -> Self {
        Self::on(Width::widest(), form)
    }

    /// With lanes of a given width; normal forms do not depend on it.
    pub fn on(lanes: Width, form: Form) -> Self {
        Self { lanes, form, classes: OnceLock::new() }
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
        let writing = Writing { buffer, length: 0, drop_punctuation, after_space: true };
        self.lanes.run(Normalising { normaliser: self, text, writing })
    }

    #[inline(always)]
    fn write_here(&self, text: &str, mut writing: Writing<'_>, lanes: impl Lanes) -> usize {
        let classes = self.classes.get_or_init(|| {
            (0..1 << 16).map(|code| char::from_u32(code).map_or(SLOW, |c| classify(self.form, c))).collect()
        });
        let mut at = 0;
        loop {
            at += self.copy_plain(&text.as_bytes()[at..], &mut writing, lanes);
            let Some(character) = text[at..].chars().next() else { break };
            let class = classes.get(character as usize).copied();
            let class = class.unwrap_or_else(|| classify(self.form, character));
            if class & SLOW != 0 {
                // Neighbours that were written already may change too, so the whole text is written again.
                (writing.length, writing.after_space) = (0, true);
                self.append_slowly(text, &mut writing);
                break;
            }
            writing.push(class);
            at += character.len_utf8();
        }
        // Removes a space at the end.
        if self.form.white_space && writing.after_space && writing.length > 0 {
            writing.length -= 1;
        }
        writing.length
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

    fn append_slowly(&self, text: &str, writing: &mut Writing<'_>) {
        let mut push = |character: char| {
            if self.form.case {
                character.to_lowercase().for_each(|lower| writing.push(flags(self.form, lower)));
            } else {
                writing.push(flags(self.form, character));
            }
        };
        if self.form.nfkc { text.nfkc().for_each(&mut push) } else { text.chars().for_each(&mut push) }
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

/// The class of a character whose neighbours do not matter, otherwise `SLOW`. NFKC does not change a text in which
/// every character passes the quick check (Unicode Standard Annex 15). Marks are `SLOW`, because NFKC may reorder them.
fn classify(form: Form, character: char) -> Class {
    if form.nfkc && !character.is_ascii() {
        let marked = unicode_normalization::char::canonical_combining_class(character) != 0;
        if marked || is_nfkc_quick(std::iter::once(character)) != IsNormalized::Yes {
            return SLOW;
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
    if form.digits && character.general_category() == GeneralCategory::DecimalNumber {
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

struct Writing<'a> {
    /// The text is `buffer[..length]`; the bytes after it are undefined.
    buffer: &'a mut Vec<u8>,
    length: usize,
    drop_punctuation: bool,
    /// Whether another space would be dropped: at the start, and after a space.
    after_space: bool,
}

impl Writing<'_> {
    fn push(&mut self, class: Class) {
        if class & SPACE != 0 {
            if !self.after_space {
                self.room(1)[0] = b' ';
                self.length += 1;
                self.after_space = true;
            }
            return;
        }
        if class & PUNCTUATION != 0 && self.drop_punctuation {
            return;
        }
        self.after_space = false;
        if let Some(character) = char::from_u32(class & CHARACTER) {
            self.length += character.encode_utf8(self.room(4)).len();
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
