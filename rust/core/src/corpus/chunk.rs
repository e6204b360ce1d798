//! A chunk: consecutive records of one input, in any format, with their rows and tags.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;

use crate::corpus::fields::Fields;
use crate::corpus::files_read::InputRead;
use crate::corpus::readers::jsonl::{self, Tree};
use crate::corpus::readers::lines::Lines;
use crate::corpus::readers::parquet_text;
use crate::corpus::readers::tmx;
use crate::corpus::readers::tsv;
use crate::corpus::record::{Pairs, Record};
use crate::corpus::repaired::Repaired;
use crate::corpus::request::Corpus;
use crate::text::repair::Repairer;
use crate::{Error, Result};

/// The records of a chunk, as their format stores them.
pub enum ChunkText {
    Moses {
        source: Lines,
        target: Lines,
    },
    Lines(Lines),
    /// `count` is the number of columns of the first record of the file; None until there is one.
    Tsv {
        records: Lines,
        source_column: Option<usize>,
        target_column: usize,
        count: Option<usize>,
    },
    Jsonl {
        records: Lines,
        tree: Arc<Tree>,
    },
    /// `bytes` is the size of the text.
    Parquet {
        batch: RecordBatch,
        bytes: usize,
        fields: Arc<Fields>,
    },
    Tmx(tmx::Records),
}

/// Up to `CHUNK_LINES` consecutive records of one input. Chunks restart at every input.
pub struct Chunk {
    /// The number of the input.
    pub input: usize,
    /// The first row of that input.
    pub input_first: u64,
    /// The row of the first record.
    pub first: u64,
    /// The inputs that ended since the chunk before.
    pub ended: Vec<InputRead>,
    /// Whether the pass wants each record; empty if it wants all.
    pub kept: Vec<bool>,
    pub tags: Option<Lines>,
    /// The score of each record, NaN where there is none; empty if none are read.
    pub scores: Vec<f32>,
    /// Whether the input has no source side; all sources are then empty.
    pub monolingual: bool,
    pub(super) text: ChunkText,
    /// The decoded pairs of JSON lines and Parquet; empty before `decode`.
    pub(super) pairs: Pairs,
    /// The repaired records; None before `decode`, and if no repair changed any.
    pub(super) repaired: Option<Repaired>,
    pub(super) max_line_bytes: usize,
}

impl Chunk {
    pub fn len(&self) -> usize {
        match &self.text {
            ChunkText::Moses { source: lines, .. } | ChunkText::Lines(lines) => lines.len(),
            ChunkText::Tsv { records, .. } | ChunkText::Jsonl { records, .. } => records.len(),
            ChunkText::Parquet { batch, .. } => batch.num_rows(),
            ChunkText::Tmx(records) => records.pairs.len(),
        }
    }

    /// Decodes the pairs of formats whose sides are not slices of the file, and repairs all pairs; must run before
    /// `record`. Workers call it, so that decoding runs in parallel.
    pub fn decode(&mut self, repairer: &Repairer) -> Result<()> {
        match &self.text {
            ChunkText::Moses { .. } | ChunkText::Lines(_) | ChunkText::Tsv { .. } | ChunkText::Tmx(_) => {}
            ChunkText::Jsonl { records, tree } => self.pairs = jsonl::decode(records, tree),
            ChunkText::Parquet { batch, fields, .. } => {
                self.pairs = parquet_text::decode(batch, fields, self.max_line_bytes)?;
            }
        }
        if !repairer.is_off() {
            self.repaired = Repaired::new((0..self.len()).map(|index| self.stored(index)), repairer);
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn end(&self) -> u64 {
        self.first + self.len() as u64
    }

    pub fn record(&self, index: usize) -> Record<'_> {
        match &self.repaired {
            Some(repaired) => repaired.pairs.record(index),
            None => self.stored(index),
        }
    }

    /// A bit for each repair that changed a record.
    pub fn changes(&self, index: usize) -> u8 {
        self.repaired.as_ref().map_or(0, |repaired| repaired.changes(index))
    }

    /// A record without repairs.
    pub fn stored(&self, index: usize) -> Record<'_> {
        match &self.text {
            ChunkText::Moses { source, target } => {
                if source.is_too_long(index) || target.is_too_long(index) {
                    return Record::TooLong;
                }
                Record::Pair { source: source.line(index), target: target.line(index) }
            }
            ChunkText::Lines(lines) if lines.is_too_long(index) => Record::TooLong,
            ChunkText::Lines(lines) => Record::Pair { source: &[], target: lines.line(index) },
            ChunkText::Tsv { records, source_column, target_column, count } => {
                if records.is_too_long(index) {
                    return Record::TooLong;
                }
                let columns = tsv::columns(records.line(index), *source_column, *target_column);
                match (columns.source, columns.target) {
                    _ if count.is_some_and(|count| count != columns.count) => Record::Columns,
                    (Some(source), Some(target)) => Record::Pair { source, target },
                    _ => Record::Malformed,
                }
            }
            ChunkText::Jsonl { .. } | ChunkText::Parquet { .. } => self.pairs.record(index),
            ChunkText::Tmx(records) => records.pairs.record(index),
        }
    }

