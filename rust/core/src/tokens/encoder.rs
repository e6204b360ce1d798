//! Encodes text to token ids. Special tokens in the text are encoded as text: text never gets their ids. For
//! byte-level BPE, a cache returns the ids of known words, with the same result.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use memchr::memchr_iter;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::error::{Error, Result};

/// The most words in the cache of a thread, and the most bytes of a word: a full cache takes about 10 MB.
const CACHE_WORDS: usize = 1 << 17;
const CACHE_WORD_BYTES: usize = 64;

/// The ids of words that were encoded before.
#[derive(Default)]
struct WordCache {
    /// The range of each word in `ids`.
    ranges: HashMap<Box<str>, (u32, u32)>,
    ids: Vec<u32>,
}

impl WordCache {
    fn get(&self, word: &str) -> Option<&[u32]> {
        let &(start, end) = self.ranges.get(word)?;
        self.ids.get(start as usize..end as usize)
    }

    fn insert(&mut self, word: &str, ids: &[u32]) {
        if word.len() <= CACHE_WORD_BYTES && self.ranges.len() < CACHE_WORDS {
            let start = self.ids.len();
            self.ids.extend_from_slice(ids);
            self.ranges.insert(word.into(), (start as u32, self.ids.len() as u32));
        }
    }
}

pub struct Encoder {
    tokenizer: Tokenizer,
    /// The special ids before and after a sequence.
    ends: [Vec<u32>; 2],
    /// Ids of special tokens, which text must not get; the id of unknown text is not among them.
    special: Vec<u32>,
    /// Whether words can be encoded separately.
    has_words: bool,
    /// The caches that no thread uses at the moment.
    idle: Mutex<Vec<WordCache>>,
}

impl Encoder {
    /// Reads a tokenizer.json and disables truncation and padding: a pair is scored as a whole or not at all.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error: tokenizers::Error| {
            Error::input(format!(
                "{} is not a valid tokenizer.json ({error}): give another file",
                path.display()
            ))
        };
        let bytes = fs::read(path).map_err(Error::io(path))?;
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(failed)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(failed)?;
        tokenizer.set_encode_special_tokens(true);
        let json: Value = serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?;
        let ends = sequence_ends(&tokenizer).map_err(failed)?;
        Ok(Self {
            special: special_ids(&json, &ends),
            ends,
            has_words: can_encode_words(&json),
            tokenizer,
            idle: Mutex::default(),
        })
    }

    /// The number of ids: the highest decides, since ids may have gaps.
    pub fn vocabulary_size(&self) -> usize {
        self.tokenizer.get_vocab(true).into_values().max().map_or(0, |highest| highest as usize + 1)
    }

    /// Returns the ids of each text, with the special tokens at its ends.
    pub fn encode_all(&self, texts: &[String]) -> Result<Vec<Vec<u32>>> {
        let failed = |error| Error::input(format!("a text cannot be tokenized: {error}"));
        self.with(|encode| {
            let encode_one = |text: &String| {
                let mut ids = Vec::new();
                encode(text, &mut ids).map(|()| ids).map_err(failed)
            };
            texts.iter().map(encode_one).collect()
        })
    }

    /// Calls `work` with a function that appends the ids of a text, with special tokens at its ends, to a vector.
    pub fn with<T>(
        &self,
        work: impl FnOnce(&mut dyn FnMut(&str, &mut Vec<u32>) -> tokenizers::Result<()>) -> T,
    ) -> T {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cache = idle().pop().unwrap_or_default();
        let result = work(&mut |text, ids| self.encode(text, ids, &mut cache));
        idle().push(cache);
        result
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>, cache: &mut WordCache) -> tokenizers::Result<()> {
        let [before, after] = &self.ends;
        ids.extend_from_slice(before);
        if self.has_words {
            let mut start = 0;
            for end in cuts(text).chain([text.len()]) {
                let word = &text[start..end];
                start = end;
                if let Some(known) = cache.get(word) {
                    ids.extend_from_slice(known);
                } else {
                    let first = ids.len();
                    self.encode_text(word, ids)?;
                    cache.insert(word, &ids[first..]);
                }
            }
        } else {
            self.encode_text(text, ids)?;
        }
        ids.extend_from_slice(after);
        Ok(())
    }

    /// Appends the ids of text without special tokens.
    fn encode_text(&self, text: &str, ids: &mut Vec<u32>) -> tokenizers::Result<()> {
        let encoding = self.tokenizer.encode_fast(text, false)?;
        if !encoding.get_ids().iter().any(|id| self.special.contains(id)) {
            ids.extend_from_slice(encoding.get_ids());
            return Ok(());
        }
        // The model itself has a token of the same spelling: cut the text inside it, and encode both parts.
        let encoding = self.tokenizer.encode(text, false)?;
        let place = encoding.get_ids().iter().position(|id| self.special.contains(id));
        let (start, end) = place.map_or((0, text.len()), |place| encoding.get_offsets()[place]);
        let inside = |&cut: &usize| cut > 0 && cut < text.len() && text.is_char_boundary(cut);
        let Some(cut) = (start + 1..end).find(inside) else {
            let token = place.and_then(|place| encoding.get_tokens().get(place));
            let token = token.map_or("", String::as_str);
            return Err(format!("{text:?} has a character that is the special token {token}: drop it").into());
        };
        self.encode_text(&text[..cut], ids)?;
        self.encode_text(&text[cut..], ids)
    }
}

