//! What a character is: the Unicode properties that the rules ask for, in one table that is made once.

use std::sync::LazyLock;

use icu_properties::props::{GeneralCategory, LineBreak, Script, SentenceTerminal};
use icu_properties::{CodePointMapData, CodePointSetData, PropertyParser};

pub const WHITE_SPACE: u16 = 1 << 0;
pub const ALPHABETIC: u16 = 1 << 1;
/// Category Cc, the tab aside.
pub const CONTROL: u16 = 1 << 2;
/// Category Nd.
pub const DIGIT: u16 = 1 << 3;
/// Script Han, Hiragana or Katakana, and the length marks that katakana words hold: no space between words.
pub const HAN_KANA: u16 = 1 << 4;
/// Line break class SA: Thai, Lao, Khmer, Burmese and their kin, without space between words.
pub const SOUTH_EAST_ASIAN: u16 = 1 << 5;
/// Ends a sentence: the property `Sentence_Terminal`, the ellipsis and the Greek question mark.
pub const TERMINAL: u16 = 1 << 6;
/// Closes what was opened before: category Pe or Pf, and the straight quotation marks.
pub const CLOSING: u16 = 1 << 7;
/// Of a script without spaces between words.
pub const UNSPACED: u16 = HAN_KANA | SOUTH_EAST_ASIAN;
/// The script's number, in the upper half.
const SCRIPT: u32 = 8;

/// The classes of the characters below U+10000; `class` knows the others.
static TABLE: LazyLock<Vec<u16>> =
    LazyLock::new(|| (0..0x1_0000).map(|code| char::from_u32(code).map_or(0, look_up)).collect());

/// The first digit of every run of decimal digits.
static ZEROS: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let runs =
        CodePointMapData::<GeneralCategory>::new().iter_ranges_for_value(GeneralCategory::DecimalNumber);
    runs.map(|run| *run.start()).collect()
});

/// The properties of characters; a copy of it is a reference to the table.
#[derive(Clone, Copy)]
pub struct Characters(&'static [u16]);

impl Characters {
    pub fn new() -> Self {
        Self(&TABLE)
    }

    pub fn class(self, character: char) -> u16 {
        self.0.get(character as usize).copied().unwrap_or_else(|| look_up(character))
    }

    /// The value of a decimal digit of any script.
    pub fn digit(self, character: char) -> Option<u8> {
        if character.is_ascii() || self.class(character) & DIGIT == 0 {
            return character.to_digit(10).map(|value| value as u8);
        }
        let run = ZEROS.partition_point(|&zero| zero <= character as u32).checked_sub(1)?;
        Some(((character as u32 - ZEROS[run]) % 10) as u8)
    }
}

impl Default for Characters {
    fn default() -> Self {
        Self::new()
    }
}

/// The number of a script; there are fewer than 256.
#[allow(deprecated)] // until the crate settles on another name for it
fn number(script: Script) -> u16 {
    script.to_icu4c_value()
}

fn look_up(character: char) -> u16 {
    let script = CodePointMapData::<Script>::new().get(character);
    let break_class = CodePointMapData::<LineBreak>::new().get(character);
    let category = CodePointMapData::<GeneralCategory>::new().get(character);
    let closing = [GeneralCategory::ClosePunctuation, GeneralCategory::FinalPunctuation].contains(&category);
    let terminal = CodePointSetData::new::<SentenceTerminal>().contains(character);
    let mut class = number(script) << SCRIPT;
    for (holds, bit) in [
        (character.is_whitespace(), WHITE_SPACE),
        (character.is_alphabetic(), ALPHABETIC),
        (character.is_control() && character != '\t', CONTROL),
        (category == GeneralCategory::DecimalNumber, DIGIT),
        ([Script::Han, Script::Hiragana, Script::Katakana].contains(&script), HAN_KANA),
        ("ーｰ".contains(character), HAN_KANA),
        (break_class == LineBreak::ComplexContext, SOUTH_EAST_ASIAN),
        (terminal || "…;\u{37e}".contains(character), TERMINAL),
        (closing || "\"'".contains(character), CLOSING),
    ] {
        class |= if holds { bit } else { 0 };
    }
    class
}

/// A set of scripts; letters that several scripts share are in all of them.
#[derive(Debug, Clone, Copy)]
pub struct Scripts([bool; 256]);

impl Scripts {
    /// From codes of ISO 15924, like `Latn`; none if one of them is no script. An empty list is every script.
    pub fn new(codes: &[String]) -> Option<Self> {
        let mut scripts = [codes.is_empty(); 256];
        for script in [Script::Common, Script::Inherited] {
            scripts[usize::from(number(script))] = true;
        }
        for code in codes {
            let script = PropertyParser::<Script>::new().get_strict(code)?;
            *scripts.get_mut(usize::from(number(script)))? = true;
        }
        Some(Self(scripts))
    }

    pub fn holds_class(&self, class: u16) -> bool {
        self.0[usize::from(class >> SCRIPT)]
    }

    pub fn holds_latin(&self) -> bool {
        self.0[usize::from(number(Script::Latin))]
    }
}
