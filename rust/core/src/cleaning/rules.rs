//! The rules: the measures of a pair or of a single text, and the reasons for dropping it.

use serde::{Deserialize, Serialize};
use simdutf8::basic::from_utf8;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::cleaning::reasons::{
    CHARACTER_RATIO, COLUMNS, CONTROL_CHARACTERS, EMPTY, FEW_LETTERS, FEW_WORDS_WITH_LETTERS,
    IDENTICAL_SIDES, INVALID_UTF8, LINE_TOO_LONG, LONG_WORD, MALFORMED_RECORD, MARKUP, MISSING_SIDE,
    NEAR_COPY, NUMBER_MISMATCH, REPEATED_NGRAMS, TERMINAL_PUNCTUATION, TOO_FEW_WORDS, TOO_MANY_CHARACTERS,
    TOO_MANY_WORDS, URL_MISMATCH, WORD_RATIO, WRONG_LANGUAGE, WRONG_SCRIPT,
};
use crate::corpus::record::Record;
use crate::text::characters::{COMPOSING, CONTROL, Characters, DIGIT, Scripts, breaks_lines_only};
use crate::text::lanes::Width;
use crate::text::pair_checks::{IDENTIFIED_LETTERS, ends_sentence, is_other_language, markup, numbers, urls};
use crate::text::side::{Measures, Side};
use crate::text::words::common;
use crate::{Error, Result};

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
    /// Share of word 3-grams that occurred before in the same side. 1 switches the rule off, as for the next three rules.
    pub max_repeated_share: f64,
    /// Share of numbers without an equal number in the other side, for the side that has more numbers.
    pub max_number_mismatch: f64,
    pub max_url_mismatch: f64,
    /// Share of visible characters that belong to tags, entities and placeholders.
    pub max_markup_share: f64,
    /// Share of letters of the side's scripts among all letters; 0 switches the rule off.
    pub min_script_share: f64,
    /// 2 |A ∩ B| / (|A| + |B|) over the words of the two sides.
    pub max_common_word_share: f64,
    /// Drop a pair if only one side ends with sentence-final punctuation.
    pub same_terminal_punctuation: bool,
    pub keep_identical: bool,
    pub keep_control_characters: bool,
    /// Scripts that each side is written in, as ISO 15924 codes; empty if unknown.
    pub source_scripts: Vec<String>,
    pub target_scripts: Vec<String>,
    /// The expected languages of the sides, as ISO 639-3 codes; None switches the rule off.
    pub source_language: Option<String>,
    pub target_language: Option<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            min_words: 1,
            max_words: 150,
            max_characters: 1024,
            max_word_ratio: 2.0,
            max_character_ratio: 2.0,
            min_letter_word_share: 0.4,
            min_letter_share: 0.5,
            max_word_characters: 40,
            max_repeated_share: 0.5,
            max_number_mismatch: 1.0,
            max_url_mismatch: 1.0,
            max_markup_share: 1.0,
            min_script_share: 0.3,
            max_common_word_share: 0.9,
            same_terminal_punctuation: false,
            keep_identical: false,
            keep_control_characters: false,
            source_scripts: Vec::new(),
            target_scripts: Vec::new(),
            source_language: None,
            target_language: None,
        }
    }
}

/// The decision about a record; `reasons` has a bit for each rule that the record breaks.
pub struct Decision<'a> {
    pub reasons: u32,
    pub source: Measures,
    pub target: Measures,
    /// The two sides as text, if both are valid UTF-8.
    pub text: Option<(&'a str, &'a str)>,
}

/// The two sides of a record as text, or the reason why it has none.
pub fn check_structure(record: Record<'_>) -> (u32, Option<(&str, &str)>) {
    match record {
        Record::Pair { source, target } => match (from_utf8(source), from_utf8(target)) {
            (Ok(source), Ok(target)) => (0, Some((source, target))),
            _ => (INVALID_UTF8, None),
        },
        Record::TooLong => (LINE_TOO_LONG, None),
        Record::Malformed => (MALFORMED_RECORD, None),
        Record::Columns => (COLUMNS, None),
        Record::MissingSide => (MISSING_SIDE, None),
    }
}

/// Measures a side and returns what was measured: the NFC of the text, which is mostly the text itself.
fn measure<'t>(side: &mut Side, text: &'t str, composed: &'t mut String) -> &'t str {
    side.measure(text);
    if side.classes & COMPOSING == 0 || is_nfc(text) {
        return text;
    }
    composed.clear();
    composed.extend(text.nfc());
    side.measure(composed);
    composed
}

