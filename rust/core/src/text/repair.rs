//! Repairs a text: each repair replaces what is wrong in it, and leaves the rest as it is.

use std::borrow::Cow;
use std::sync::LazyLock;

use plsfix::TextFixerConfig;
use regex::Regex;
use serde::{Deserialize, Serialize};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::text::pattern::pattern;

/// A repair. Repairs are applied in this order, again and again until none of them changes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repair {
    /// HTML entities become the characters that they stand for, unless the text has a `<`: it may be markup then.
    Entities,
    /// Text that was decoded in a wrong encoding, perhaps twice, is decoded in the right one (the rules of ftfy).
    Mojibake,
    /// Control characters and terminal escapes are removed; those that separate lines or words become a space.
    Controls,
    /// A run of white space becomes one space; white space at the ends, characters without a width and soft hyphens
    /// are removed.
    Spaces,
    /// Curly and low quotes become straight ones, hyphens and dashes of Unicode become those of ASCII.
    Punctuation,
    /// Unicode normal form C.
    Nfc,
}

/// The names of the repairs, in the order of their bits.
pub const REPAIRS: [(Repair, &str); 6] = [
    (Repair::Entities, "entities"),
    (Repair::Mojibake, "mojibake"),
    (Repair::Controls, "controls"),
    (Repair::Spaces, "spaces"),
    (Repair::Punctuation, "punctuation"),
    (Repair::Nfc, "nfc"),
];

/// A text that changes more often than this stays partly repaired: no real text does.
const MOST_ROUNDS: usize = 16;
/// Inserted after an ampersand while mojibake is repaired, so that plsfix sees no entities.
const GUARD: &str = "\u{1}";
/// Longer texts are repaired in pieces of at most so many bytes: the patterns of plsfix give up on very long words.
const PIECE_BYTES: usize = 1 << 15;
/// Signs of mojibake in ftfy 6.3 (`badness.py`) that plsfix, which follows an older version, does not know.
static SIGNS: LazyLock<Regex> = LazyLock::new(|| {
    let upper = "À-ÑØÜÝĂĀĄĆČĎĐĘĚĒĖĞĢİĪĶĹĽŁĻŃŇŅŒŘŚŞŠŢŤŮŰŸŹŻŽҐ";
    let lower = "ßà-ñăąāćčďđęěēėğģįīķĺľłļœŕśşšťüźžżґﬁﬂ";
    let opening = "¡«¿©΄΅‘‚“„•‹";
    pattern(&format!("[{upper}{lower}][{opening}]\\w|[{upper}][¶§°]|[ÂÃÎÐ][œŠ]|вЂ|ā€"))
});
/// Mojibake that plsfix always repairs, and what it becomes.
const MARK: (&str, char) = ("â€™", '’');

/// Applies some of the repairs.
#[derive(Debug, Clone, Default)]
pub struct Repairer {
    repairs: Vec<(u8, Repair)>,
}

impl Repairer {
    pub fn new(repairs: &[Repair]) -> Self {
        let chosen = REPAIRS.iter().enumerate().filter(|(_, (repair, _))| repairs.contains(repair));
        Self { repairs: chosen.map(|(bit, &(repair, _))| (1 << bit, repair)).collect() }
    }

    pub fn is_off(&self) -> bool {
        self.repairs.is_empty()
    }

    /// The repaired text, and a bit for each repair that changed it. Repairing it again changes nothing, unless it took
    /// `MOST_ROUNDS`.
    pub fn repair<'a>(&self, text: &'a str) -> (Cow<'a, str>, u8) {
        let mut repaired = Cow::Borrowed(text);
        let mut changes = 0;
        for _ in 0..MOST_ROUNDS {
            let mut is_changed = false;
            for &(bit, repair) in &self.repairs {
                if let Some(text) = repair.apply(&repaired) {
                    repaired = Cow::Owned(text);
                    changes |= bit;
                    is_changed = true;
                }
            }
            if !is_changed {
                break;
            }
        }
        (repaired, changes)
    }
}

impl Repair {
    /// The changed text; None if there is nothing to repair.
    fn apply(self, text: &str) -> Option<String> {
        let repaired = match self {
            Self::Entities => entities(text)?,
            Self::Mojibake => mojibake(text)?,
            Self::Controls => controls(text)?,
            Self::Spaces => spaces(text)?,
            Self::Punctuation => punctuation(text)?,
            Self::Nfc => match is_nfc_quick(text.chars()) {
                IsNormalized::Yes => return None,
                IsNormalized::No | IsNormalized::Maybe => text.nfc().collect(),
            },
        };
        (repaired != text).then_some(repaired)
    }
}

/// The longest name of an entity, or digits of a number.
const NAME_BYTES: usize = 32;

fn entities(text: &str) -> Option<String> {
    if !text.contains('&') || text.contains('<') {
        return None;
    }
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        decoded.push_str(&rest[..start]);
        rest = &rest[start..];
        let name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'#';
        let length = 1 + rest.bytes().skip(1).take(NAME_BYTES).take_while(name).count();
        let end = if rest.as_bytes().get(length) == Some(&b';') { length + 1 } else { 1 };
        match character_of(&rest[..end]) {
            Some(characters) => decoded.push_str(&characters),
            None => decoded.push_str(&rest[..end]),
        }
        rest = &rest[end..];
    }
    decoded.push_str(rest);
    Some(decoded)
}

