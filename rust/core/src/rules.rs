//! The rules of cleaning: what is measured of a pair, and for which reasons it is dropped.

use serde::{Deserialize, Serialize};
use simdutf8::basic::from_utf8;

use crate::corpus::Record;

/// Names of the reason bits, bit 0 first. Their order is part of the format: new ones go to the end.
pub const REASONS: [&str; 19] = [
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
];

const MALFORMED_RECORD: u32 = 1 << 0;
const LINE_TOO_LONG: u32 = 1 << 1;
const INVALID_UTF8: u32 = 1 << 2;
const CONTROL_CHARACTERS: u32 = 1 << 3;
const EMPTY: u32 = 1 << 4;
const TOO_FEW_WORDS: u32 = 1 << 5;
const TOO_MANY_WORDS: u32 = 1 << 6;
const TOO_MANY_CHARACTERS: u32 = 1 << 7;
const WORD_RATIO: u32 = 1 << 8;
const CHARACTER_RATIO: u32 = 1 << 9;
const IDENTICAL_SIDES: u32 = 1 << 10;
const FEW_WORDS_WITH_LETTERS: u32 = 1 << 11;
const FEW_LETTERS: u32 = 1 << 12;
const LONG_WORD: u32 = 1 << 13;
pub const DUPLICATE: u32 = 1 << 14;
pub const NEAR_DUPLICATE: u32 = 1 << 15;
pub const EXCLUDED: u32 = 1 << 16;
pub const DUPLICATE_ELSEWHERE: u32 = 1 << 17;
const MISSING_SIDE: u32 = 1 << 18;

/// The thresholds; a pair on a threshold is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    pub min_words: u32,
    pub max_words: u32,
    pub max_characters: u32,
    /// Longer side over shorter side.
    pub max_word_ratio: f64,
    pub max_character_ratio: f64,
    /// Share of words that hold at least one letter.
    pub min_letter_word_share: f64,
    /// Share of letters among the visible characters.
    pub min_letter_share: f64,
    /// Characters of the longest word.
    pub max_word_characters: u32,
    pub keep_identical: bool,
    pub keep_control_characters: bool,
}

/// What is measured of one side. A character is a Unicode scalar value, a word what stands between white space,
/// a letter a character with the Unicode property Alphabetic, a visible character one that is not white space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measures {
    pub characters: u32,
    pub words: u32,
    pub letters: u32,
    pub visible: u32,
    pub words_with_letter: u32,
    pub longest_word: u32,
}

/// Names of the measures as columns, in the order of `Measures::values`.
pub const MEASURES: [&str; 6] =
    ["characters", "words", "letters", "visible", "words_with_letter", "longest_word"];

impl Measures {
    pub fn values(&self) -> [u32; 6] {
        [self.characters, self.words, self.letters, self.visible, self.words_with_letter, self.longest_word]
    }
}

/// Measures a side, and says whether it holds control characters (category Cc but for the tab).
pub fn measure(text: &str) -> (Measures, bool) {
    let mut measures = Measures::default();
    let mut control = false;
    let (mut word, mut word_has_letter) = (0_u32, false);
    for character in text.chars() {
        measures.characters += 1;
        control |= character.is_control() && character != '\t';
        if character.is_whitespace() {
            end_word(&mut measures, &mut word, &mut word_has_letter);
            continue;
        }
        word += 1;
        if character.is_alphabetic() {
            measures.letters += 1;
            word_has_letter = true;
        }
    }
    end_word(&mut measures, &mut word, &mut word_has_letter);
    (measures, control)
}

fn end_word(measures: &mut Measures, word: &mut u32, has_letter: &mut bool) {
    if *word > 0 {
        measures.words += 1;
        measures.visible += *word;
        measures.longest_word = measures.longest_word.max(*word);
        measures.words_with_letter += u32::from(*has_letter);
    }
    *word = 0;
    *has_letter = false;
}

/// A pair judged by the rules; `reasons` has a bit for every rule that it breaks.
pub struct Judged<'a> {
    pub reasons: u32,
    pub source: Measures,
    pub target: Measures,
    /// The two sides as text, where they are valid UTF-8.
    pub text: Option<(&'a str, &'a str)>,
}

/// Why a record is no pair of text, or its two sides.
pub fn judge_structure(record: Record<'_>) -> (u32, Option<(&str, &str)>) {
    match record {
        Record::Pair { source, target } => match (from_utf8(source), from_utf8(target)) {
            (Ok(source), Ok(target)) => (0, Some((source, target))),
            _ => (INVALID_UTF8, None),
        },
        Record::TooLong => (LINE_TOO_LONG, None),
        Record::Malformed => (MALFORMED_RECORD, None),
        Record::MissingSide => (MISSING_SIDE, None),
    }
}

impl Rules {
    pub fn judge<'a>(&self, record: Record<'a>) -> Judged<'a> {
        let (reasons, text) = judge_structure(record);
        let Some((source, target)) = text else {
            return Judged { reasons, source: Measures::default(), target: Measures::default(), text };
        };
        let (source_measures, source_control) = measure(source);
        let (target_measures, target_control) = measure(target);
        let mut reasons = 0;
        if !self.keep_control_characters && (source_control || target_control) {
            reasons |= CONTROL_CHARACTERS;
        }
        if !self.keep_identical && source.trim() == target.trim() {
            reasons |= IDENTICAL_SIDES;
        }
        reasons |= self.judge_measures(&source_measures, &target_measures);
        Judged { reasons, source: source_measures, target: target_measures, text: Some((source, target)) }
    }

    /// The reasons that follow from the measures alone. Ratios and shares of an empty side are not taken.
    fn judge_measures(&self, source: &Measures, target: &Measures) -> u32 {
        if source.words == 0 || target.words == 0 {
            return EMPTY;
        }
        let sides = [source, target];
        let any = |broken: &dyn Fn(&Measures) -> bool, reason: u32| {
            if sides.into_iter().any(broken) { reason } else { 0 }
        };
        let share = |part: u32, whole: u32| f64::from(part) / f64::from(whole);
        let ratio = |one: u32, other: u32| share(one.max(other), one.min(other));
        let mut reasons = any(&|side| side.words < self.min_words, TOO_FEW_WORDS)
            | any(&|side| side.words > self.max_words, TOO_MANY_WORDS)
            | any(&|side| side.characters > self.max_characters, TOO_MANY_CHARACTERS)
            | any(
                &|side| share(side.words_with_letter, side.words) < self.min_letter_word_share,
                FEW_WORDS_WITH_LETTERS,
            )
            | any(&|side| share(side.letters, side.visible) < self.min_letter_share, FEW_LETTERS)
            | any(&|side| side.longest_word > self.max_word_characters, LONG_WORD);
        if ratio(source.words, target.words) > self.max_word_ratio {
            reasons |= WORD_RATIO;
        }
        if ratio(source.characters, target.characters) > self.max_character_ratio {
            reasons |= CHARACTER_RATIO;
        }
        reasons
    }
}
