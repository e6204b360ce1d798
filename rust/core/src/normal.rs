//! The normalised form of a text: what two texts must share to be one for duplicates and for decontamination.

use serde::{Deserialize, Serialize};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// What is made equal before texts are compared.
// Five independent choices of the user.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// Unicode NFKC.
    pub nfkc: bool,
    /// Lower case.
    pub case: bool,
    /// A run of white space becomes one space, none stays at the ends.
    pub white_space: bool,
    /// Punctuation goes; a text that is nothing else keeps it.
    pub punctuation: bool,
    /// Every decimal digit becomes 0.
    pub digits: bool,
}

impl Form {
    pub const NORMALISED: Self =
        Self { nfkc: true, case: true, white_space: true, punctuation: true, digits: false };

    /// Byte for byte.
    pub fn is_raw(self) -> bool {
        self == Self::default()
    }
}

/// What becomes of a character: the character that stands for it, and flags above it.
type Class = u32;
const SPACE: Class = 1 << 24;
const PUNCTUATION: Class = 1 << 25;
/// Its normal form depends on its neighbours or is more than one character.
const SLOW: Class = 1 << 26;
const CHARACTER: Class = SPACE - 1;

/// Writes normal forms; made once and shared by threads.
pub struct Normaliser {
    form: Form,
    /// Of the characters of the Basic Multilingual Plane: looking one up is all that most text costs.
    classes: Vec<Class>,
}

impl Normaliser {
    pub fn new(form: Form) -> Self {
        let classes = (0..1 << 16).map(|code| char::from_u32(code).map_or(SLOW, |c| classify(form, c)));
        Self { form, classes: classes.collect() }
    }

    /// Puts the normal form of `text` into `normal`, in UTF-8.
    pub fn normalise(&self, text: &str, normal: &mut Vec<u8>) {
        normal.clear();
        self.append(text, normal, self.form.punctuation);
        if normal.is_empty() && self.form.punctuation {
            self.append(text, normal, false);
        }
    }

    /// The same where characters are wanted.
    pub fn normalise_text(&self, text: &str, normal: &mut String) {
        let mut bytes = std::mem::take(normal).into_bytes();
        self.normalise(text, &mut bytes);
        *normal = String::from_utf8(bytes).unwrap_or_default();
    }

    fn append(&self, text: &str, normal: &mut Vec<u8>, drop_punctuation: bool) {
        normal.reserve(text.len());
        let mut writing = Writing { normal, drop_punctuation, space: false };
        let mut rest = text;
        while let Some(first) = rest.bytes().next() {
            if first.is_ascii() {
                writing.push(self.classes[usize::from(first)]);
                rest = &rest[1..];
                continue;
            }
            let Some(character) = rest.chars().next() else { break };
            let class = self.class(character);
            if class & SLOW != 0 {
                writing.restart();
                return self.append_slowly(text, &mut writing);
            }
            writing.push(class);
            rest = &rest[character.len_utf8()..];
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

    fn class(&self, character: char) -> Class {
        match self.classes.get(character as usize) {
            Some(&class) => class,
            None => classify(self.form, character),
        }
    }
}

/// The class of a character whose neighbours do not matter, else `SLOW`. A text of characters that NFKC surely leaves
/// alone is left alone by it (Unicode Standard Annex 15, quick check; marks, which have to be sorted, are not "surely").
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
    // ASCII symbols ($+<=>^`|~) are not punctuation to Unicode.
    if character.is_ascii() {
        return character.is_ascii_punctuation() && !b"$+<=>^`|~".contains(&(character as u8));
    }
    character.general_category_group() == GeneralCategoryGroup::Punctuation
}

struct Writing<'a> {
    normal: &'a mut Vec<u8>,
    drop_punctuation: bool,
    /// White space has passed since the last character.
    space: bool,
}

impl Writing<'_> {
    #[inline]
    fn push(&mut self, class: Class) {
        if class >= SPACE {
            if class & SPACE != 0 {
                self.space = true;
                return;
            }
            if self.drop_punctuation {
                return;
            }
        }
        if self.space {
            self.space = false;
            if !self.normal.is_empty() {
                self.normal.push(b' ');
            }
        }
        let code = class & CHARACTER;
        if code < 0x80 {
            self.normal.push(code as u8);
        } else if let Some(character) = char::from_u32(code) {
            self.normal.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    fn restart(&mut self) {
        self.normal.clear();
        self.space = false;
    }
}
