//! Token blocks: safetensors files for 65,536 rows of the input each, and the unigram counts of a corpus.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use crate::corpus::chunk::Chunk;
use crate::io::atomic_files::Draft;
use crate::io::digests::digest_bytes;
use crate::tokens::request::{BlockShard, TokenizeRequest, Tokenized};
use crate::{Error, Result};

/// Input rows per block, kept or not. Blocks restart at every input, so that an appended corpus has the same blocks as
/// one that was tokenized at once.
pub const BLOCK_ROWS: u64 = 65_536;

/// Token ids of consecutive pairs.
#[derive(Default)]
pub struct Encoded {
    pub rows: Vec<i64>,
    pub too_long: Vec<i64>,
    pub sides: [Sequences; 2],
}

#[derive(Default)]
pub struct Sequences {
    pub ids: Vec<u32>,
    pub lengths: Vec<usize>,
}

/// The first row of the block that a chunk belongs to.
pub fn block_first(chunk: &Chunk) -> u64 {
    chunk.input_first + (chunk.first - chunk.input_first) / BLOCK_ROWS * BLOCK_ROWS
}

/// The open block, the published blocks, and the unigram counts.
pub struct Blocks<'a> {
    request: &'a TokenizeRequest,
    /// Whether ids take 4 bytes instead of 2.
    wide: bool,
    /// Token counts by id, of the sources and the targets.
    unigrams: [Vec<u64>; 2],
    /// The blocks of an interrupted run, by first row.
    pub done: BTreeMap<u64, PathBuf>,
    first: u64,
    end: u64,
    open_block: Encoded,
    shards: Vec<BlockShard>,
}

impl<'a> Blocks<'a> {
    pub fn open(request: &'a TokenizeRequest, vocabulary_size: usize) -> Result<Self> {
        Ok(Self {
            request,
            wide: vocabulary_size > usize::from(u16::MAX),
            unigrams: [vec![0; vocabulary_size], vec![0; vocabulary_size]],
            done: finished_blocks(request)?,
            first: request.corpus.first_row,
            end: request.corpus.first_row,
            open_block: Encoded::default(),
            shards: Vec::new(),
        })
    }

    /// Adds the pairs of a chunk of `block` (its first row), which ends before row `end`; publishes the block before.
    pub fn add(&mut self, block: u64, end: u64, encoded: Encoded) -> Result<()> {
        if block != self.first {
            self.publish_block()?;
            self.first = block;
        }
        self.end = end;
        self.open_block.rows.extend(encoded.rows);
        self.open_block.too_long.extend(encoded.too_long);
        for (sequences, added) in self.open_block.sides.iter_mut().zip(encoded.sides) {
            sequences.ids.extend(added.ids);
            sequences.lengths.extend(added.lengths);
        }
        Ok(())
    }

    /// Writes the open block, unless an interrupted run wrote it, and counts its tokens.
    pub fn publish_block(&mut self) -> Result<()> {
        let block = std::mem::take(&mut self.open_block);
        let file = format!("part-{:012}-{:012}.safetensors", self.first, self.end);
        let path = self.request.out.join(&file);
        let bytes = if self.done.contains_key(&self.first) {
            fs::read(&path).map_err(Error::io(&path))?
        } else {
            let bytes = to_bytes(&block, self.wide, &self.request.plan)?;
            let mut draft = Draft::create(&path)?;
            draft.write_all(&bytes).map_err(Error::io(&path))?;
            note(&self.request.out, &file, &draft.publish()?)?;
            bytes
        };
        let mut shard = self.count(&path, &bytes)?;
        (shard.file, shard.first, shard.end) = (file, self.first, self.end);
        self.shards.push(shard);
        Ok(())
    }

    /// Counts from the published bytes, so that a resumed run has the counts of an uninterrupted one.
    fn count(&mut self, path: &Path, bytes: &[u8]) -> Result<BlockShard> {
        let damaged = |error| {
            Error::input(format!("{} is damaged ({error}): remove the file and run again", path.display()))
        };
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

    /// Removes the blocks: their text is not the text that was cleaned.
    pub fn discard(&self) -> Result<()> {
        for shard in &self.shards {
            let path = self.request.out.join(&shard.file);
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
        Ok(())
    }

    /// Writes the unigram counts, unless they are frozen.
    pub fn finish(self) -> Result<Tokenized> {
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

/// The file in a step's folder with the digests of finished blocks, a line each.
const NOTED: &str = "log/shards";

/// Notes the digest of a finished block.
fn note(out: &Path, file: &str, digest: &str) -> Result<()> {
    let path = out.join(NOTED);
    let append = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let mut noted = fs::OpenOptions::new().append(true).create(true).open(&path)?;
        noted.write_all(format!("{digest} {file}\n").as_bytes())
    };
    append().map_err(Error::io(&path))
}

/// The digests that were noted, by file; the last of a file counts.
fn noted(out: &Path) -> BTreeMap<String, String> {
    let text = fs::read(out.join(NOTED)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(digest, file)| (file.to_owned(), digest.to_owned())).collect()
}

/// The blocks that an interrupted run with the same plan wrote, by first row; blocks with other bytes are written again.
fn finished_blocks(request: &TokenizeRequest) -> Result<BTreeMap<u64, PathBuf>> {
    let (mut done, noted) = (BTreeMap::new(), noted(&request.out));
    for entry in fs::read_dir(&request.out).map_err(Error::io(&request.out))? {
        let path = entry.map_err(Error::io(&request.out))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(range) = name.strip_prefix("part-").and_then(|name| name.strip_suffix(".safetensors"))
        else {
            continue;
        };
        let first = range.split_once('-').and_then(|(first, _)| first.parse::<u64>().ok());
        if first.is_some_and(|first| first < request.corpus.first_row) {
            continue; // a block of the rows before the appended ones
        }
        let bytes = fs::read(&path).map_err(Error::io(&path))?;
        if noted.get(name) != Some(&digest_bytes(&bytes)) {
            continue;
        }
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

/// The metadata has one key only: the safetensors library writes several keys in no fixed order.
fn serialize_tensors(path: &Path, tensors: &[Tensor], plan: &str) -> Result<Vec<u8>> {
    let failed =
        |error| Error::input(format!("{} cannot be written as safetensors ({error})", path.display()));
    let mut views = Vec::with_capacity(tensors.len());
    for (name, dtype, shape, bytes) in tensors {
        views.push((*name, TensorView::new(*dtype, shape.clone(), bytes).map_err(failed)?));
    }
    serialize(views, Some(HashMap::from([("plan".to_owned(), plan.to_owned())]))).map_err(failed)
}

fn to_little_endian<T, const N: usize>(values: &[T], bytes: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(bytes).collect()
}