/// The characters of an entity, which is `&`, a name or number, and `;`. What would separate lines or columns is a space.
fn character_of(entity: &str) -> Option<Cow<'_, str>> {
    let decoded = html_escape::decode_html_entities(entity);
    if decoded == entity {
        return None;
    }
    let mut characters = decoded.chars();
    Some(match (characters.next(), characters.next()) {
        (Some('\0'), None) => return None,
        (Some('\t' | '\n' | '\r' | '\u{b}' | '\u{c}'), None) => Cow::Borrowed(" "),
        // HTML reads these numbers as bytes of Windows-1252.
        (Some(character @ '\u{80}'..='\u{9f}'), None) => {
            let byte = [character as u8];
            let (text, _) = encoding_rs::WINDOWS_1252.decode_without_bom_handling(&byte);
            Cow::Owned(text.into_owned())
        }
        _ => decoded,
    })
}

fn mojibake(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let has_ampersand = text.contains('&');
    if has_ampersand && text.contains(GUARD) {
        return None;
    }
    let guarded = if has_ampersand { Cow::Owned(text.replace('&', "&\u{1}")) } else { Cow::Borrowed(text) };
    let mut repaired = String::with_capacity(guarded.len());
    let mut rest = &*guarded;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(piece_bytes(rest));
        repaired.push_str(&decoded(piece));
        rest = after;
    }
    Some(if has_ampersand { repaired.replace(GUARD, "") } else { repaired })
}

/// The length of the first piece of a text, which ends after a space where it has one.
fn piece_bytes(text: &str) -> usize {
    if text.len() <= PIECE_BYTES {
        return text.len();
    }
    let most = (0..=PIECE_BYTES).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(text.len());
    text[..most].rfind(' ').map_or(most, |space| space + 1)
}

/// The text with mojibake decoded.
fn decoded(text: &str) -> String {
    let rules = TextFixerConfig {
        unescape_html: Some(false),
        remove_terminal_escapes: false,
        fix_latin_ligatures: false,
        fix_character_width: false,
        uncurl_quotes: false,
        fix_line_breaks: false,
        remove_control_chars: false,
        normalization: None,
        max_decode_length: i32::MAX,
        ..TextFixerConfig::default()
    };
    let repaired = plsfix::fix_text(text, Some(&rules));
    if repaired == text && SIGNS.is_match(text) {
        let marked = plsfix::fix_text(&format!("{text}{}", MARK.0), Some(&rules));
        return marked.strip_suffix(MARK.1).map_or(repaired, str::to_owned);
    }
    repaired
}

fn controls(text: &str) -> Option<String> {
    if !text.chars().any(is_control) {
        return None;
    }
    let mut repaired = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        match character {
            '\u{b}' | '\u{c}' | '\u{85}' => repaired.push(' '),
            '\u{1b}' => {
                rest = &rest[escape_bytes(rest)..];
                continue;
            }
            _ if is_control(character) => {}
            _ => repaired.push(character),
        }
        rest = &rest[character.len_utf8()..];
    }
    Some(repaired)
}

/// Whether a character is a control character, but for tabs and line ends, or has no use in plain text.
fn is_control(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => false,
        '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}' => true,
        _ => character.is_control(),
    }
}

/// The length of the terminal escape that a text begins with: that of colours and the like, or of the character alone.
fn escape_bytes(text: &str) -> usize {
    let rest = text[1..].strip_prefix('[').unwrap_or_default();
    let numbers = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
    if rest.as_bytes().get(numbers).is_some_and(u8::is_ascii_alphabetic) { 2 + numbers + 1 } else { 1 }
}

fn spaces(text: &str) -> Option<String> {
    let is_odd = |character: char| character.is_whitespace() && character != ' ' || has_no_width(character);
    let is_tidy = !(text.starts_with(' ') || text.ends_with(' ') || text.contains("  "));
    if is_tidy && !text.chars().any(is_odd) {
        return None;
    }
    let mut repaired = String::with_capacity(text.len());
    for character in text.trim().chars().filter(|&character| !has_no_width(character)) {
        if !character.is_whitespace() {
            repaired.push(character);
        } else if !repaired.is_empty() && !repaired.ends_with(' ') {
            repaired.push(' ');
        }
    }
    repaired.truncate(repaired.trim_end().len());
    Some(repaired)
}

/// Whether a character shows nothing. Joiners (U+200C, U+200D) change the letters beside them, and stay.
fn has_no_width(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}' | '\u{feff}')
}

fn punctuation(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let mut repaired = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{2bc}' | '\u{2018}'..='\u{201b}' => repaired.push('\''),
            '\u{201c}'..='\u{201f}' => repaired.push('"'),
            '\u{2010}'..='\u{2013}' | '\u{2212}' => repaired.push('-'),
            // A dash that separates phrases must not become a hyphen that joins words.
            '\u{2014}' | '\u{2015}' => {
                if repaired.chars().next_back().is_some_and(|before| !before.is_whitespace()) {
                    repaired.push(' ');
                }
                repaired.push('-');
                if characters.peek().is_some_and(|after| !after.is_whitespace()) {
                    repaired.push(' ');
                }
            }
            _ => repaired.push(character),
        }
    }
    Some(repaired)
}
