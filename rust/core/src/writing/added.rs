//! Columns that `write` adds beside the sides of a pair: its row, its score in the selection, its tag.

use std::fmt;
use std::result::Result as StdResult;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, Int64Array, StringArray};
use arrow_schema::{DataType, Field};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::corpus::chunk::Chunk;
use crate::corpus::request::Corpus;
use crate::writing::json_template::quoted;
use crate::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Added {
    Row,
    Score,
    Tag,
}

impl Added {
    pub fn name(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Score => "score",
            Self::Tag => "tag",
        }
    }

    /// The column of a Parquet file.
    pub fn field(self) -> Field {
        let (data_type, nullable) = match self {
            Self::Row => (DataType::Int64, false),
            Self::Score => (DataType::Float32, true),
            Self::Tag => (DataType::Utf8, false),
        };
        Field::new(self.name(), data_type, nullable)
    }

    /// The values of some records as a column of Parquet.
    pub fn column(self, chunk: &Chunk, corpus: &Corpus, indices: &[usize]) -> Result<ArrayRef> {
        let indices = indices.iter().copied();
        Ok(match self {
            Self::Row => {
                Arc::new(Int64Array::from_iter_values(indices.map(|index| row(chunk, index) as i64)))
            }
            Self::Score => Arc::new(indices.map(|index| score(chunk, index)).collect::<Float32Array>()),
            Self::Tag => {
                let tags = indices.map(|index| chunk.tag(corpus, index)).collect::<Result<Vec<_>>>()?;
                Arc::new(StringArray::from(tags))
            }
        })
    }

    /// Appends the value of a record as a column of TSV; a missing score is empty. False if the tag holds what ends a
    /// column or a line.
    pub fn push_tsv(self, text: &mut Vec<u8>, chunk: &Chunk, corpus: &Corpus, index: usize) -> Result<bool> {
        text.push(b'\t');
        match self {
            Self::Row => text.extend_from_slice(row(chunk, index).to_string().as_bytes()),
            Self::Score => {
                let score = score(chunk, index).map(number).transpose()?;
                text.extend_from_slice(score.unwrap_or_default().as_bytes());
            }
            Self::Tag => {
                let tag = chunk.tag(corpus, index)?;
                text.extend_from_slice(tag.as_bytes());
                return Ok(!tag.contains('\t') && !tag.ends_with('\r'));
            }
        }
        Ok(true)
    }

    /// Appends a comma and the value of a record as a member of JSON; a missing score is null.
    pub fn push_json(self, text: &mut Vec<u8>, chunk: &Chunk, corpus: &Corpus, index: usize) -> Result<()> {
        let value = match self {
            Self::Row => row(chunk, index).to_string(),
            Self::Score => score(chunk, index).map_or_else(|| Ok("null".to_owned()), number)?,
            Self::Tag => quoted(chunk.tag(corpus, index)?),
        };
        text.extend_from_slice(format!(",\"{}\":{value}", self.name()).as_bytes());
        Ok(())
    }
}

fn row(chunk: &Chunk, index: usize) -> u64 {
    chunk.first + index as u64
}

/// None if the selection has no score for the record.
fn score(chunk: &Chunk, index: usize) -> Option<f32> {
    chunk.scores.get(index).copied().filter(|score| score.is_finite())
}

/// The shortest digits that give the same float32.
fn number(value: f32) -> Result<String> {
    serde_json::to_string(&value).map_err(|error| Error::input(error.to_string()))
}

/// Which of the columns a JSON object has already, as a member of its own.
pub fn clash(object: &[u8], added: &[Added]) -> Option<Added> {
    let mut json = serde_json::Deserializer::from_slice(object);
    json.deserialize_map(Members(added)).ok().flatten()
}

struct Members<'a>(&'a [Added]);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Option<Added>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> StdResult<Self::Value, M::Error> {
        let mut found = None;
        while let Some(name) = map.next_key_seed(Name(self.0))? {
            found = found.or(name);
            map.next_value::<IgnoredAny>()?;
        }
        Ok(found)
    }
}

/// Reads the name of a member as bytes, which need not be UTF-8.
struct Name<'a>(&'a [Added]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<Added>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> StdResult<Self::Value, D::Error> {
        json.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<Added>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a member")
    }

    fn visit_bytes<E: serde::de::Error>(self, name: &[u8]) -> StdResult<Self::Value, E> {
        Ok(self.0.iter().copied().find(|added| added.name().as_bytes() == name))
    }
}