/// Whether a side that was measured has control characters other than tabs and line breaks.
fn has_control(side: &Side, text: &str) -> bool {
    side.classes & CONTROL != 0 && !breaks_lines_only(text)
}

/// Applies rules to records; reuses its buffers.
pub struct RuleFilter<'r> {
    rules: &'r Rules,
    characters: Characters,
    source: Side,
    target: Side,
    /// Numbers, or URLs, of the two sides.
    shared: [Vec<u64>; 2],
    /// The NFC of sides that are not in it, so that reasons do not depend on the normal form of a text.
    composed: [String; 2],
}

impl<'r> RuleFilter<'r> {
    pub fn new(rules: &'r Rules) -> Result<Self> {
        let side = |codes: &[String]| {
            let scripts = Scripts::new(codes).ok_or_else(|| {
                Error::input(format!("scripts {}: give codes of ISO 15924, like Latn", codes.join(", ")))
            })?;
            Ok::<_, Error>(Side::new(scripts, Width::widest()))
        };
        let (source, target) = (side(&rules.source_scripts)?, side(&rules.target_scripts)?);
        Ok(Self {
            rules,
            characters: Characters::new(),
            source,
            target,
            shared: Default::default(),
            composed: Default::default(),
        })
    }

    pub fn decide<'a>(&mut self, record: Record<'a>) -> Decision<'a> {
        let (reasons, text) = check_structure(record);
        let Some((source, target)) = text else {
            return Decision { reasons, source: Measures::default(), target: Measures::default(), text };
        };
        let mut composed = std::mem::take(&mut self.composed);
        let [of_source, of_target] = &mut composed;
        let source = measure(&mut self.source, source, of_source);
        let target = measure(&mut self.target, target, of_target);
        let reasons = self.reasons(source, target);
        self.composed = composed;
        Decision { reasons, source: self.source.measures, target: self.target.measures, text }
    }

    /// The reasons of a pair whose sides are measured.
    fn reasons(&mut self, source: &str, target: &str) -> u32 {
        let rules = self.rules;
        let mut reasons = 0;
        if !rules.keep_control_characters
            && (has_control(&self.source, source) || has_control(&self.target, target))
        {
            reasons |= CONTROL_CHARACTERS;
        }
        if !rules.keep_identical && source.trim() == target.trim() {
            reasons |= IDENTICAL_SIDES;
        }
        for (side, text) in [(&mut self.source, source), (&mut self.target, target)] {
            if side.markup {
                side.measures.markup = markup(text, self.characters);
            }
        }
        self.match_numbers(source, target);
        reasons |= rules.measure_reasons(&self.source.measures, &self.target.measures);
        if reasons & EMPTY == 0 {
            reasons |= self.compare(source, target);
        }
        reasons
    }

    /// Decides about a record without a source, by the rules that need one side.
    pub fn decide_target<'a>(&mut self, record: Record<'a>) -> Decision<'a> {
        let (mut reasons, text) = check_structure(record);
        if let Some((_, target)) = text {
            let mut composed = std::mem::take(&mut self.composed);
            let target = measure(&mut self.target, target, &mut composed[1]);
            reasons = self.target_reasons(target);
            self.composed = composed;
        }
        let measures = if text.is_some() { self.target.measures } else { Measures::default() };
        Decision { reasons, source: Measures::default(), target: measures, text }
    }

    fn target_reasons(&mut self, text: &str) -> u32 {
        let (rules, side) = (self.rules, &mut self.target);
        let control = !rules.keep_control_characters && has_control(side, text);
        let mut reasons = if control { CONTROL_CHARACTERS } else { 0 };
        if side.markup {
            side.measures.markup = markup(text, self.characters);
        }
        if side.classes & DIGIT != 0 {
            numbers(text, self.characters, &mut self.shared[1]);
            side.measures.numbers = self.shared[1].len() as u32;
        }
        if side.measures.words == 0 {
            return reasons | EMPTY;
        }
        reasons |= rules.side_reasons([&side.measures]);
        let most = rules.max_repeated_share;
        if most < 1.0 && side.words.repeat(text, most) {
            reasons |= REPEATED_NGRAMS;
        }
        if is_wrong_language(&side.measures, text, rules.target_language.as_deref()) {
            reasons |= WRONG_LANGUAGE;
        }
        reasons
    }

    fn match_numbers(&mut self, source: &str, target: &str) {
        let [one, other] = &mut self.shared;
        if (self.source.classes | self.target.classes) & DIGIT == 0 {
            return;
        }
        numbers(source, self.characters, one);
        numbers(target, self.characters, other);
        let common = common(one, other);
        for (side, numbers) in [(&mut self.source, one), (&mut self.target, other)] {
            side.measures.numbers = numbers.len() as u32;
            side.measures.unmatched_numbers = (numbers.len() - common) as u32;
        }
    }

    /// The reasons that follow neither from the measures nor from equality.
    fn compare(&mut self, source: &str, target: &str) -> u32 {
        let rules = self.rules;
        let mut reasons = 0;
        let (one, other) = (&mut self.source.words, &mut self.target.words);
        let most = rules.max_repeated_share;
        if most < 1.0 && (one.repeat(source, most) || other.repeat(target, most)) {
            reasons |= REPEATED_NGRAMS;
        }
        let most = rules.max_common_word_share;
        if most < 1.0 && one.resemble(source, other, target, most) {
            reasons |= NEAR_COPY;
        }
        if rules.max_url_mismatch < 1.0 {
            let [one, other] = &mut self.shared;
            urls(source, one);
            urls(target, other);
            let (common, most) = (common(one, other), one.len().max(other.len()));
            if (most - common) as f64 > rules.max_url_mismatch * most as f64 {
                reasons |= URL_MISMATCH;
            }
        }
        for (side, text, language) in
            [(&self.source, source, &rules.source_language), (&self.target, target, &rules.target_language)]
        {
            if is_wrong_language(&side.measures, text, language.as_deref()) {
                reasons |= WRONG_LANGUAGE;
            }
        }
        let ends = |text| ends_sentence(text, self.characters);
        if rules.same_terminal_punctuation && ends(source) != ends(target) {
            reasons |= TERMINAL_PUNCTUATION;
        }
        reasons
    }
}

