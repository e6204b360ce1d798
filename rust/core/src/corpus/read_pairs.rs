//! The text of a few rows of a corpus.

use serde::{Deserialize, Serialize};

use crate::corpus::pipeline::stream;
use crate::corpus::record::Record;
use crate::corpus::request::Corpus;
use crate::corpus::row_filter::WantedRows;
use crate::{Error, Progress, Result, Row};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadPairsRequest {
    pub corpus: Corpus,
    /// Row numbers, ascending.
    pub rows: Vec<u64>,
}

/// Returns the text of a few rows; invalid UTF-8 is replaced, and a row that is no pair becomes two empty strings.
/// Reads the corpus up to the last of the rows.
pub fn read_pairs(request: &ReadPairsRequest, progress: &Progress) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::with_capacity(request.rows.len());
    let Some(&last) = request.rows.last() else { return Ok(pairs) };
    let text = |side: &[u8]| String::from_utf8_lossy(side).into_owned();
    stream(
        &request.corpus,
        &WantedRows::Rows(request.rows.clone()),
        1,
        progress,
        |chunk| {
            let read = chunk.wanted().map(|index| match chunk.record(index) {
                Record::Pair { source, target } => (text(source), text(target)),
                Record::TooLong | Record::Malformed | Record::Columns | Record::MissingSide => {
                    (String::new(), String::new())
                }
            });
            Ok((chunk.end(), read.collect::<Vec<_>>()))
        },
        |(end, read)| {
            pairs.extend(read);
            Ok(end <= last)
        },
    )?;
    if pairs.len() == request.rows.len() {
        return Ok(pairs);
    }
    Err(Error::input(format!(
        "{} is past the end of the corpus, or the rows are not ascending: give ascending rows of this corpus",
        Row(last)
    )))
}
