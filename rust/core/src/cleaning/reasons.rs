//! The reasons for which a record is dropped, one bit each.

/// Names of the reason bits, bit 0 first. Their order is part of the format: append new reasons at the end.
pub const REASONS: [&str; 28] = [
    "malformed_record",
    "line_too_long",
    "invalid_utf8",
    "control_characters",
    "empty",
    "too_few_words",
    "too_many_words",
    "too_many_characters",
    "word_ratio",
    "character_ratio",
    "identical_sides",
    "few_words_with_letters",
    "few_letters",
    "long_word",
    "duplicate",
    "near_duplicate",
    "excluded",
    "duplicate_elsewhere",
    "missing_side",
    "repeated_ngrams",
    "number_mismatch",
    "url_mismatch",
    "markup",
    "wrong_script",
    "terminal_punctuation",
    "near_copy",
    "wrong_language",
    "columns",
];

pub const MALFORMED_RECORD: u32 = 1 << 0;
pub const LINE_TOO_LONG: u32 = 1 << 1;
pub const INVALID_UTF8: u32 = 1 << 2;
pub const CONTROL_CHARACTERS: u32 = 1 << 3;
pub const EMPTY: u32 = 1 << 4;
pub const TOO_FEW_WORDS: u32 = 1 << 5;
pub const TOO_MANY_WORDS: u32 = 1 << 6;
pub const TOO_MANY_CHARACTERS: u32 = 1 << 7;
pub const WORD_RATIO: u32 = 1 << 8;
pub const CHARACTER_RATIO: u32 = 1 << 9;
pub const IDENTICAL_SIDES: u32 = 1 << 10;
pub const FEW_WORDS_WITH_LETTERS: u32 = 1 << 11;
pub const FEW_LETTERS: u32 = 1 << 12;
pub const LONG_WORD: u32 = 1 << 13;
pub const DUPLICATE: u32 = 1 << 14;
pub const NEAR_DUPLICATE: u32 = 1 << 15;
pub const EXCLUDED: u32 = 1 << 16;
pub const DUPLICATE_ELSEWHERE: u32 = 1 << 17;
pub const MISSING_SIDE: u32 = 1 << 18;
pub const REPEATED_NGRAMS: u32 = 1 << 19;
pub const NUMBER_MISMATCH: u32 = 1 << 20;
pub const URL_MISMATCH: u32 = 1 << 21;
pub const MARKUP: u32 = 1 << 22;
pub const WRONG_SCRIPT: u32 = 1 << 23;
pub const TERMINAL_PUNCTUATION: u32 = 1 << 24;
pub const NEAR_COPY: u32 = 1 << 25;
pub const WRONG_LANGUAGE: u32 = 1 << 26;
pub const COLUMNS: u32 = 1 << 27;

/// The reasons that need two sides; a monolingual record has none of them.
pub const OF_TWO_SIDES: u32 = WORD_RATIO
    | CHARACTER_RATIO
    | IDENTICAL_SIDES
    | MISSING_SIDE
    | NUMBER_MISMATCH
    | URL_MISMATCH
    | TERMINAL_PUNCTUATION
    | NEAR_COPY;

/// The names of the bits of a mask, bit 0 first, joined by `+`.
pub fn names(reasons: u32) -> String {
    places(reasons).map(|place| REASONS[place]).collect::<Vec<_>>().join("+")
}

/// The indices in `REASONS` of the bits of a mask, ascending.
pub fn places(mut reasons: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (reasons != 0).then(|| reasons.trailing_zeros() as usize);
        reasons &= reasons.wrapping_sub(1);
        lowest
    })
}
