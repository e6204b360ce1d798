//! Checks of the two sides of a pair: numbers, URLs, markup, sentence-final punctuation and language.

use std::sync::LazyLock;

use regex::Regex;
use whichlang::detect_language;
use xxhash_rust::xxh3::xxh3_64;

use crate::text::characters::{CLOSING, Characters, TERMINAL, WHITE_SPACE};
use crate::text::pattern::pattern;

/// Tags and comments; entities; placeholders of printf, Python, Qt and Objective-C; placeholders in braces; escapes.
static MARKUP: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"<(?:!--|[/!?]?[A-Za-z])[^<>]*>",
        r"|&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});",
        r"|%(?:[0-9]+\$)?[-+#0]*[0-9]*(?:\.[0-9]+)?(?:hh|h|ll|l|q|z|t|j)?[diouxXeEfgGcsp@%]",
        r"|%\([A-Za-z0-9_]+\)[a-z]|%[0-9]{1,2}",
        r"|[$%#]?\{{1,2}[A-Za-z0-9_.,:-]*\}{1,2}",
        r#"|\\[nrt"\\]"#,
    ))
});

/// From the scheme, or `www.`, to white space, a quotation mark, an angle bracket or a non-ASCII character.
static URL: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i-u:(?:https?|ftp)://|www\.)[!#-;=?-~]+"));

/// The number of visible characters in the tags, entities and placeholders of a side.
pub fn markup(text: &str, characters: Characters) -> u32 {
    let visible = |text: &str| -> usize {
        text.chars().filter(|&character| characters.class(character) & WHITE_SPACE == 0).count()
    };
    MARKUP.find_iter(text).map(|tag| visible(tag.as_str()) as u32).sum()
}

/// Writes the hashes of the URLs of a side, sorted; punctuation at the end of a URL does not count.
pub fn urls(text: &str, hashes: &mut Vec<u64>) {
    hashes.clear();
    hashes.extend(URL.find_iter(text).map(|url| {
        xxh3_64(url.as_str().trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', ')', ']', '}']).as_bytes())
    }));
    hashes.sort_unstable();
}

/// Writes hashes of the numbers of a side, sorted. A number is a run of decimal digits of any script, with at most one
/// separator between two digits; separators and leading zeros do not count.
pub fn numbers(text: &str, characters: Characters, hashes: &mut Vec<u64>) {
    const OUTSIDE: u8 = 0;
    const INSIDE: u8 = 1;
    const SEPARATED: u8 = 2;
    hashes.clear();
    let (mut state, mut number) = (OUTSIDE, 0_u64);
    for character in text.chars() {
        if let Some(digit) = characters.digit(character) {
            state = INSIDE;
            // Base 11 with digits from 1, so that zeros inside a number count; leading zeros are skipped.
            if number > 0 || digit > 0 {
                number = number.wrapping_mul(11).wrapping_add(u64::from(digit) + 1);
            }
        } else if state == INSIDE && is_separator(character) {
            state = SEPARATED;
        } else {
            if state != OUTSIDE {
                hashes.push(number);
            }
            (state, number) = (OUTSIDE, 0);
        }
    }
    if state != OUTSIDE {
        hashes.push(number);
    }
    hashes.sort_unstable();
}

/// Separators of decimals and thousands: point, comma, apostrophes, the Arabic separators, and no-break or thin spaces.
fn is_separator(character: char) -> bool {
    matches!(character, '.' | ',' | '\'' | '’' | '\u{66b}' | '\u{66c}' | '\u{a0}' | '\u{2009}' | '\u{202f}')
}

/// Whether a side ends with sentence-final punctuation, before any closing brackets or quotation marks.
pub fn ends_sentence(text: &str, characters: Characters) -> bool {
    let mut classes = text.chars().rev().map(|character| characters.class(character));
    classes.find(|class| class & (WHITE_SPACE | CLOSING) == 0).is_some_and(|class| class & TERMINAL != 0)
}

/// The fewest letters of a side whose language is identified.
pub const IDENTIFIED_LETTERS: u32 = 40;

/// The languages that are identified, as codes of ISO 639-1, in the order of `identify`.
pub const LANGUAGES: [&str; 16] =
    ["ar", "zh", "de", "en", "fr", "hi", "it", "ja", "ko", "nl", "pt", "ru", "es", "sv", "tr", "vi"];

/// The most likely language of a text, as an index of `LANGUAGES`.
pub fn identify(text: &str) -> usize {
    detect_language(text) as usize
}

/// Whether a text is identified as another language than `language` (ISO 639-3). The whole and both halves must agree,
/// because short text is often identified wrongly.
pub fn is_other_language(text: &str, language: &str) -> bool {
    let is_other = |text: &str| detect_language(text).three_letter_code() != language;
    let middle = (text.len() / 2..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    let middle = text[middle..].find(char::is_whitespace).map_or(middle, |space| middle + space);
    is_other(text) && is_other(&text[..middle]) && is_other(&text[middle..])
}
