//! An opened source of records: score sets, a cleaned corpus, a column in Parquet files, or a `.npy` array.

use std::ops::Range;

use crate::Result;
use crate::columns::external::ExternalColumn;
use crate::columns::npy::Npy;
use crate::selection::batch::Batch;
use crate::selection::request::{Measure, Shard, Source};
use crate::selection::sources::clean::stream_kept;
use crate::selection::sources::scores::{ScoreSets, stream_scores};
use crate::selection::sources::shards::{align, check_ranges};

/// An opened source.
pub enum Records {
    Scores(ScoreSets),
    Clean(Vec<Shard>),
    File(ExternalColumn),
    Npy(Npy),
}

type Visit<'a> = &'a mut dyn FnMut(&mut Batch) -> Result<()>;

impl Records {
    pub fn open(source: &Source) -> Result<Self> {
        Ok(match source {
            Source::Scores { sets, backward } => {
                let shards = sets.iter().map(|set| align(set)).collect::<Result<Vec<_>>>()?;
                check_ranges(&shards)?;
                let backward = (0..sets.len()).map(|set| backward.contains(&set)).collect();
                Self::Scores(ScoreSets { shards, backward })
            }
            Source::Clean { shards } => Self::Clean(align(shards)?),
            Source::File { paths, column } => Self::File(ExternalColumn::open(paths, column)?),
            Source::Npy { path } => Self::Npy(Npy::open(path)?),
        })
    }

    /// How many parts can be streamed on their own.
    pub fn len(&self) -> usize {
        match self {
            Self::File(column) => column.len(),
            Self::Npy(array) => array.len(),
            Self::Scores(_) | Self::Clean(_) => self.shards().map_or(0, <[_]>::len),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shards whose row ranges the selection's shards copy; None if the source has no shards.
    pub fn shards(&self) -> Option<&[Shard]> {
        match self {
            Self::Scores(sets) => sets.shards.first().map(Vec::as_slice),
            Self::Clean(shards) => Some(shards),
            Self::File(_) | Self::Npy(_) => None,
        }
    }

    /// All rows are below this.
    pub fn end(&self) -> u64 {
        match self {
            Self::File(column) => column.end(),
            Self::Npy(array) => array.count(),
            Self::Scores(_) | Self::Clean(_) => {
                self.shards().and_then(<[_]>::last).map_or(0, |shard| shard.end)
            }
        }
    }

    /// How many records there are, none of them without a value, where the source says so.
    pub fn count(&self) -> Option<u64> {
        if let Self::Npy(array) = self { Some(array.count()) } else { None }
    }

    /// Whether a record's row is its place.
    pub fn is_gapless(&self) -> bool {
        matches!(self, Self::Npy(_))
    }

    /// Streams some parts: rows (unless `rowless`, which only files and arrays heed), tokens, and the columns that the
    /// source has or that are computed from it.
    pub fn stream(
        &self,
        measure: &Measure,
        span: Range<usize>,
        rowless: bool,
        batch: &mut Batch,
        visit: Visit<'_>,
    ) -> Result<()> {
        match self {
            Self::Scores(sets) => {
                for index in span {
                    let shards: Vec<&Shard> = sets.shards.iter().map(|set| &set[index]).collect();
                    stream_scores(measure, &shards, &sets.backward, batch, visit)?;
                }
                Ok(())
            }
            Self::Clean(shards) => {
                shards[span].iter().try_for_each(|shard| stream_kept(measure, shard, batch, visit))
            }
            Self::File(column) => {
                let mut reading = column.read(span);
                reading.rowless = rowless;
                while reading.batch()? {
                    std::mem::swap(&mut batch.rows, &mut reading.rows);
                    std::mem::swap(&mut batch.columns[0], &mut reading.scores);
                    visit(batch)?;
                }
                Ok(())
            }
            Self::Npy(array) => {
                let mut reading = array.read(span);
                while reading.batch(rowless, &mut batch.rows, &mut batch.columns[0])? {
                    visit(batch)?;
                }
                Ok(())
            }
        }
    }
}
