//! The `tokenize` pass: writes the kept pairs as token ids.

use std::ops::Range;

use crate::corpus::chunk::Chunk;
use crate::corpus::pipeline::stream;
use crate::corpus::record::Record;
use crate::tokens::blocks::{Blocks, Encoded, block_first, by_block};
use crate::tokens::encoder::Encoder;
use crate::tokens::request::{TokenizeRequest, Tokenized};
use crate::{Error, Progress, Result, Row};

/// Tokenizes the kept pairs into blocks. Blocks of an interrupted run with the same plan are reused.
pub fn tokenize(request: &TokenizeRequest, progress: &Progress) -> Result<Tokenized> {
    let tokenizer = Encoder::open(&request.tokenizer)?;
    let mut blocks = Blocks::open(request, tokenizer.vocabulary_size())?;
    let done: Vec<u64> = blocks.done.keys().copied().collect();
    let read = stream(
        &request.corpus,
        &request.kept,
        request.threads,
        progress,
        |chunk| {
            let mut parts = Vec::with_capacity(1);
            for rows in by_block(chunk.first..chunk.end()) {
                let encoded = if done.binary_search(&block_first(rows.start)).is_ok() {
                    Encoded::default()
                } else {
                    encode(&tokenizer, request.max_tokens, &chunk, &rows)?
                };
                parts.push((rows, encoded));
            }
            Ok(parts)
        },
        |parts| {
            for (rows, encoded) in parts {
                progress.add(0, rows.end - rows.start);
                blocks.add(&rows, encoded)?;
            }
            Ok(true)
        },
    );
    let outcome = read.and_then(|read| {
        blocks.publish_block()?;
        read.compare(&request.files)
    });
    match outcome {
        Ok(()) => blocks.finish(),
        // The text may not be the text that was cleaned: a later run must not reuse its blocks.
        Err(error @ Error::Input(_)) => {
            blocks.discard()?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// Encodes the wanted pairs among `rows` of a chunk.
fn encode(tokenizer: &Encoder, max_tokens: usize, chunk: &Chunk, rows: &Range<u64>) -> Result<Encoded> {
    let mut encoded = Encoded::default();
    let mut sides = [Vec::new(), Vec::new()];
    tokenizer.with(|encode| {
        let here = |&index: &usize| rows.contains(&(chunk.first + index as u64));
        for index in chunk.wanted().filter(here) {
            let row = chunk.first as i64 + index as i64;
            let Record::Pair { source, target } = chunk.record(index) else { return Err(not_text(row)) };
            for (side, ids) in [source, target].into_iter().zip(&mut sides) {
                let text = std::str::from_utf8(side).map_err(|_| not_text(row))?;
                ids.clear();
                encode(text, ids)
                    .map_err(|error| Error::input(format!("{} cannot be tokenized: {error}", Row(row))))?;
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
        "{} is kept but is not a pair of UTF-8 text: an input changed since it was cleaned: clean again with force = true",
        Row(row)
    ))
}
