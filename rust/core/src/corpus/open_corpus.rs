//! A corpus as a stream of Arrow record batches, for pipelines outside catprune. Threads read a bounded amount ahead
//! and end when the stream is dropped.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use arrow_array::builder::{LargeBinaryBuilder, LargeStringBuilder, StringDictionaryBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, UInt32Type};
use arrow_array::{
    Array, ArrayAccessor, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchReader, StringArray,
    UInt32Array,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

use crate::columns::shards::ShardReader;
use crate::corpus::chunk::Chunk;
use crate::corpus::files_read::FileRead;
use crate::corpus::pipeline::stream;
use crate::corpus::record::Record;
use crate::corpus::request::Corpus;
use crate::corpus::row_filter::WantedRows;
use crate::{Error, Progress, Result};

/// Finished batches that wait for the consumer, in addition to those in the pipeline.
const WAITING: usize = 2;

/// The Arrow type of the text.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Text {
    /// `large_utf8`; a side that is not valid UTF-8 is null.
    Utf8,
    /// `large_binary`, the bytes unchanged.
    Bytes,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenCorpusRequest {
    pub corpus: Corpus,
    /// The files that cleaning read, to detect a changed file; None if the corpus was not cleaned.
    pub files: Option<Vec<FileRead>>,
    pub kept: WantedRows,
    /// The shards of a cleaned corpus: the stream has every row, with its reasons and whether it is kept. None: only
    /// the kept rows.
    pub reasons: Option<Vec<PathBuf>>,
    pub text: Text,
    pub threads: usize,
}

impl OpenCorpusRequest {
    /// `row`, `source` (unless the corpus is monolingual), `target`, `tag` (if there are tags), `kept`, `reasons` and
    /// `reason` (if every row is in the stream).
    pub fn schema(&self) -> SchemaRef {
        let text = match self.text {
            Text::Utf8 => DataType::LargeUtf8,
            Text::Bytes => DataType::LargeBinary,
        };
        let mut fields = vec![Field::new("row", DataType::Int64, false)];
        let sides = &["source", "target"][usize::from(self.corpus.is_monolingual())..];
        fields.extend(sides.iter().map(|side| Field::new(*side, text.clone(), true)));
        if self.corpus.tags.is_some() {
            fields.push(Field::new("tag", DataType::LargeUtf8, false));
        }
        if self.reasons.is_some() {
            fields.push(Field::new("kept", DataType::Boolean, false));
            fields.push(Field::new("reasons", DataType::UInt32, false));
            let names = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            fields.push(Field::new("reason", names, true));
        }
        Arc::new(Schema::new(fields))
    }

    /// The columns of a chunk except the reasons.
    fn columns(&self, chunk: &Chunk) -> Result<Vec<ArrayRef>> {
        let wanted: Vec<usize> = match self.reasons {
            Some(_) => (0..chunk.len()).collect(),
            None => chunk.wanted().collect(),
        };
        let rows = wanted.iter().map(|&index| chunk.first as i64 + index as i64);
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(rows))];
        for side in usize::from(chunk.monolingual)..2 {
            let texts = wanted.iter().map(|&index| match chunk.record(index) {
                Record::Pair { source, target } => Some([source, target][side]),
                Record::TooLong | Record::Malformed | Record::Columns | Record::MissingSide => None,
            });
            columns.push(self.text_column(texts));
        }
        if self.corpus.tags.is_some() {
            let mut tags = LargeStringBuilder::new();
            for &index in &wanted {
                tags.append_value(chunk.tag(&self.corpus, index)?);
            }
            columns.push(Arc::new(tags.finish()));
        }
        if self.reasons.is_some() {
            columns.push(Arc::new(BooleanArray::from(chunk.kept.clone())));
        }
        Ok(columns)
    }

    fn text_column<'a>(&self, texts: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
        match self.text {
            Text::Utf8 => {
                let mut column = LargeStringBuilder::new();
                texts.for_each(|text| {
                    column.append_option(text.and_then(|text| std::str::from_utf8(text).ok()));
                });
                Arc::new(column.finish())
            }
            Text::Bytes => {
                let mut column = LargeBinaryBuilder::new();
                texts.for_each(|text| column.append_option(text));
                Arc::new(column.finish())
            }
        }
    }

    /// Reads the corpus and sends its batches, until the corpus ends or the receiver is dropped.
    fn send(&self, progress: &Progress, batches: &Sender<Result<RecordBatch>>) -> Result<()> {
        let schema = self.schema();
        let mut reasons = self.reasons.as_deref().map(Reasons::new);
        let read = stream(
            &self.corpus,
            &self.kept,
            self.threads,
            progress,
            |chunk| self.columns(&chunk),
            |mut columns| {
                let rows = columns[0].len();
                if let Some(reasons) = &mut reasons {
                    columns.extend(reasons.take(rows)?);
                }
                if rows == 0 {
                    return Ok(true);
                }
                let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
                    .map_err(|error| Error::input(format!("a batch of text cannot be made ({error})")))?;
                Ok(batches.send(Ok(batch)).is_ok())
            },
        )?;
        match &self.files {
            Some(files) => read.compare(files),
            None => Ok(()),
        }
    }
}