/// The ids of special tokens, without the token of unknown text, unless it also ends sequences.
fn special_ids(json: &Value, ends: &[Vec<u32>; 2]) -> Vec<u32> {
    let model = &json["model"];
    let is_unknown = |token: &Value| {
        token["content"] == model["unk_token"] || (model["unk_id"].is_u64() && token["id"] == model["unk_id"])
    };
    let ids = |token: &Value| token["id"].as_u64().and_then(|id| u32::try_from(id).ok());
    let added = json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice).iter();
    let special = added.filter(|token| token["special"] == true);
    special
        .filter_map(|token| ids(token).map(|id| (token, id)))
        .filter(|(token, id)| !is_unknown(token) || ends.iter().any(|ids| ids.contains(id)))
        .map(|(_, id)| id)
        .collect()
}

/// The special ids that a tokenizer puts before and after a sequence.
fn sequence_ends(tokenizer: &Tokenizer) -> tokenizers::Result<[Vec<u32>; 2]> {
    for text in ["a", "0", "я", "ا", "क", "中"] {
        let (plain, whole) = (tokenizer.encode_fast(text, false)?, tokenizer.encode_fast(text, true)?);
        let (plain, whole) = (plain.get_ids(), whole.get_ids());
        let before = (0..whole.len()).find(|&start| whole[start..].starts_with(plain));
        if let Some(before) = before.filter(|_| !plain.is_empty()) {
            return Ok([whole[..before].to_vec(), whole[before + plain.len()..].to_vec()]);
        }
    }
    Err("it gives no ids to text".into())
}

/// The positions where a text can be cut so that its parts are encoded separately: before a space between two visible
/// characters. The GPT-2 pattern of byte-level BPE always ends a match there: only its matches of white space go beyond
/// a leading space, and they neither begin nor end at such a position.
fn cuts(text: &str) -> impl Iterator<Item = usize> + '_ {
    let visible = |character: char| {
        character.is_ascii_graphic() || (!character.is_ascii() && character.is_alphabetic())
    };
    memchr_iter(b' ', text.as_bytes()).filter(move |&space| {
        text[..space].chars().next_back().is_some_and(visible)
            && text[space + 1..].chars().next().is_some_and(visible)
    })
}

/// Whether words can be encoded separately: the tokenizer is byte-level BPE, and no part of it looks beyond a word: no
/// normalizer, no dropout, no added token that contains or strips white space, at most a template around one sequence.
fn can_encode_words(json: &Value) -> bool {
    let (split, model, after) = (&json["pre_tokenizer"], &json["model"], &json["post_processor"]);
    let splits = split["type"] == "ByteLevel" && split["use_regex"] != false;
    let merges = model["type"] == "BPE" && (model["dropout"].is_null() || model["dropout"] == 0.0);
    let is_local = |token: &Value| {
        let content = token["content"].as_str();
        content.is_some_and(|content| !content.contains(char::is_whitespace))
            && ["single_word", "lstrip", "rstrip"].iter().all(|&option| token[option] == false)
    };
    let added = json["added_tokens"].as_array().is_none_or(|tokens| tokens.iter().all(is_local));
    let frames = after.is_null() || after["type"] == "ByteLevel" || after["type"] == "TemplateProcessing";
    splits && merges && added && frames && json["normalizer"].is_null()
}
