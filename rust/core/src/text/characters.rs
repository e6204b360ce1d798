//! The Unicode properties of characters that the rules need, in one table.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use unicode_normalization::{IsNormalized, is_nfc_quick};
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};
use unicode_script::{Script, UnicodeScript};

use crate::text::character_table::CharacterTable;

/// The versions of Unicode of the tables of the libraries and of the standard library, joined by `+`. `Cargo.lock` keeps
/// them equal; a compiler with a newer standard library gives a second version.
pub fn unicode_version() -> String {
    let versions = BTreeSet::from([
        char::UNICODE_VERSION,
        unicode_normalization::UNICODE_VERSION,
        narrow(unicode_properties::UNICODE_VERSION),
        narrow(unicode_script::UNICODE_VERSION),
    ]);
    let versions: Vec<String> = versions.into_iter().map(|(a, b, c)| format!("{a}.{b}.{c}")).collect();
    versions.join("+")
}

fn narrow((major, minor, update): (u64, u64, u64)) -> (u8, u8, u8) {
    (major as u8, minor as u8, update as u8)
}

/// White space, and the Ethiopic word space: what separates words.
pub const WHITE_SPACE: u32 = 1 << 0;
pub const ALPHABETIC: u32 = 1 << 1;
/// Category Cc, except the tab.
pub const CONTROL: u32 = 1 << 2;
/// Category Nd.
pub const DIGIT: u32 = 1 << 3;
/// Script Han, Hiragana or Katakana, and the length marks of katakana words: no space between words.
pub const HAN_KANA: u32 = 1 << 4;
/// Letters and marks of the scripts in `UNSPACED_SCRIPTS`: no space between words.
pub const SYLLABIC: u32 = 1 << 5;
/// Ends a sentence; see `TERMINALS`.
pub const TERMINAL: u32 = 1 << 6;
/// Closes a bracket or quotation: category Pe or Pf, and the straight quotation marks.
pub const CLOSING: u32 = 1 << 7;
/// NFC may change it, or join it with the character before it.
pub const COMPOSING: u32 = 1 << 8;
/// Of a script without spaces between words.
pub const UNSPACED: u32 = HAN_KANA | SYLLABIC;
/// All bits below the number of the script.
pub const CLASSES: u32 = (1 << SCRIPT) - 1;
/// Scripts of syllables without spaces between words: those of line-breaking classes SA and AK (Unicode Standard Annex 14),
/// and Tibetan, which separates syllables.
const UNSPACED_SCRIPTS: [Script; 11] = [
    Script::Thai,
    Script::Lao,
    Script::Khmer,
    Script::Myanmar,
    Script::Tibetan,
    Script::Tai_Le,
    Script::New_Tai_Lue,
    Script::Tai_Tham,
    Script::Tai_Viet,
    Script::Javanese,
    Script::Balinese,
];
/// The bit where the number of the script begins.
const SCRIPT: u32 = 16;

static TABLE: CharacterTable = CharacterTable::new();

const ETHIOPIC_WORD_SPACE: char = '\u{1361}';

/// The first digit of every run of decimal digits.
static ZEROS: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let is_digit = |code| char::from_u32(code).is_some_and(is_decimal);
    (1..=u32::from(char::MAX)).filter(|&code| is_digit(code) && !is_digit(code - 1)).collect()
});

/// The characters that end a sentence in the scripts in use; `;` is the question mark of Greek.
const TERMINALS: &str = ".!?…;\u{37e}‼⁇⁈⁉‽。．！？｡؟۔।॥։።፧၊။។៕";

fn is_decimal(character: char) -> bool {
    character.general_category() == GeneralCategory::DecimalNumber
}

/// Whether the control characters of a text are all tabs and line breaks: `\n`, or `\r\n`. A lone `\r` is none: it is
/// in text whose lines were not split.
pub fn breaks_lines_only(text: &str) -> bool {
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let breaks = match character {
            '\t' | '\n' => true,
            '\r' => characters.peek() == Some(&'\n'),
            _ => !character.is_control(),
        };
        if !breaks {
            return false;
        }
    }
    true
}

/// The properties of characters; a reference to the table, cheap to copy.
#[derive(Clone, Copy)]
pub struct Characters(&'static CharacterTable);

impl Characters {
    pub fn new() -> Self {
        Self(&TABLE)
    }

    pub fn class(self, character: char) -> u32 {
        self.0.get(character, look_up)
    }

    /// The value of a decimal digit of any script.
    pub fn digit(self, character: char) -> Option<u8> {
        if character.is_ascii() || self.class(character) & DIGIT == 0 {
            return character.to_digit(10).map(|value| value as u8);
        }
        // Every run starts at the digit 0, and some runs are adjacent, so the value is modulo 10.
        let run = ZEROS.partition_point(|&zero| zero <= character as u32).checked_sub(1)?;
        Some(((character as u32 - ZEROS[run]) % 10) as u8)
    }
}

impl Default for Characters {
    fn default() -> Self {
        Self::new()
    }
}

fn look_up(character: char) -> u32 {
    let script = character.script();
    let category = character.general_category();
    let closing = [GeneralCategory::ClosePunctuation, GeneralCategory::FinalPunctuation].contains(&category);
    let spelling =
        character.is_alphabetic() || character.general_category_group() == GeneralCategoryGroup::Mark;
    let unspaced = UNSPACED_SCRIPTS.contains(&script);
    let composing = is_nfc_quick(std::iter::once(character)) != IsNormalized::Yes;
    let mut class = u32::from(script as u16) << SCRIPT;
    for (holds, bit) in [
        (character.is_whitespace() || character == ETHIOPIC_WORD_SPACE, WHITE_SPACE),
        (character.is_alphabetic(), ALPHABETIC),
        (character.is_control() && character != '\t', CONTROL),
        (category == GeneralCategory::DecimalNumber, DIGIT),
        ([Script::Han, Script::Hiragana, Script::Katakana].contains(&script), HAN_KANA),
        ("ーｰ".contains(character), HAN_KANA),
        (unspaced && spelling, SYLLABIC),
        (composing, COMPOSING),
        (TERMINALS.contains(character), TERMINAL),
        (closing || "\"'".contains(character), CLOSING),
    ] {
        class |= if holds { bit } else { 0 };
    }
    class
}

/// A set of scripts; letters that several scripts share are in every set.
#[derive(Debug, Clone, Copy)]
pub struct Scripts([bool; 256]);

impl Scripts {
    /// From codes of ISO 15924, like `Latn`; None if a code is unknown. An empty list is the set of all scripts.
    pub fn new(codes: &[String]) -> Option<Self> {
        let mut scripts = [codes.is_empty(); 256];
        for script in [Script::Common, Script::Inherited] {
            scripts[script as usize] = true;
        }
        for code in codes {
            scripts[Script::from_short_name(code)? as usize] = true;
        }
        Some(Self(scripts))
    }

    pub fn holds_class(&self, class: u32) -> bool {
        self.0[(class >> SCRIPT) as usize]
    }

    pub fn holds_latin(&self) -> bool {
        self.0[Script::Latin as usize]
    }
}