/// Reads the reasons of consecutive rows; the shards of a cleaned corpus have a record for every row.
struct Reasons {
    shards: VecDeque<PathBuf>,
    reader: Option<ShardReader>,
    ahead: VecDeque<u32>,
    /// The names of the reasons that were read; none for kept rows.
    names: BTreeMap<u32, Option<String>>,
}

impl Reasons {
    fn new(shards: &[PathBuf]) -> Self {
        let shards = shards.iter().cloned().collect();
        Self { shards, reader: None, ahead: VecDeque::new(), names: BTreeMap::new() }
    }

    /// The columns `reasons` and `reason` of the next rows.
    fn take(&mut self, count: usize) -> Result<[ArrayRef; 2]> {
        while self.ahead.len() < count {
            if let Some(batch) = self.reader.as_mut().and_then(Iterator::next) {
                self.add(&batch?)?;
                continue;
            }
            let path = self.shards.pop_front().ok_or_else(|| {
                Error::input("the corpus has more records than were cleaned: clean again with force = true")
            })?;
            self.reader = Some(ShardReader::open(&path, &["reasons", "reason"])?);
        }
        let reasons: Vec<u32> = self.ahead.drain(..count).collect();
        let mut names = StringDictionaryBuilder::<Int32Type>::new();
        for mask in &reasons {
            names.append_option(self.names.get(mask).and_then(Option::as_deref));
        }
        Ok([Arc::new(UInt32Array::from(reasons)), Arc::new(names.finish())])
    }

    fn add(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let wrong = || {
            Error::input("the reasons of the cleaned corpus have other types: clean again with force = true")
        };
        let masks = columns[0].as_primitive_opt::<UInt32Type>().ok_or_else(wrong)?.values();
        let names = columns[1].as_dictionary_opt::<Int32Type>().ok_or_else(wrong)?;
        let names = names.downcast_dict::<StringArray>().ok_or_else(wrong)?;
        for (index, &mask) in masks.iter().enumerate() {
            self.names
                .entry(mask)
                .or_insert_with(|| names.is_valid(index).then(|| names.value(index).to_owned()));
        }
        self.ahead.extend(masks);
        Ok(())
    }
}

/// Batches of up to 4,096 rows, in row order. Reading begins when the first batch is requested.
pub struct OpenCorpus {
    request: Arc<OpenCorpusRequest>,
    progress: Arc<Progress>,
    running: Option<(Receiver<Result<RecordBatch>>, JoinHandle<()>)>,
    ended: bool,
}

pub fn open_corpus(request: OpenCorpusRequest) -> OpenCorpus {
    OpenCorpus { request: Arc::new(request), progress: Arc::default(), running: None, ended: false }
}

impl OpenCorpus {
    fn start(&self) -> (Receiver<Result<RecordBatch>>, JoinHandle<()>) {
        let (sender, receiver) = bounded(WAITING);
        let (request, progress) = (Arc::clone(&self.request), Arc::clone(&self.progress));
        let reader = thread::spawn(move || {
            if let Err(error) = request.send(&progress, &sender) {
                let _ = sender.send(Err(error));
            }
        });
        (receiver, reader)
    }
}

impl Iterator for OpenCorpus {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.running.is_none() && !self.ended {
            self.running = Some(self.start());
        }
        let external = |error: Error| Some(Err(ArrowError::ExternalError(Box::new(error))));
        match self.running.as_ref()?.0.recv() {
            Ok(Ok(batch)) => Some(Ok(batch)),
            Ok(Err(error)) => external(error),
            Err(_) => {
                // The channel also closes if the reader panics.
                self.ended = true;
                let (_, reader) = self.running.take()?;
                let panicked = reader.join().is_err();
                panicked
                    .then(|| Error::input("a reader panicked: this is a bug of catprune"))
                    .and_then(external)
            }
        }
    }
}

impl RecordBatchReader for OpenCorpus {
    fn schema(&self) -> SchemaRef {
        self.request.schema()
    }
}

impl Drop for OpenCorpus {
    fn drop(&mut self) {
        self.progress.stop();
        if let Some((receiver, reader)) = self.running.take() {
            // A reader that waits for room in the channel must see that the receiver is gone, or `join` would hang.
            drop(receiver);
            let _ = reader.join();
        }
    }
}
