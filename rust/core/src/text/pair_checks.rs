//! Checks of the two sides of a pair: numbers, URLs, markup, sentence-final punctuation, and language.

use std::sync::LazyLock;

use regex::Regex;
use whichlang::detect_language;
use xxhash_rust::xxh3::xxh3_64;

use crate::text::characters::{CLOSING, Characters, TERMINAL, WHITE_SPACE};

/// Tags and comments; entities; placeholders of printf, Python, Qt and Objective-C; placeholders in braces; escapes.
static MARKUP: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"<(?:!--|[/!?]?[A-Za-z])[^<>]*>",
        r"|&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});",
        r"|%(?:[0-9]+\$)?[-+#0]*[0-9]*(?:\.[0-9]+)?(?:hh|h|ll|l|q|z|t|j)?[diouxXeEfgGcsp@%]",
        r"|%\([A-Za-z0-9_]+\)[a-z]|%[0-9]{1,2}",
        r"|[$%#]?\{{1,2}[A-Za-z0-9_.,:-]*\}{1,2}",
        r#"|\\[nrt"\\]"#,
    ))
    .ok()
});

/// From the scheme, or `www.`, to white space, a quotation mark, an angle bracket or anything beyond ASCII.
static URL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i-u:(?:https?|ftp)://|www\.)[!#-;=?-~]+").ok());

/// Visible characters of the tags, entities and placeholders of a side.
pub fn markup(text: &str, characters: Characters) -> u32 {
    let visible = |text: &str| -> usize {
        text.chars().filter(|&character| characters.class(character) & WHITE_SPACE == 0).count()
    };
    let Some(pattern) = &*MARKUP else { return 0 };
    pattern.find_iter(text).map(|found| visible(found.as_str()) as u32).sum()
}

/// Hashes of the URLs of a side, sorted; punctuation at the end of one is not part of it.
pub fn urls(text: &str, found: &mut Vec<u64>) {
    found.clear();
    if let Some(pattern) = &*URL {
        found.extend(pattern.find_iter(text).map(|url| {
            xxh3_64(
                url.as_str().trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', ')', ']', '}']).as_bytes(),
            )
        }));
    }
    found.sort_unstable();
}

/// The numbers of a side, sorted, each as the digits it is written with: a number is a run of decimal digits of any
/// script, in which one separator may stand between two digits; separators and leading zeros are dropped.
pub fn numbers(text: &str, characters: Characters, found: &mut Vec<u64>) {
    const OUTSIDE: u8 = 0;
    const INSIDE: u8 = 1;
    const SEPARATED: u8 = 2;
    found.clear();
    let (mut state, mut number) = (OUTSIDE, 0_u64);
    for character in text.chars() {
        if let Some(digit) = characters.digit(character) {
            state = INSIDE;
            if number > 0 || digit > 0 {
                number = number.wrapping_mul(11).wrapping_add(u64::from(digit) + 1);
            }
        } else if state == INSIDE && is_separator(character) {
            state = SEPARATED;
        } else {
            if state != OUTSIDE {
                found.push(number);
            }
            (state, number) = (OUTSIDE, 0);
        }
    }
    if state != OUTSIDE {
        found.push(number);
    }
    found.sort_unstable();
}

/// Of decimals and of thousands: point, comma, apostrophes, the Arabic ones, and spaces that do not break.
fn is_separator(character: char) -> bool {
    matches!(character, '.' | ',' | '\'' | '’' | '\u{66b}' | '\u{66c}' | '\u{a0}' | '\u{2009}' | '\u{202f}')
}

/// Whether a side ends a sentence, whatever it closes after that.
pub fn ends_sentence(text: &str, characters: Characters) -> bool {
    let mut classes = text.chars().rev().map(|character| characters.class(character));
    classes.find(|class| class & (WHITE_SPACE | CLOSING) == 0).is_some_and(|class| class & TERMINAL != 0)
}

/// Letters that a side needs for its language to be identified.
pub const IDENTIFIED_LETTERS: u32 = 40;

/// The languages that are told apart, by their codes of ISO 639-1, in the order of `identify`.
pub const LANGUAGES: [&str; 16] =
    ["ar", "zh", "de", "en", "fr", "hi", "it", "ja", "ko", "nl", "pt", "ru", "es", "sv", "tr", "vi"];

/// Which of the languages a text is taken for.
pub fn identify(text: &str) -> usize {
    detect_language(text) as usize
}

/// Whether a text is taken for another language than the one with this code of ISO 639-3: as a whole, and each half.
pub fn is_other_language(text: &str, language: &str) -> bool {
    let is_other = |text: &str| detect_language(text).three_letter_code() != language;
    let middle = (text.len() / 2..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    let middle = text[middle..].find(char::is_whitespace).map_or(middle, |space| middle + space);
    is_other(text) && is_other(&text[..middle]) && is_other(&text[middle..])
}
