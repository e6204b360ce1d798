//! The records of a selection as batches that can be ranked: external columns matched, groups numbered, guards applied, scores
//! computed.

use std::ops::Range;
use std::thread::{self, Scope, ScopedJoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::columns::external::{ExternalColumn, ExternalReading};
use crate::selection::batch::Batch;
use crate::selection::groups::Groups;
use crate::selection::methods::{self, Method};
use crate::selection::request::{By, Measure, Shard, Source};
use crate::selection::scan::Scan;
use crate::selection::sources::records::Records;
use crate::selection::statistics::expectation::Expectation;
use crate::selection::statistics::merge::Basis;
use crate::selection::statistics::moments::Moments;
use crate::selection::statistics::ranks::Ranks;
use crate::selection::tags::Tags;
use crate::{Error, Progress, Result, Row};

/// Batches that a thread may read ahead.
const AHEAD: usize = 4;

/// The records of a measure, which can be streamed any number of times.
pub struct ScoredRecords<'a> {
    pub measure: &'a Measure,
    pub groups: Groups<'a>,
    records: Records,
    external: Vec<ExternalColumn>,
    expectation: Option<Expectation>,
    basis: Option<Basis>,
}

/// The state of one stream of batches.
struct State<'r> {
    tagger: Option<Tags<'r>>,
    readings: Vec<ExternalReading<'r>>,
    /// Number of records before the next batch.
    ordinal: u64,
}

impl<'a> ScoredRecords<'a> {
    pub fn new(measure: &'a Measure) -> Result<Self> {
        let records = Records::open(&measure.source)?;
        let mut external = Vec::with_capacity(measure.external.len());
        for column in &measure.external {
            let column = ExternalColumn::open(&column.paths, &column.column)?;
            if let Some(shards) = records.shards() {
                column.check_end(shards.last().map_or(0, |shard| shard.end))?;
            }
            external.push(column);
        }
        let groups = Groups::new(measure);
        Ok(Self { measure, groups, records, external, expectation: None, basis: None })
    }

    /// Computes the statistics over all records that scores need: the bins of `progress`, ranks or moments of a merge.
    /// `scored` is the number of scored records of every group.
    pub fn learn(&mut self, records: u64, scored: &[u64], progress: &Progress) -> Result<()> {
        if let Some(column) = self.progress_column() {
            self.expectation = Some(Expectation::of(self, column, self.measure.bins, scored, progress)?);
        }
        let Some(merge) = &self.measure.merge else { return Ok(()) };
        self.basis = Some(match merge.by {
            By::Z => Basis::Standard(Moments::of(self, merge, progress)?),
            By::Rank => Basis::Ranks({
                let (tmp, scored) = (&self.measure.tmp, scored.iter().sum());
                Ranks::of(self, merge, tmp, records, scored, self.measure.threads, progress)?
            }),
        });
        Ok(())
    }

    /// Whether records carry target tokens.
    pub fn has_tokens(&self) -> bool {
        matches!(self.measure.source, Source::Scores { .. })
    }

    /// The shards whose row ranges the selection's shards copy; None if the source has no shards.
    pub fn shards(&self) -> Option<&[Shard]> {
        self.records.shards()
    }

    /// All rows are below this.
    pub fn end(&self) -> u64 {
        self.records.end()
    }

    /// The column that `progress` is computed in.
    pub fn progress_column(&self) -> Option<usize> {
        self.measure.computed.iter().position(|column| column.method == Method::Progress)
    }

    fn threads(&self) -> usize {
        // Merged ranks are read in the order in which they were written.
        let single = matches!(self.basis, Some(Basis::Ranks(_)));
        if single { 1 } else { self.measure.threads.clamp(1, self.records.len().max(1)) }
    }

    /// Whether a record's row is its place: there are no gaps.
    pub fn is_gapless(&self) -> bool {
        self.records.is_gapless()
    }

    /// Whether the passes that only count can do without row numbers.
    fn is_rowless(&self) -> bool {
        self.groups.is_one() && self.external.is_empty() && !self.measure.draw && self.measure.merge.is_none()
    }

