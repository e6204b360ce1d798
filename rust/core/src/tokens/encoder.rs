//! Encodes text to token ids. For byte-level BPE, a cache returns the ids of known words, with the same result.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use memchr::memchr_iter;
use serde_json::Value;
use tokenizers::Tokenizer;

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
    /// The special ids before and after a sequence, if words can be encoded separately.
    ends: Option<[Vec<u32>; 2]>,
    /// The caches that no thread uses at the moment.
    idle: Mutex<Vec<WordCache>>,
}

impl Encoder {
    /// `json` is the tokenizer.json, which shows whether words can be encoded separately.
    pub fn new(tokenizer: Tokenizer, json: &[u8]) -> Self {
        let ends = serde_json::from_slice(json).ok().and_then(|json: Value| word_ends(&json));
        Self { tokenizer, ends, idle: Mutex::default() }
    }

    /// Calls `work` with a function that appends the ids of a text, with special tokens, to a vector.
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
        let Some([before, after]) = &self.ends else {
            ids.extend_from_slice(self.tokenizer.encode_fast(text, true)?.get_ids());
            return Ok(());
        };
        ids.extend_from_slice(before);
        let mut start = 0;
        for end in cuts(text).chain([text.len()]) {
            let word = &text[start..end];
            start = end;
            if let Some(known) = cache.get(word) {
                ids.extend_from_slice(known);
            } else {
                let encoding = self.tokenizer.encode_fast(word, false)?;
                ids.extend_from_slice(encoding.get_ids());
                cache.insert(word, encoding.get_ids());
            }
        }
        ids.extend_from_slice(after);
        Ok(())
    }
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

/// The special ids before and after a sequence, if the tokenizer is byte-level BPE and no part of it looks beyond a
/// word: no normalizer, no dropout, no added token that contains or strips white space, a template around one sequence.
fn word_ends(json: &Value) -> Option<[Vec<u32>; 2]> {
    let (split, model) = (&json["pre_tokenizer"], &json["model"]);
    let splits =
        split["type"] == "ByteLevel" && split["add_prefix_space"] == false && split["use_regex"] != false;
    let merges = model["type"] == "BPE" && (model["dropout"].is_null() || model["dropout"] == 0.0);
    let is_local = |token: &Value| {
        let content = token["content"].as_str();
        content.is_some_and(|content| !content.contains(char::is_whitespace))
            && ["single_word", "lstrip", "rstrip"].iter().all(|&option| token[option] == false)
    };
    let added = json["added_tokens"].as_array().is_none_or(|tokens| tokens.iter().all(is_local));
    if !(splits && merges && added && json["normalizer"].is_null()) {
        return None;
    }
    template_ends(&json["post_processor"])
}

fn template_ends(template: &Value) -> Option<[Vec<u32>; 2]> {
    let mut ends = [Vec::new(), Vec::new()];
    if template.is_null() || template["type"] == "ByteLevel" {
        return Some(ends);
    }
    let pieces = template["single"].as_array().filter(|_| template["type"] == "TemplateProcessing")?;
    let mut sequences = 0;
    for piece in pieces {
        if piece.get("Sequence").is_some() {
            sequences += 1;
            continue;
        }
        let name = piece["SpecialToken"]["id"].as_str()?;
        for id in template["special_tokens"][name]["ids"].as_array()? {
            ends[sequences.min(1)].push(u32::try_from(id.as_u64()?).ok()?);
        }
    }
    (sequences == 1).then_some(ends)
}
