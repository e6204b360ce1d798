//! Statistics of a group of pairs, or of texts without a source, and the figures that are reported. Statistics can be
//! added in any order.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;
use unicode_script::{Script, UnicodeScript};
use xxhash_rust::xxh3::xxh3_64;

use crate::corpus::record::Record;
use crate::stats::cardinality::{Count, Sketch};
use crate::stats::histogram::{Histogram, Quantiles};
use crate::text::pair_checks::{IDENTIFIED_LETTERS, LANGUAGES, identify};

/// Ratios are counted in thousandths, rounded down, up to this one.
const RATIO_UNIT: f64 = 1000.0;
const MOST_RATIO: u64 = 1_000_000;

/// The kept or the dropped pairs of one input and one tag.
#[derive(Clone, Default)]
pub struct GroupStatistics {
    rows: u64,
    malformed: u64,
    columns: u64,
    missing_side: u64,
    too_long: u64,
    invalid_utf8: u64,
    empty: u64,
    sides: [Side; 2],
    /// In characters and in words: target over source, longer over shorter.
    ratios: [[Histogram; 2]; 2],
    /// Rows that repeat an earlier one (pair, source, target): of all rows, and of the kept ones.
    pub repeats: [[u64; 3]; 2],
}

#[derive(Clone, Default)]
struct Side {
    characters: Histogram,
    words: Histogram,
    bytes: Histogram,
    types: Sketch,
    /// Letters by script.
    scripts: BTreeMap<&'static str, u64>,
    /// Texts by identified language, and texts that are too short to identify.
    languages: [u64; LANGUAGES.len()],
    too_short: u64,
}

impl GroupStatistics {
    /// Counts a record, and its languages if `identified`; returns its two sides if they are text. A monolingual record
    /// has no source and no ratio.
    pub fn add<'a>(
        &mut self,
        record: Record<'a>,
        identified: bool,
        monolingual: bool,
    ) -> Option<[&'a str; 2]> {
        self.rows += 1;
        let sides = match record {
            Record::TooLong => {
                self.too_long += 1;
                return None;
            }
            Record::Malformed => {
                self.malformed += 1;
                return None;
            }
            Record::Columns => {
                self.columns += 1;
                return None;
            }
            Record::MissingSide => {
                self.missing_side += 1;
                return None;
            }
            Record::Pair { source, target } => [std::str::from_utf8(source), std::str::from_utf8(target)],
        };
        let [Ok(source), Ok(target)] = sides else {
            self.invalid_utf8 += 1;
            return None;
        };
        if monolingual {
            let [_, words] = self.sides[1].add(target, identified);
            self.empty += u64::from(words == 0);
            return Some([source, target]);
        }
        let [source_lengths, target_lengths] =
            [(0, source), (1, target)].map(|(side, text)| self.sides[side].add(text, identified));
        self.empty += u64::from(source_lengths[1] == 0 || target_lengths[1] == 0);
        for (unit, ratios) in self.ratios.iter_mut().enumerate() {
            let (source, target) = (source_lengths[unit], target_lengths[unit]);
            if source > 0 && target > 0 {
                ratios[0].add(ratio(target, source));
                ratios[1].add(ratio(source.max(target), source.min(target)));
            }
        }
        Some([source, target])
    }

    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.malformed += other.malformed;
        self.columns += other.columns;
        self.missing_side += other.missing_side;
        self.too_long += other.too_long;
        self.invalid_utf8 += other.invalid_utf8;
        self.empty += other.empty;
        for (mine, other) in self.sides.iter_mut().zip(&other.sides) {
            mine.merge(other);
        }
        for (mine, other) in self.ratios.iter_mut().flatten().zip(other.ratios.iter().flatten()) {
            mine.merge(other);
        }
        self.add_repeats(&other.repeats);
    }

    pub fn add_repeats(&mut self, repeats: &[[u64; 3]; 2]) {
        for (mine, other) in self.repeats.iter_mut().flatten().zip(repeats.iter().flatten()) {
            *mine += other;
        }
    }
}

fn ratio(over: u32, under: u32) -> u32 {
    (u64::from(over) * 1000 / u64::from(under)).min(MOST_RATIO) as u32
}

impl Side {
    /// Counts a side; returns its characters and words.
    fn add(&mut self, text: &str, identified: bool) -> [u32; 2] {
        let (mut characters, mut latin, mut others, mut words) = (0, 0, 0, 0);
        for character in text.chars() {
            characters += 1;
            if character.is_ascii_alphabetic() {
                latin += 1;
            } else if !character.is_ascii() && character.is_alphabetic() {
                others += 1;
                *self.scripts.entry(character.script().full_name()).or_default() += 1;
            }
        }
        for word in text.split_whitespace() {
            words += 1;
            self.types.add(xxh3_64(word.as_bytes()));
        }
        if latin > 0 {
            *self.scripts.entry(Script::Latin.full_name()).or_default() += u64::from(latin);
        }
        if identified {
            let enough = latin + others >= IDENTIFIED_LETTERS;
            *(if enough { &mut self.languages[identify(text)] } else { &mut self.too_short }) += 1;
        }
        self.characters.add(characters);
        self.words.add(words);
        self.bytes.add(text.len() as u32);
        [characters, words]
    }