    /// The number of records, where the source says that all of them are scored and nothing is dropped.
    pub fn count(&self) -> Option<u64> {
        let plain = self.is_rowless() && self.measure.guards.is_empty() && self.measure.merge.is_none();
        self.records.count().filter(|_| plain)
    }

    fn start(&self) -> State<'_> {
        State {
            tagger: self.groups.tagger(),
            readings: self.external.iter().map(|column| column.read(0..column.len())).collect(),
            ordinal: 0,
        }
    }

    /// Streams a span of records that comes after those that `state` has seen.
    fn stream(
        &self,
        state: &mut State<'_>,
        span: Range<usize>,
        rowless: bool,
        progress: &Progress,
        visit: &mut dyn FnMut(&mut Batch) -> Result<()>,
    ) -> Result<()> {
        let columns = self.measure.columns();
        let mut batch = Batch { columns: vec![Vec::new(); columns], ..Batch::default() };
        self.records.stream(self.measure, span, rowless && self.is_rowless(), &mut batch, &mut |batch| {
            progress.check()?;
            let own = columns - state.readings.len();
            for (reading, column) in state.readings.iter_mut().zip(&mut batch.columns[own..]) {
                reading.join(&batch.rows, column)?;
            }
            progress.add(0, batch.columns.first().map_or(0, Vec::len) as u64);
            self.groups.assign(batch, &mut state.tagger)?;
            self.score(batch, state.ordinal)?;
            state.ordinal += batch.rows.len() as u64;
            visit(batch)
        })
    }

    /// Makes the scores of a batch (which may have come without rows), as far as it is known how; until then they only say which records have one.
    fn score(&self, batch: &mut Batch, ordinal: u64) -> Result<()> {
        let Measure { merge, guards, .. } = self.measure;
        if merge.is_none() && guards.is_empty() && self.progress_column().is_none() {
            std::mem::swap(&mut batch.scores, &mut batch.columns[self.measure.score]);
            return if self.measure.draw { self.draw(batch) } else { Ok(()) };
        }
        batch.scores.clear();
        match merge {
            None => batch.scores.extend_from_slice(&batch.columns[self.measure.score]),
            Some(merge) => {
                batch.scores.resize(batch.columns[0].len(), 0.0);
                for &(column, _) in &merge.terms {
                    for (score, value) in batch.scores.iter_mut().zip(&batch.columns[column]) {
                        if value.is_nan() {
                            *score = f32::NAN;
                        }
                    }
                }
            }
        }
        batch.guarded.clear();
        if !guards.is_empty() {
            for index in 0..batch.scores.len() {
                let passes = guards.iter().all(|guard| guard.admits(batch.columns[guard.column][index]));
                let guarded = !passes && !self.groups.is_trusted(batch.group(index));
                batch.guarded.push(guarded);
                if guarded {
                    batch.scores[index] = f32::NAN;
                }
            }
        }
        if let (Some(expectation), Some(column)) = (&self.expectation, self.progress_column()) {
            for index in 0..batch.scores.len() {
                if batch.scores[index].is_nan() {
                    continue;
                }
                let expected = expectation.at(batch.group(index), batch.starts[index]);
                let score = expected - batch.columns[column][index];
                batch.columns[column][index] = score;
                if merge.is_none() {
                    batch.scores[index] = score;
                }
            }
        }
        if let (Some(merge), Some(basis)) = (merge, &self.basis) {
            basis.fill(merge, batch, ordinal)?;
        }
        if self.measure.draw && (merge.is_none() || self.basis.is_some()) {
            return self.draw(batch);
        }
        Ok(())
    }

    /// Replaces weights by draws.
    fn draw(&self, batch: &mut Batch) -> Result<()> {
        for (&row, score) in batch.rows.iter().zip(&mut batch.scores) {
            if *score < 0.0 {
                return Err(Error::input(format!(
                    "the weight of {} is {score}: draw takes weights of 0 and more",
                    Row(row)
                )));
            }
            if !score.is_nan() {
                *score = methods::draw(*score, row, self.measure.seed);
            }
        }
        Ok(())
    }
}

