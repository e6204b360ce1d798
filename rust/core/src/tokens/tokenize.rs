//! Tokenising: the kept pairs as token ids, in blocks of 65,536 raw rows; and the text sample that a tokenizer
//! is trained on.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::corpus::chunk::Chunk;
use crate::corpus::files_read::FileRead;
use crate::corpus::pipeline::stream;
use crate::corpus::record::Record;
use crate::corpus::request::Corpus;
use crate::corpus::row_filter::WantedRows;
use crate::io::atomic_files::Draft;
use crate::io::digests::digest_bytes;
use crate::tokens::encoder::Encoder;
use crate::{Error, Progress, Result};

/// Raw rows of a block; blocks restart at every input, so that an appended corpus has the blocks of a fresh one.
pub const BLOCK_ROWS: u64 = 65_536;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizeRequest {
    pub corpus: Corpus,
    /// What cleaning read, to notice a changed file.
    pub files: Vec<FileRead>,
    pub kept: WantedRows,
    pub tokenizer: PathBuf,
    /// A pair with more tokens on a side, end-of-sentence included, carries none.
    pub max_tokens: usize,
    /// Whether the unigram counts stay as they are: of a corpus that rows are joined to.
    pub frozen: bool,
    pub out: PathBuf,
    pub plan: String,
    pub threads: usize,
}

/// A published block, as the manifest lists it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BlockShard {
    pub file: String,
    pub first: u64,
    pub end: u64,
    pub digest: String,
    pub pairs: u64,
    pub too_long: u64,
    pub source_tokens: u64,
    pub target_tokens: u64,
}

#[derive(Debug, Default, Serialize)]
pub struct Tokenized {
    pub shards: Vec<BlockShard>,
    /// Digest of `unigrams.safetensors`; empty if that stays as it is.
    pub unigrams: String,
}

/// Token ids of consecutive pairs.
#[derive(Default)]
struct Encoded {
    rows: Vec<i64>,
    too_long: Vec<i64>,
    sides: [Sequences; 2],
}

#[derive(Default)]
struct Sequences {
    ids: Vec<u32>,
    lengths: Vec<usize>,
}