    fn merge(&mut self, other: &Self) {
        self.characters.merge(&other.characters);
        self.words.merge(&other.words);
        self.bytes.merge(&other.bytes);
        self.types.merge(&other.types);
        for (script, letters) in &other.scripts {
            *self.scripts.entry(script).or_default() += letters;
        }
        for (mine, other) in self.languages.iter_mut().zip(&other.languages) {
            *mine += other;
        }
        self.too_short += other.too_short;
    }
}

/// Bytes of text before and after compression by zstd.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Compressed {
    pub bytes: u64,
    pub compressed: u64,
}

/// The reported figures of a group of pairs.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub rows: u64,
    pub malformed_record: u64,
    pub columns: u64,
    pub missing_side: u64,
    pub line_too_long: u64,
    pub invalid_utf8: u64,
    /// Records of text that have a side without words.
    pub empty: u64,
    /// None for a monolingual corpus, like the ratios.
    pub source: Option<SideFigures>,
    pub target: SideFigures,
    pub character_ratio: Option<Ratios>,
    pub word_ratio: Option<Ratios>,
    pub duplicates: Duplicates,
}

#[derive(Debug, Serialize)]
pub struct SideFigures {
    pub characters: Option<Quantiles<u32>>,
    pub words: Option<Quantiles<u32>>,
    pub bytes: Option<Quantiles<u32>>,
    pub tokens: u64,
    pub types: Count,
    pub scripts: BTreeMap<&'static str, u64>,
    /// None if languages were not identified.
    pub languages: Option<Languages>,
    /// None for a tag: its lines are not consecutive.
    pub zstd: Option<Compressed>,
}

/// The identified languages of a side, the most frequent first, then by code.
#[derive(Debug, Serialize)]
pub struct Languages {
    pub too_short: u64,
    pub identified: Vec<Language>,
}

#[derive(Debug, Serialize)]
pub struct Language {
    pub language: &'static str,
    pub count: u64,
    /// Share of the identified texts.
    pub share: f64,
}

#[derive(Debug, Serialize)]
pub struct Ratios {
    pub target_over_source: Option<Quantiles<f64>>,
    pub longer_over_shorter: Option<Quantiles<f64>>,
}

/// Rows that repeat an earlier row of the corpus. None for a part in which they were not counted exactly; a monolingual
/// corpus has only the target.
#[derive(Debug, Default, Serialize)]
pub struct Duplicates {
    pub pair: Option<Count>,
    pub source: Option<Count>,
    pub target: Option<Count>,
}

impl GroupStatistics {
    /// Pairs of text.
    pub fn pairs(&self) -> u64 {
        self.rows - self.malformed - self.columns - self.missing_side - self.too_long - self.invalid_utf8
    }

    pub fn figures(
        &self,
        duplicates: Duplicates,
        zstd: Option<[Compressed; 2]>,
        identified: bool,
        monolingual: bool,
    ) -> Figures {
        let [source, target] = &self.sides;
        let zstd = |side: usize| zstd.map(|sides| sides[side]);
        let ratios = |unit: usize| (!monolingual).then(|| ratios(&self.ratios[unit]));
        Figures {
            rows: self.rows,
            malformed_record: self.malformed,
            columns: self.columns,
            missing_side: self.missing_side,
            line_too_long: self.too_long,
            invalid_utf8: self.invalid_utf8,
            empty: self.empty,
            source: (!monolingual).then(|| source.figures(zstd(0), identified)),
            target: target.figures(zstd(1), identified),
            character_ratio: ratios(0),
            word_ratio: ratios(1),
            duplicates,
        }
    }
}

fn ratios([directed, longer]: &[Histogram; 2]) -> Ratios {
    let quantiles =
        |counted: &Histogram| counted.quantiles(|value| f64::from(value) / RATIO_UNIT, RATIO_UNIT);
    Ratios { target_over_source: quantiles(directed), longer_over_shorter: quantiles(longer) }
}

impl Side {
    fn languages(&self) -> Languages {
        let counts = LANGUAGES.into_iter().zip(self.languages).filter(|(_, count)| *count > 0);
        let all = self.languages.iter().sum::<u64>() as f64;
        let mut identified: Vec<Language> =
            counts.map(|(language, count)| Language { language, count, share: count as f64 / all }).collect();
        identified.sort_unstable_by_key(|language| (Reverse(language.count), language.language));
        Languages { too_short: self.too_short, identified }
    }

    fn figures(&self, zstd: Option<Compressed>, identified: bool) -> SideFigures {
        let quantiles = |counted: &Histogram| counted.quantiles(|value| value, 1.0);
        SideFigures {
            characters: quantiles(&self.characters),
            words: quantiles(&self.words),
            bytes: quantiles(&self.bytes),
            tokens: self.words.sum(),
            types: Count { count: self.types.estimate(), exact: false },
            scripts: self.scripts.clone(),
            languages: identified.then(|| self.languages()),
            zstd,
        }
    }
}