    /// The whole record, a line or a TMX unit that was read whole: as it is in its file, but with repaired sides.
    pub fn whole(&self, index: usize) -> Option<Cow<'_, [u8]>> {
        let sides = self.repaired.as_ref().and_then(|repaired| repaired.changed(index));
        match (&self.text, sides) {
            (ChunkText::Tsv { records, .. } | ChunkText::Jsonl { records, .. }, None) => {
                Some(Cow::Borrowed(records.line(index)))
            }
            (ChunkText::Tsv { records, source_column, target_column, .. }, Some(sides)) => {
                Some(Cow::Owned(tsv::replace(records.line(index), *source_column, *target_column, sides)))
            }
            (ChunkText::Jsonl { records, tree }, Some(sides)) => {
                Some(jsonl::replace(records.line(index), tree, sides))
            }
            (ChunkText::Tmx(records), None) => records.whole(index).map(Cow::Borrowed),
            (ChunkText::Tmx(records), Some(sides)) => records.replace(index, sides).map(Cow::Owned),
            (ChunkText::Moses { .. } | ChunkText::Lines(_) | ChunkText::Parquet { .. }, _) => None,
        }
    }

    /// The two sides of consecutive records as lines, if the files hold them as such. The source of a monolingual input
    /// is empty.
    pub fn run(&self, records: Range<usize>) -> Option<[&[u8]; 2]> {
        match &self.text {
            _ if self.repaired.is_some() => None,
            ChunkText::Moses { source, target } => Some([source.run(records.clone())?, target.run(records)?]),
            ChunkText::Lines(lines) => Some([&[], lines.run(records)?]),
            _ => None,
        }
    }

    /// The rows of a Parquet file with repaired sides, and with all their columns if the input asks for them.
    pub fn batch(&self) -> Result<Option<RecordBatch>> {
        let ChunkText::Parquet { batch, fields, .. } = &self.text else { return Ok(None) };
        match &self.repaired {
            Some(repaired) => parquet_text::replace(batch, fields, |row| repaired.changed(row)).map(Some),
            None => Ok(Some(batch.clone())),
        }
    }

    /// Bytes of text in memory.
    pub fn bytes(&self) -> usize {
        match &self.text {
            ChunkText::Moses { source, target } => source.bytes() + target.bytes(),
            ChunkText::Lines(records) | ChunkText::Tsv { records, .. } => records.bytes(),
            // The raw and the decoded text.
            ChunkText::Jsonl { records, .. } => 2 * records.bytes(),
            ChunkText::Parquet { batch, bytes, .. } => batch.get_array_memory_size() + bytes,
            ChunkText::Tmx(records) => records.bytes(),
        }
    }

    /// The indices of the records that the pass wants.
    pub fn wanted(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len()).filter(|&index| self.kept.is_empty() || self.kept[index])
    }

    /// The indices of the records that the pass does not want.
    pub fn unwanted(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.kept.len()).filter(|&index| !self.kept[index])
    }

    /// The tag of a record; "" if the corpus has no tags.
    pub fn tag(&self, corpus: &Corpus, index: usize) -> Result<&str> {
        let Some(tags) = &self.tags else { return Ok("") };
        std::str::from_utf8(tags.line(index)).map_err(|_| {
            let path = corpus.tags.as_deref().unwrap_or(Path::new("tags")).display();
            Error::input(format!(
                "{path}, line {}: the tag is not valid UTF-8: convert the file to UTF-8",
                corpus.tag_line(self.first + index as u64)
            ))
        })
    }
}
