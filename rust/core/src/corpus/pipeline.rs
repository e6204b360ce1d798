//! The pipeline of every pass over text. Chunks are read in order and processed by several threads; their results are
//! passed on in order. The number of chunks in flight and their bytes are bounded.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::corpus::chunk::Chunk;
use crate::corpus::files_read::CorpusRead;
use crate::corpus::reading::read;
use crate::corpus::request::Corpus;
use crate::corpus::row_filter::{RowFilter, WantedRows};
use crate::text::repair::Repairer;
use crate::{Error, Progress, Result};

/// Default limit of text in flight in bytes, for corpora with long lines; a single larger chunk may pass.
const BYTES_IN_FLIGHT: usize = 256 << 20;

/// A gate that bounds the chunks in flight: those that were read and whose results were not passed on yet.
struct InFlight {
    max_chunks: usize,
    max_bytes: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    chunks: usize,
    bytes: usize,
    closed: bool,
}

impl InFlight {
    fn new(max_chunks: usize, max_bytes: usize) -> Self {
        Self { max_chunks, max_bytes, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Waits until a chunk may enter; false if the pipeline has ended.
    fn enter(&self, bytes: usize) -> bool {
        let full = |state: &mut State| {
            let over_limit = state.chunks >= self.max_chunks || state.bytes + bytes > self.max_bytes;
            // An empty pipeline takes any chunk, or one over the limit would wait for ever.
            !state.closed && state.chunks > 0 && over_limit
        };
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        state.chunks += 1;
        state.bytes += bytes;
        !state.closed
    }

    fn leave(&self, bytes: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.chunks -= 1;
        state.bytes -= bytes;
        self.changed.notify_all();
    }
}

/// Closes the gate when the pipeline ends, however it ends.
struct CloseOnDrop(Arc<InFlight>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.0.changed.notify_all();
    }
}

/// The limit of the chunks in flight: `bytes` in all, of text and of the `record_bytes` that `work` adds per record.
#[derive(Clone, Copy)]
pub struct InFlightLimit {
    pub bytes: usize,
    pub record_bytes: usize,
}

/// What happens to every chunk before `work`, and what it weighs while it is in flight.
struct Preparing {
    limit: InFlightLimit,
    repairer: Repairer,
}

impl Preparing {
    fn weight(&self, chunk: &Chunk) -> usize {
        let copies = if self.repairer.is_off() { 1 } else { 2 };
        copies * chunk.bytes() + chunk.len() * self.limit.record_bytes
    }
}

/// `stream` without threads, which take longer than the few bytes of a fuzz target.
fn read_here<T>(
    corpus: &Corpus,
    wanted_rows: &WantedRows,
    progress: &Progress,
    work: impl Fn(Chunk) -> Result<T>,
    mut sink: impl FnMut(T) -> Result<bool>,
) -> Result<CorpusRead> {
    let mut ended = Ok(true);
    let repairer = Repairer::new(&corpus.repair);
    let files = read(corpus, &mut RowFilter::open(wanted_rows), progress, |mut chunk| {
        ended = chunk.decode(&repairer).and_then(|()| sink(work(chunk)?));
        matches!(ended, Ok(true))
    });
    ended.and(files)
}

/// Runs `work` on every chunk, on `threads` threads, and `sink` on the results, in row order, on this thread.
/// `sink` returns false to stop early; the result is then empty.
pub fn stream<T: Send>(
    corpus: &Corpus,
    wanted_rows: &WantedRows,
    threads: usize,
    progress: &Progress,
    work: impl Fn(Chunk) -> Result<T> + Sync,
    sink: impl FnMut(T) -> Result<bool>,
) -> Result<CorpusRead> {
    stream_within(
        InFlightLimit { bytes: BYTES_IN_FLIGHT, record_bytes: 0 },
        corpus,
        wanted_rows,
        threads,
        progress,
        work,
        sink,
    )
}

/// Like `stream`, with another limit of the chunks in flight.
pub fn stream_within<T: Send>(
    limit: InFlightLimit,
    corpus: &Corpus,
    wanted_rows: &WantedRows,
    threads: usize,
    progress: &Progress,
    work: impl Fn(Chunk) -> Result<T> + Sync,
    sink: impl FnMut(T) -> Result<bool>,
) -> Result<CorpusRead> {
    if cfg!(fuzzing) {
        return read_here(corpus, wanted_rows, progress, work, sink);
    }
    let threads = threads.max(1);
    let chunks_in_flight = 4 * threads;
    let preparing = Preparing { limit, repairer: Repairer::new(&corpus.repair) };
    let preparing = &preparing;
    thread::scope(|scope| {
        let (chunk_in, chunk_out) = bounded(chunks_in_flight);
        let (done_in, done_out) = bounded(chunks_in_flight);
        let in_flight = Arc::new(InFlight::new(chunks_in_flight, limit.bytes));
        let close_on_drop = CloseOnDrop(Arc::clone(&in_flight));
        let reader = scope.spawn(move || {
            let mut number = 0;
            read(corpus, &mut RowFilter::open(wanted_rows), progress, |chunk| {
                let sent =
                    in_flight.enter(preparing.weight(&chunk)) && chunk_in.send((number, chunk)).is_ok();
                number += 1;
                sent
            })
        });
        for _ in 0..threads {
            let (chunk_out, done_in, work) = (chunk_out.clone(), done_in.clone(), &work);
            scope.spawn(move || process(&chunk_out, &done_in, preparing, work));
        }
        drop((chunk_out, done_in));
        if !pass_on(&done_out, &close_on_drop.0, progress, sink)? {
            return Ok(CorpusRead::default());
        }
        reader.join().unwrap_or_else(|_| Err(Error::input("a reader panicked: this is a bug of catprune")))
    })
}

/// The number of a chunk, its weight, and its result.
type Done<T> = (u64, usize, Result<T>);

/// Runs `work` on chunks, until there are no more or nobody takes the results.
fn process<T>(
    chunks: &Receiver<(u64, Chunk)>,
    done: &Sender<Done<T>>,
    preparing: &Preparing,
    work: &impl Fn(Chunk) -> Result<T>,
) {
    for (number, mut chunk) in chunks {
        let bytes = preparing.weight(&chunk);
        // After a panic that is not caught, the sink would wait for this chunk for ever.
        let result = catch_unwind(AssertUnwindSafe(|| {
            chunk.decode(&preparing.repairer)?;
            work(chunk)
        }))
        .unwrap_or_else(|_| Err(Error::input("a worker panicked: this is a bug of catprune")));
        if done.send((number, bytes, result)).is_err() {
            return;
        }
    }
}

/// Runs `sink` on the results in the order of the chunks; false if it stopped early.
fn pass_on<T>(
    done: &Receiver<Done<T>>,
    in_flight: &InFlight,
    progress: &Progress,
    mut sink: impl FnMut(T) -> Result<bool>,
) -> Result<bool> {
    // Results that arrived before their turn, by the number of the chunk.
    let mut waiting = BTreeMap::new();
    let mut next = 0;
    loop {
        progress.check()?;
        let (number, bytes, result) = match done.recv_timeout(Duration::from_millis(50)) {
            Ok(done) => done,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(true),
        };
        waiting.insert(number, (bytes, result));
        while let Some((bytes, result)) = waiting.remove(&next) {
            next += 1;
            if !sink(result?)? {
                return Ok(false);
            }
            in_flight.leave(bytes);
        }
    }
}
