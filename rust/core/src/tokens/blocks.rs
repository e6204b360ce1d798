//! Token blocks: safetensors files for 65,536 rows of the input each, and the unigram counts of a corpus.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use crate::io::atomic_files::Draft;
use crate::io::digests::digest_bytes;
use crate::tokens::request::{BlockShard, TokenizeRequest, Tokenized};
use crate::{Error, Result};

/// Input rows per block, kept or not. A block is a range of rows of the whole corpus that begins at a multiple of this, so
/// that an appended corpus has the same blocks as one that was tokenized at once.
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

/// The first row of the block that a row belongs to.
pub fn block_first(row: u64) -> u64 {
    row / BLOCK_ROWS * BLOCK_ROWS
}

/// The rows of a chunk, block by block.
pub fn by_block(rows: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut first = rows.start;
    std::iter::from_fn(move || {
        let part = first..rows.end.min(block_first(first) + BLOCK_ROWS);
        first = part.end;
        (!part.is_empty()).then_some(part)
    })
}

/// The open block, the published blocks, and the unigram counts.
pub struct Blocks<'a> {
    request: &'a TokenizeRequest,
    /// Whether ids take 4 bytes instead of 2.
    wide: bool,
    /// Token counts by id, of the sources and the targets.
    unigrams: [Vec<u64>; 2],
    /// The blocks of an interrupted run, by first row.
    pub done: BTreeMap<u64, BlockShard>,
    first: u64,
    end: u64,
    open_block: Encoded,
    shards: Vec<BlockShard>,
}

impl<'a> Blocks<'a> {
    pub fn open(request: &'a TokenizeRequest, vocabulary_size: usize) -> Result<Self> {
        let first_row = request.corpus.first_row;
        let wide = vocabulary_size > usize::from(u16::MAX);
        let open_block = match &request.continued {
            Some(path) => read_block(path, wide)?,
            None => Encoded::default(),
        };
        let mut blocks = Self {
            request,
            wide,
            unigrams: [vec![0; vocabulary_size], vec![0; vocabulary_size]],
            done: BTreeMap::new(),
            first: block_first(first_row),
            end: first_row,
            open_block,
            shards: Vec::new(),
        };
        blocks.count_finished()?;
        Ok(blocks)
    }

    /// Adds the pairs of `rows`, which are of one block; publishes the block before.
    pub fn add(&mut self, rows: &Range<u64>, encoded: Encoded) -> Result<()> {
        let block = block_first(rows.start);
        if block != self.first {
            self.publish_block()?;
            self.first = block;
        }
        self.end = rows.end;
        self.open_block.rows.extend(encoded.rows);
        self.open_block.too_long.extend(encoded.too_long);
        for (sequences, added) in self.open_block.sides.iter_mut().zip(encoded.sides) {
            sequences.ids.extend(added.ids);
            sequences.lengths.extend(added.lengths);
        }
        Ok(())
    }

    /// Writes the open block, unless an interrupted run wrote it.
    pub fn publish_block(&mut self) -> Result<()> {
        let block = std::mem::take(&mut self.open_block);
        let file = format!("part-{:012}-{:012}.safetensors", self.first, self.end);
        let mut shard = match self.done.remove(&self.first) {
            Some(shard) if shard.file == file => shard,
            Some(shard) => {
                return Err(Error::input(format!(
                    "{} is of other rows than the corpus has now: tokenize again with force = true",
                    self.request.out.join(shard.file).display()
                )));
            }
            None => {
                let path = self.request.out.join(&file);
                let bytes = to_bytes(&block, self.wide, &self.request.plan)?;
                let mut draft = Draft::create(&path)?;
                draft.write_all(&bytes).map_err(Error::io(&path))?;
                note(&self.request.out, &file, &draft.publish()?)?;
                self.count(&path, &bytes)?
            }
        };
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

    /// Finds the blocks that an interrupted run with the same plan wrote, and counts their tokens; blocks with other
    /// bytes are written again.
    fn count_finished(&mut self) -> Result<()> {
        let out = &self.request.out;
        for (file, digest) in noted(out) {
            let path = out.join(&file);
            let range = file.strip_prefix("part-").and_then(|name| name.split_once('-'));
            let Some(first) = range.and_then(|(first, _)| first.parse::<u64>().ok()) else { continue };
            if first < block_first(self.request.corpus.first_row) || !path.is_file() {
                continue; // a block of the rows before the appended ones, or one that was replaced
            }
            let bytes = fs::read(&path).map_err(Error::io(&path))?;
            if digest_bytes(&bytes) == digest && plan_of(&bytes).as_ref() == Some(&self.request.plan) {
                let shard = self.count(&path, &bytes)?;
                self.done.insert(first, BlockShard { file, ..shard });
            }
        }
        Ok(())
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

/// The plan in the metadata of a block.
fn plan_of(bytes: &[u8]) -> Option<String> {
    SafeTensors::read_metadata(bytes).ok()?.1.metadata().as_ref()?.get("plan").cloned()
}

/// Reads a published block.
fn read_block(path: &Path, wide: bool) -> Result<Encoded> {
    let damaged = |error| {
        Error::input(format!("{} is damaged ({error}): tokenize again with force = true", path.display()))
    };
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let numbers = |name: &str| -> Result<Vec<i64>> {
        let data = tensors.tensor(name).map_err(damaged)?.data().as_chunks::<8>().0.to_vec();
        Ok(data.into_iter().map(i64::from_le_bytes).collect())
    };
    let mut block =
        Encoded { rows: numbers("rows")?, too_long: numbers("too_long")?, sides: Default::default() };
    for (side, name) in block.sides.iter_mut().zip(["source", "target"]) {
        let ids = tensors.tensor(&format!("{name}_ids")).map_err(damaged)?.data();
        side.ids = if wide {
            ids.as_chunks::<4>().0.iter().map(|&id| u32::from_le_bytes(id)).collect()
        } else {
            ids.as_chunks::<2>().0.iter().map(|&id| u32::from(u16::from_le_bytes(id))).collect()
        };
        let offsets = numbers(&format!("{name}_offsets"))?;
        side.lengths = offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize).collect();
    }
    Ok(block)
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