/// Whether a side is long enough to identify its language, and is identified as another one.
fn is_wrong_language(measures: &Measures, text: &str, language: Option<&str>) -> bool {
    measures.letters >= IDENTIFIED_LETTERS
        && language.is_some_and(|language| is_other_language(text, language))
}

impl Rules {
    /// The reasons that follow from the measures alone. Ratios and shares of an empty side are not computed.
    fn measure_reasons(&self, source: &Measures, target: &Measures) -> u32 {
        if source.words == 0 || target.words == 0 {
            return EMPTY;
        }
        let ratio = |one: u32, other: u32| share(one.max(other), one.min(other));
        let mut reasons = self.side_reasons([source, target]);
        let numbers = source.numbers.max(target.numbers);
        let unmatched = source.unmatched_numbers.max(target.unmatched_numbers);
        if f64::from(unmatched) > self.max_number_mismatch * f64::from(numbers) {
            reasons |= NUMBER_MISMATCH;
        }
        if ratio(source.words, target.words) > self.max_word_ratio {
            reasons |= WORD_RATIO;
        }
        if ratio(source.characters, target.characters) > self.max_character_ratio {
            reasons |= CHARACTER_RATIO;
        }
        reasons
    }

    /// The reasons that follow from the measures of each side; no side is empty.
    fn side_reasons<const SIDES: usize>(&self, sides: [&Measures; SIDES]) -> u32 {
        let any = |broken: &dyn Fn(&Measures) -> bool, reason: u32| {
            if sides.into_iter().any(broken) { reason } else { 0 }
        };
        any(&|side| side.words < self.min_words, TOO_FEW_WORDS)
            | any(&|side| side.words > self.max_words, TOO_MANY_WORDS)
            | any(&|side| side.characters > self.max_characters, TOO_MANY_CHARACTERS)
            | any(
                &|side| share(side.words_with_letter, side.words) < self.min_letter_word_share,
                FEW_WORDS_WITH_LETTERS,
            )
            | any(&|side| share(side.letters, side.visible) < self.min_letter_share, FEW_LETTERS)
            | any(&|side| side.longest_word > self.max_word_characters, LONG_WORD)
            | any(&|side| share(side.markup, side.visible) > self.max_markup_share, MARKUP)
            | any(
                &|side| f64::from(side.script_letters) < self.min_script_share * f64::from(side.letters),
                WRONG_SCRIPT,
            )
    }
}

fn share(part: u32, whole: u32) -> f64 {
    f64::from(part) / f64::from(whole)
}
