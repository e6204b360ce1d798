//! The records that a selection ranks, streamed from Parquet shards: score sets of several checkpoints side by side,
//! what cleaning kept, or a column that was computed elsewhere.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;

use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{Array, ArrayRef};
use serde::Deserialize;

use crate::columns::ShardReader;
use crate::foreign::{Foreign, Tags};
use crate::methods::{self, Method, On, Sign};
use crate::shards::{Shard, check_equal, check_ranges, rows, typed};
use crate::{Error, Result, Watch};

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Source {
    /// One list of shards per checkpoint, in training order.
    Scores { sets: Vec<Vec<Shard>> },
    /// The verdicts of cleaning; records are the rows without a reason.
    Clean { shards: Vec<Shard> },
    /// One file with `row` and a numeric column.
    File { path: PathBuf, column: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Within {
    Input,
    Tag,
}

/// What is read and how it is scored.
#[derive(Debug, Clone, Deserialize)]
pub struct Measure {
    pub source: Source,
    pub method: Method,
    pub on: On,
    pub sign: Sign,
    pub seed: u64,
    /// The shards of the cleaned corpus: the tags, and for a file the rows that cleaning kept.
    pub clean: Option<Vec<Shard>>,
    pub within: Option<Within>,
    /// The row range `[first, end)` of every input.
    pub inputs: Vec<(u64, u64)>,
    pub threads: usize,
}

/// Records in row order. A score of NaN means that there is none.
#[derive(Debug, Default)]
pub struct Batch {
    pub rows: Vec<u64>,
    pub groups: Vec<u32>,
    /// Target tokens; all 0 where the source has none.
    pub tokens: Vec<u32>,
    pub scores: Vec<f32>,
    /// For `progress` the nll of the first checkpoint, else empty.
    pub starts: Vec<f32>,
}

/// The records of a measure, to be streamed as often as it takes.
pub struct Feed<'a> {
    pub measure: &'a Measure,
    tags: Mutex<BTreeMap<String, u32>>,
}

impl<'a> Feed<'a> {
    pub fn new(measure: &'a Measure) -> Result<Self> {
        if let Source::Scores { sets } = &measure.source {
            check_ranges(sets)?;
        }
        Ok(Self { measure, tags: Mutex::default() })
    }

    /// Whether records carry target tokens.
    pub fn has_tokens(&self) -> bool {
        matches!(self.measure.source, Source::Scores { .. })
    }

    /// The shards whose ranges the selection's shards repeat; None for a file without a cleaned corpus.
    pub fn shards(&self) -> Option<&[Shard]> {
        match &self.measure.source {
            Source::Scores { sets } => sets.first().map(Vec::as_slice),
            Source::Clean { shards } => Some(shards),
            Source::File { .. } => self.measure.clean.as_deref(),
        }
    }

    /// The names of the groups seen so far, by number: tags, or the numbers of the inputs.
    pub fn groups(&self) -> Vec<String> {
        match self.measure.within {
            None => vec![String::new()],
            Some(Within::Input) => (0..self.measure.inputs.len()).map(|number| number.to_string()).collect(),
            Some(Within::Tag) => {
                let tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
                let mut named: Vec<_> = tags.iter().map(|(name, &number)| (number, name.clone())).collect();
                named.sort_unstable();
                named.into_iter().map(|(_, name)| name).collect()
            }
        }
    }

    /// Streams the records through `visit`, each thread over a contiguous part with its own state; returns the states.
    pub fn fold<A: Send>(
        &self,
        watch: &Watch,
        start: impl Fn() -> A + Sync,
        visit: impl Fn(&mut A, &Batch) -> Result<()> + Sync,
    ) -> Result<Vec<A>> {
        let work = |span: Range<usize>| {
            let mut state = start();
            self.stream(span, watch, &mut |batch| visit(&mut state, batch))?;
            Ok(state)
        };
        let count = self.shards().map_or(1, <[Shard]>::len);
        let single = matches!(self.measure.source, Source::File { .. });
        let threads = if single { 1 } else { self.measure.threads.clamp(1, count.max(1)) };
        let work = &work;
        thread::scope(|scope| {
            let span = |part: usize| part * count / threads..(part + 1) * count / threads;
            let workers: Vec<_> = (0..threads).map(|part| scope.spawn(move || work(span(part)))).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    }

    /// Streams the records of some shards through `visit`, in row order.
    pub fn stream(
        &self,
        span: Range<usize>,
        watch: &Watch,
        visit: &mut dyn FnMut(&Batch) -> Result<()>,
    ) -> Result<()> {
        let mut tagger = match (self.measure.within, &self.measure.clean) {
            (Some(Within::Tag), Some(clean)) => Some(Tags::new(clean, &self.tags)),
            _ => None,
        };
        let mut visit = |mut batch: Batch| -> Result<()> {
            watch.check()?;
            watch.add(0, batch.rows.len() as u64);
            batch.groups = match &mut tagger {
                Some(tagger) => tagger.of(&batch.rows)?,
                None => batch.rows.iter().map(|&row| self.input_of(row)).collect(),
            };
            visit(&batch)
        };
        match (&self.measure.source, &self.measure.clean) {
            (Source::Scores { sets }, _) => {
                for index in span {
                    let shards: Vec<&Shard> = sets.iter().map(|set| &set[index]).collect();
                    self.scores(&shards, &mut visit)?;
                }
                Ok(())
            }
            (Source::Clean { shards }, _) => {
                shards[span].iter().try_for_each(|shard| self.survivors(shard, &mut visit))
            }
            (Source::File { path, column }, None) => {
                let mut foreign = Foreign::open(path, column)?;
                while let Some((rows, scores)) = foreign.batch()? {
                    visit(Batch { tokens: vec![0; rows.len()], rows, scores, ..Batch::default() })?;
                }
                Ok(())
            }
            (Source::File { path, column }, Some(clean)) => {
                let mut foreign = Foreign::open(path, column)?;
                for shard in clean {
                    self.survivors(shard, &mut |mut batch: Batch| {
                        batch.scores = foreign.join(&batch.rows)?;
                        visit(batch)
                    })?;
                }
                foreign.finish(clean.last().map_or(0, |shard| shard.end))
            }
        }
    }

    fn input_of(&self, row: u64) -> u32 {
        match self.measure.within {
            Some(Within::Input) => {
                let inputs = &self.measure.inputs;
                inputs.partition_point(|&(_, end)| end <= row).min(inputs.len().saturating_sub(1)) as u32
            }
            _ => 0,
        }
    }

    /// The records of one shard of every checkpoint.
    fn scores(&self, shards: &[&Shard], visit: &mut dyn FnMut(Batch) -> Result<()>) -> Result<()> {
        let names: &[&str] =
            if self.measure.method.reads_nll() { &["row", "tokens", "nll_sum"] } else { &["row", "tokens"] };
        let mut readers = Vec::with_capacity(shards.len());
        for shard in shards {
            readers.push(ShardReader::open(&shard.path, names)?);
        }
        let mut next = shards[0].first;
        loop {
            let mut sets = Vec::with_capacity(readers.len());
            for reader in &mut readers {
                sets.push(reader.next().transpose()?);
            }
            check_equal(shards, &sets)?;
            let sets: Vec<Vec<ArrayRef>> = sets.into_iter().flatten().collect();
            let Some(lead) = sets.first() else { return Ok(()) };
            let rows = rows(&lead[0], shards[0], &mut next)?;
            visit(self.measure_batch(rows, &sets, shards)?)?;
        }
    }

    fn measure_batch(&self, rows: Vec<u64>, sets: &[Vec<ArrayRef>], shards: &[&Shard]) -> Result<Batch> {
        let Measure { method, on, sign, .. } = *self.measure;
        let tokens = typed::<UInt32Type>(&sets[0][1], "tokens", shards[0])?;
        let mut sums = Vec::with_capacity(sets.len());
        if method.reads_nll() {
            for (set, shard) in sets.iter().zip(shards) {
                sums.push(typed::<Float32Type>(&set[2], "nll_sum", shard)?);
            }
        }
        let mut batch =
            Batch { tokens: vec![0; rows.len()], scores: vec![f32::NAN; rows.len()], ..Batch::default() };
        if method == Method::Progress {
            batch.starts = vec![f32::NAN; rows.len()];
        }
        let mut nll = vec![0.0; sums.len()];
        for (index, &row) in rows.iter().enumerate() {
            if tokens.is_null(index) {
                continue;
            }
            let count = tokens.value(index);
            for ((nll, sum), shard) in nll.iter_mut().zip(&sums).zip(shards) {
                *nll = f64::from(sum.value(index)) / f64::from(count);
                if sum.is_null(index) || !nll.is_finite() {
                    let path = shard.path.display();
                    return Err(Error::input(format!(
                        "{path}: nll_sum of row {row} is no number: score it again"
                    )));
                }
            }
            batch.tokens[index] = count;
            batch.scores[index] = match method {
                Method::Length => count as f32,
                Method::Random => methods::random(row, self.measure.seed),
                _ => methods::score(method, on, sign, &nll),
            };
            if method == Method::Progress {
                batch.starts[index] = methods::saturate(nll[0]);
            }
        }
        batch.rows = rows;
        Ok(batch)
    }

    /// The rows of one shard that cleaning kept.
    fn survivors(&self, shard: &Shard, visit: &mut dyn FnMut(Batch) -> Result<()>) -> Result<()> {
        let by_length = self.measure.method == Method::Length;
        let names: &[&str] =
            if by_length { &["row", "reasons", "target_characters"] } else { &["row", "reasons"] };
        let mut next = shard.first;
        for columns in ShardReader::open(&shard.path, names)? {
            let columns = columns?;
            let rows = rows(&columns[0], shard, &mut next)?;
            let reasons = typed::<UInt32Type>(&columns[1], "reasons", shard)?;
            let lengths = if by_length {
                Some(typed::<UInt32Type>(&columns[2], "target_characters", shard)?)
            } else {
                None
            };
            let mut batch = Batch::default();
            for (index, row) in rows.into_iter().enumerate().filter(|&(index, _)| reasons.value(index) == 0) {
                batch.rows.push(row);
                batch.scores.push(match lengths {
                    Some(lengths) => lengths.value(index) as f32,
                    None => methods::random(row, self.measure.seed),
                });
            }
            batch.tokens = vec![0; batch.rows.len()];
            visit(batch)?;
        }
        Ok(())
    }
}