impl Scan for ScoredRecords<'_> {
    fn fold<A: Send>(
        &self,
        rowless: bool,
        progress: &Progress,
        start: impl Fn() -> A + Sync,
        visit: impl Fn(&mut A, &Batch) -> Result<()> + Sync,
    ) -> Result<Vec<A>> {
        let work = |span: Range<usize>| {
            let mut state = start();
            self.stream(&mut self.start(), span, rowless, progress, &mut |batch| visit(&mut state, batch))?;
            Ok(state)
        };
        let count = self.records.len();
        let threads = self.threads();
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

    /// Other threads read ahead, each every so many parts.
    fn all(
        &self,
        rowless: bool,
        progress: &Progress,
        visit: &mut dyn FnMut(&Batch) -> Result<()>,
    ) -> Result<()> {
        let count = self.records.len();
        let threads = self.threads();
        if threads == 1 {
            return self.stream(&mut self.start(), 0..count, rowless, progress, &mut |batch| visit(batch));
        }
        thread::scope(|scope| {
            let lanes: Vec<_> =
                (0..threads).map(|first| self.read_ahead(scope, first, threads, rowless, progress)).collect();
            let mut outcome = visit_in_turn(&lanes, count, visit);
            // Without receivers, the workers stop.
            let workers: Vec<_> = lanes.into_iter().map(|lane| lane.worker).collect();
            for worker in workers {
                let ended = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                // A worker whose receiver is gone has not failed itself.
                let unheard = matches!(ended, Err(Error::Interrupted)) && !progress.is_stopped();
                if outcome.is_ok() && !unheard {
                    outcome = ended;
                }
            }
            outcome
        })
    }
}

/// A thread that reads every so many parts ahead.
struct Lane<'scope> {
    /// Its batches; None ends a part.
    batches: Receiver<Option<Batch>>,
    /// Batches that are filled again.
    spare: Sender<Batch>,
    worker: ScopedJoinHandle<'scope, Result<()>>,
}

impl ScoredRecords<'_> {
    /// Reads the parts `first`, `first + step` … on a thread.
    fn read_ahead<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        first: usize,
        step: usize,
        rowless: bool,
        progress: &'scope Progress,
    ) -> Lane<'scope> {
        let (send, batches) = bounded::<Option<Batch>>(AHEAD);
        let (give_back, spare) = bounded::<Batch>(AHEAD + 2);
        let worker = scope.spawn(move || -> Result<()> {
            // Goes on from part to part: an external column may be one large row group.
            let mut state = self.start();
            for part in (first..self.records.len()).step_by(step) {
                self.stream(&mut state, part..part + 1, rowless, progress, &mut |batch| {
                    // The batch goes out whole; one that came back is filled next.
                    let columns = batch.columns.len();
                    let mut next = spare.try_recv().unwrap_or_default();
                    next.columns.resize_with(columns, Vec::new);
                    send.send(Some(std::mem::replace(batch, next))).map_err(|_| Error::Interrupted)
                })?;
                send.send(None).map_err(|_| Error::Interrupted)?;
            }
            Ok(())
        });
        Lane { batches, spare: give_back, worker }
    }
}

/// Visits the batches of all parts in order, until a visit or a worker fails; a worker says itself why it failed.
fn visit_in_turn(
    lanes: &[Lane<'_>],
    parts: usize,
    visit: &mut dyn FnMut(&Batch) -> Result<()>,
) -> Result<()> {
    for part in 0..parts {
        let Lane { batches, spare, .. } = &lanes[part % lanes.len()];
        loop {
            match batches.recv() {
                Ok(Some(batch)) => {
                    visit(&batch)?;
                    let _ = spare.try_send(batch);
                }
                Ok(None) => break,
                Err(_) => return Ok(()),
            }
        }
    }
    Ok(())
}
