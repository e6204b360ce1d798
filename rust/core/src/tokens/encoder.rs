//! Token ids of text by the tokenizer. For byte-level BPE the ids of known words come from a cache, with the same result.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use memchr::memchr_iter;
use serde_json::Value;
use tokenizers::Tokenizer;

/// Words that a thread remembers, and how long they may be: about 10 MB when it is full.
const MOST_WORDS: usize = 1 << 17;
const LONGEST_WORD: usize = 64;

/// The ids of words that were met before.
#[derive(Default)]
struct Memory {
    places: HashMap<Box<str>, (u32, u32)>,
    ids: Vec<u32>,
}

impl Memory {
    fn get(&self, word: &str) -> Option<&[u32]> {
        let &(start, end) = self.places.get(word)?;
        self.ids.get(start as usize..end as usize)
    }

    fn keep(&mut self, word: &str, ids: &[u32]) {
        if word.len() <= LONGEST_WORD && self.places.len() < MOST_WORDS {
            let start = self.ids.len();
            self.ids.extend_from_slice(ids);
            self.places.insert(word.into(), (start as u32, self.ids.len() as u32));
        }
    }
}

pub struct Encoder {
    tokenizer: Tokenizer,
    /// The ids that begin and end a sequence, where words can be tokenised by themselves.
    ends: Option<[Vec<u32>; 2]>,
    idle: Mutex<Vec<Memory>>,
}

impl Encoder {
    /// `json` is the text of the tokenizer: its parts tell whether words can be tokenised by themselves.
    pub fn new(tokenizer: Tokenizer, json: &[u8]) -> Self {
        let ends = serde_json::from_slice(json).ok().and_then(|json: Value| word_ends(&json));
        Self { tokenizer, ends, idle: Mutex::default() }
    }

    /// Gives `work` a function that appends the ids of a text, special tokens included, to a vector.
    pub fn with<T>(
        &self,
        work: impl FnOnce(&mut dyn FnMut(&str, &mut Vec<u32>) -> tokenizers::Result<()>) -> T,
    ) -> T {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = idle().pop().unwrap_or_default();
        let result = work(&mut |text, ids| self.encode(text, ids, &mut memory));
        idle().push(memory);
        result
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>, memory: &mut Memory) -> tokenizers::Result<()> {
        let Some([before, after]) = &self.ends else {
            ids.extend_from_slice(self.tokenizer.encode_fast(text, true)?.get_ids());
            return Ok(());
        };
        ids.extend_from_slice(before);
        let mut start = 0;
        for end in cuts(text).chain([text.len()]) {
            let word = &text[start..end];
            start = end;
            if let Some(known) = memory.get(word) {
                ids.extend_from_slice(known);
            } else {
                let encoding = self.tokenizer.encode_fast(word, false)?;
                ids.extend_from_slice(encoding.get_ids());
                memory.keep(word, encoding.get_ids());
            }
        }
        ids.extend_from_slice(after);
        Ok(())
    }
}

/// Where a text may be cut, its parts tokenised alone: before a space between two characters that are no white space.
/// There GPT-2's expression, which splits for byte-level BPE, ends a match in any case: only its matches of white space
/// reach beyond a leading space, and those do not begin or end at such a place.
fn cuts(text: &str) -> impl Iterator<Item = usize> + '_ {
    let solid = |character: char| {
        character.is_ascii_graphic() || (!character.is_ascii() && character.is_alphabetic())
    };
    memchr_iter(b' ', text.as_bytes()).filter(move |&space| {
        text[..space].chars().next_back().is_some_and(solid)
            && text[space + 1..].chars().next().is_some_and(solid)
    })
}

/// The ids before and after a sequence, if this is byte-level BPE whose other parts do not look beyond a word: no
/// normaliser, no dropout, no added token that holds or swallows white space, a template around one sequence.
fn word_ends(json: &Value) -> Option<[Vec<u32>; 2]> {
    let (split, model) = (&json["pre_tokenizer"], &json["model"]);
    let splits =
        split["type"] == "ByteLevel" && split["add_prefix_space"] == false && split["use_regex"] != false;
    let merges = model["type"] == "BPE" && (model["dropout"].is_null() || model["dropout"] == 0.0);
    let local = |token: &Value| {
        let content = token["content"].as_str();
        content.is_some_and(|content| !content.contains(char::is_whitespace))
            && ["single_word", "lstrip", "rstrip"].iter().all(|&option| token[option] == false)
    };
    let added = json["added_tokens"].as_array().is_none_or(|tokens| tokens.iter().all(local));
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