pub fn tokenize(request: &TokenizeRequest, progress: &Progress) -> Result<Tokenized> {
    let (tokenizer, json) = load_tokenizer(&request.tokenizer)?;
    // Encoder may have gaps, so the count of types is not enough.
    let types = tokenizer.get_vocab(true).into_values().max().map_or(0, |highest| highest as usize + 1);
    let ids = Encoder::new(tokenizer, &json);
    let mut blocks = Blocks::open(request, types)?;
    let done: Vec<u64> = blocks.done.keys().copied().collect();
    let read = stream(
        &request.corpus,
        &request.kept,
        request.threads,
        progress,
        |chunk| {
            let block = block_first(&chunk);
            let encoded = if done.binary_search(&block).is_ok() {
                Encoded::default()
            } else {
                encode(&ids, request.max_tokens, &chunk)?
            };
            Ok((block, chunk.end(), chunk.len(), encoded))
        },
        |(block, end, rows, encoded)| {
            progress.add(0, rows as u64);
            blocks.add(block, end, encoded)?;
            Ok(true)
        },
    );
    let outcome = read.and_then(|read| {
        blocks.publish_block()?;
        read.compare(&request.files)
    });
    match outcome {
        Ok(()) => blocks.finish(),
        // The text is not the text that was cleaned: blocks made of it must not be taken up by a later run.
        Err(error @ Error::Input(_)) => {
            blocks.discard()?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

fn block_first(chunk: &Chunk) -> u64 {
    chunk.input_first + (chunk.first - chunk.input_first) / BLOCK_ROWS * BLOCK_ROWS
}

/// Reads a tokenizer.json and switches its truncation and padding off: a pair is scored whole or not at all.
fn load_tokenizer(path: &Path) -> Result<(Tokenizer, Vec<u8>)> {
    let failed = |error: tokenizers::Error| {
        Error::input(format!("{} is not a tokenizer.json that can be read: {error}", path.display()))
    };
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(failed)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(failed)?;
    Ok((tokenizer, bytes))
}

fn encode(tokenizer: &Encoder, max_tokens: usize, chunk: &Chunk) -> Result<Encoded> {
    let mut encoded = Encoded::default();
    let mut sides = [Vec::new(), Vec::new()];
    tokenizer.with(|encode| {
        for index in chunk.wanted() {
            let row = chunk.first as i64 + index as i64;
            let Record::Pair { source, target } = chunk.record(index) else { return Err(not_text(row)) };
            for (side, ids) in [source, target].into_iter().zip(&mut sides) {
                let text = std::str::from_utf8(side).map_err(|_| not_text(row))?;
                ids.clear();
                encode(text, ids)
                    .map_err(|error| Error::input(format!("row {row} cannot be tokenised: {error}")))?;
            }
            if sides.iter().any(|ids| ids.len() > max_tokens) {
                encoded.too_long.push(row);
                continue;
            }
            encoded.rows.push(row);
            for (ids, sequences) in sides.iter().zip(&mut encoded.sides) {
                sequences.ids.extend_from_slice(ids);
                sequences.lengths.push(ids.len());
            }
        }
        Ok(encoded)
    })
}

fn not_text(row: i64) -> Error {
    Error::input(format!(
        "row {row} is kept but is no pair of UTF-8 text: an input changed since it was cleaned"
    ))
}

/// The block being filled, those published, and the unigram counts.
struct Blocks<'a> {
    request: &'a TokenizeRequest,
    wide: bool,
    unigrams: [Vec<u64>; 2],
    /// Blocks of an interrupted run by first row.
    done: BTreeMap<u64, PathBuf>,
    first: u64,
    end: u64,
    filling: Encoded,
    shards: Vec<BlockShard>,
}

impl<'a> Blocks<'a> {
    fn open(request: &'a TokenizeRequest, types: usize) -> Result<Self> {
        Ok(Self {
            request,
            wide: types > usize::from(u16::MAX),
            unigrams: [vec![0; types], vec![0; types]],
            done: finished_blocks(request)?,
            first: request.corpus.first_row,
            end: request.corpus.first_row,
            filling: Encoded::default(),
            shards: Vec::new(),
        })
    }

    fn add(&mut self, block: u64, end: u64, encoded: Encoded) -> Result<()> {
        if block != self.first {
            self.publish_block()?;
            self.first = block;
        }
        self.end = end;
        self.filling.rows.extend(encoded.rows);
        self.filling.too_long.extend(encoded.too_long);
        for (sequences, more) in self.filling.sides.iter_mut().zip(encoded.sides) {
            sequences.ids.extend(more.ids);
            sequences.lengths.extend(more.lengths);
        }
        Ok(())
    }

    fn publish_block(&mut self) -> Result<()> {
        let block = std::mem::take(&mut self.filling);
        let file = format!("part-{:012}-{:012}.safetensors", self.first, self.end);
        let path = self.request.out.join(&file);
        let bytes = if self.done.contains_key(&self.first) {
            fs::read(&path).map_err(Error::io(&path))?
        } else {
            let bytes = to_bytes(&block, self.wide, &self.request.plan)?;
            let mut draft = Draft::create(&path)?;
            draft.write_all(&bytes).map_err(Error::io(&path))?;
            draft.publish()?;
            bytes
        };
        let mut shard = self.count(&path, &bytes)?;
        (shard.file, shard.first, shard.end) = (file, self.first, self.end);
        self.shards.push(shard);
        Ok(())
    }

    /// Counts from the published bytes, so that a resumed run counts as an undisturbed one does.
    fn count(&mut self, path: &Path, bytes: &[u8]) -> Result<BlockShard> {
        let damaged = |error| Error::input(format!("{} is damaged ({error}): remove it", path.display()));
        let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let length = |name: &str| Ok(tensors.tensor(name).map_err(damaged)?.shape()[0] as u64);
        for (name, counts) in ["source_ids", "target_ids"].into_iter().zip(&mut self.unigrams) {
            let ids = tensors.tensor(name).map_err(damaged)?;
            let width = if self.wide { 4 } else { 2 };
            for id in ids.data().chunks_exact(width) {
                let id = id.iter().rev().fold(0_usize, |id, &byte| id << 8 | usize::from(byte));
                if let Some(count) = counts.get_mut(id) {
                    *count += 1;
                }
            }
        }
        Ok(BlockShard {
            digest: digest_bytes(bytes),
            pairs: length("rows")?,
            too_long: length("too_long")?,
            source_tokens: length("source_ids")?,
            target_tokens: length("target_ids")?,
            ..BlockShard::default()
        })
    }

    /// Removes the blocks: they were made from text that is not the text that was cleaned.
    fn discard(&self) -> Result<()> {
        for shard in &self.shards {
            let path = self.request.out.join(&shard.file);
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Tokenized> {
        if self.request.frozen {
            return Ok(Tokenized { shards: self.shards, unigrams: String::new() });
        }
        let path = self.request.out.join("unigrams.safetensors");
        let [source, target] =
            self.unigrams.map(|counts| to_little_endian(&counts, |count| count.to_le_bytes()));
        let shape = |bytes: &[u8]| vec![bytes.len() / 8];
        let bytes = serialize_tensors(
            &path,
            &[("source", Dtype::U64, shape(&source), source), ("target", Dtype::U64, shape(&target), target)],
            &self.request.plan,
        )?;
        let mut draft = Draft::create(&path)?;
        draft.write_all(&bytes).map_err(Error::io(&path))?;
        Ok(Tokenized { shards: self.shards, unigrams: draft.publish()? })
    }
}

/// The blocks that an interrupted run of the same plan left behind.
fn finished_blocks(request: &TokenizeRequest) -> Result<BTreeMap<u64, PathBuf>> {
    let mut done = BTreeMap::new();
    for entry in fs::read_dir(&request.out).map_err(Error::io(&request.out))? {
        let path = entry.map_err(Error::io(&request.out))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(range) = name.strip_prefix("part-").and_then(|name| name.strip_suffix(".safetensors"))
        else {
            continue;
        };
        let first = range.split_once('-').and_then(|(first, _)| first.parse::<u64>().ok());
        if first.is_some_and(|first| first < request.corpus.first_row) {
            continue; // of the rows before those that are joined
        }
        let bytes = fs::read(&path).map_err(Error::io(&path))?;
        let plan = SafeTensors::read_metadata(&bytes)
            .ok()
            .and_then(|(_, metadata)| metadata.metadata().clone())
            .and_then(|metadata| metadata.get("plan").cloned());
        if plan.as_ref() == Some(&request.plan)
            && let Some(first) = first
        {
            done.insert(first, path);
        }
    }
    Ok(done)
}

fn to_bytes(block: &Encoded, wide: bool, plan: &str) -> Result<Vec<u8>> {
    let rows = |rows: &[i64]| (Dtype::I64, vec![rows.len()], to_little_endian(rows, |row| row.to_le_bytes()));
    let mut tensors = vec![("rows", rows(&block.rows)), ("too_long", rows(&block.too_long))];
    let names = [("source_ids", "source_offsets"), ("target_ids", "target_offsets")];
    for ((ids_name, offsets_name), side) in names.into_iter().zip(&block.sides) {
        let mut offsets = vec![0_i64];
        offsets.extend(side.lengths.iter().scan(0_i64, |end, &length| {
            *end += length as i64;
            Some(*end)
        }));
        let (dtype, ids) = if wide {
            (Dtype::U32, to_little_endian(&side.ids, |id| id.to_le_bytes()))
        } else {
            (Dtype::U16, to_little_endian(&side.ids, |id| (*id as u16).to_le_bytes()))
        };
        tensors.push((ids_name, (dtype, vec![side.ids.len()], ids)));
        tensors.push((offsets_name, rows(&offsets)));
    }
    let flat = tensors.into_iter().map(|(name, (dtype, shape, bytes))| (name, dtype, shape, bytes));
    serialize_tensors(Path::new("a token block"), &flat.collect::<Vec<_>>(), plan)
}

type Tensor = (&'static str, Dtype, Vec<usize>, Vec<u8>);

/// The metadata holds one key only: the format's library writes several in no fixed order.
fn serialize_tensors(path: &Path, tensors: &[Tensor], plan: &str) -> Result<Vec<u8>> {
    let failed = |error| Error::input(format!("{}: {error}", path.display()));
    let mut views = Vec::with_capacity(tensors.len());
    for (name, dtype, shape, bytes) in tensors {
        views.push((*name, TensorView::new(*dtype, shape.clone(), bytes).map_err(failed)?));
    }
    serialize(views, Some(HashMap::from([("plan".to_owned(), plan.to_owned())]))).map_err(failed)
}

fn to_little_endian<T, const N: usize>(values: &[T], bytes: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(bytes).collect()
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleRequest {
    pub corpus: Corpus,
    pub kept: WantedRows,
    /// A row is taken if its hash falls into this share of all hashes; 1 takes every row.
    pub fraction: f64,
    pub seed: u64,
    /// Plain text, each side on a line of its own; of a monolingual corpus there is one.
    pub out: PathBuf,
    pub threads: usize,
}

/// Not the hash of `random`: a random selection must not avoid or prefer the tokenizer's sample.
fn sample_hash(row: u64, seed: u64) -> u64 {
    let mut salted = *b"........sample";
    salted[..8].copy_from_slice(&row.to_le_bytes());
    xxh3_64_with_seed(&salted, seed)
}

/// Writes a seeded sample of the kept pairs and returns their number. Whether a row is taken depends on the
/// seed and the row alone.
pub fn sample(request: &SampleRequest, progress: &Progress) -> Result<u64> {
    let mut draft = Draft::create(&request.out)?;
    let mut pairs = 0;
    // 2^64 * fraction, saturating at the largest hash.
    let highest = (request.fraction * 18_446_744_073_709_551_616.0) as u64;
    stream(
        &request.corpus,
        &request.kept,
        request.threads,
        progress,
        |chunk| {
            let mut text = Vec::new();
            let mut taken = 0_u64;
            for index in chunk.wanted() {
                let row = chunk.first + index as u64;
                if sample_hash(row, request.seed) <= highest
                    && let Record::Pair { source, target } = chunk.record(index)
                {
                    taken += 1;
                    for side in &[source, target][usize::from(chunk.monolingual)..] {
                        text.extend_from_slice(side);
                        text.push(b'\n');
                    }
                }
            }
            Ok((taken, chunk.len(), text))
        },
        |(taken, rows, text)| {
            progress.add(0, rows as u64);
            pairs += taken;
            draft.write_all(&text).map_err(Error::io(&request.out))?;
            Ok(true)
        },
    )?;
    draft.publish()?;
    Ok(pairs)
}
