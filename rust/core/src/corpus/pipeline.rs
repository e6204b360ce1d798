//! The pipeline of every pass over text: chunks are read in order, worked on by several threads, and their
//! results handed on in order again, with a bounded number under way.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

use crate::corpus::chunk::Chunk;
use crate::corpus::files_read::CorpusRead;
use crate::corpus::reading::read;
use crate::corpus::request::Corpus;
use crate::corpus::row_filter::{Kept, KeptIn};
use crate::{Error, Result, Watch};

/// Text under way at most, where the caller does not say, unless a single chunk is larger; long lines must not add up.
const BYTES_UNDER_WAY: usize = 256 << 20;

/// How much is under way: read, and not handed on yet.
struct Room {
    most: usize,
    most_bytes: usize,
    inside: Mutex<Inside>,
    left: Condvar,
}

#[derive(Default)]
struct Inside {
    chunks: usize,
    bytes: usize,
    closed: bool,
}

impl Room {
    fn new(most: usize, most_bytes: usize) -> Self {
        Self { most, most_bytes, inside: Mutex::default(), left: Condvar::new() }
    }

    /// Waits until a chunk may come in; false if nothing will be handed on any more.
    fn enter(&self, bytes: usize) -> bool {
        let full = |inside: &mut Inside| {
            let crowded = inside.chunks >= self.most || inside.bytes + bytes > self.most_bytes;
            !inside.closed && inside.chunks > 0 && crowded
        };
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inside = self.left.wait_while(inside, full).unwrap_or_else(PoisonError::into_inner);
        inside.chunks += 1;
        inside.bytes += bytes;
        !inside.closed
    }

    fn leave(&self, bytes: usize) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.chunks -= 1;
        inside.bytes -= bytes;
        self.left.notify_all();
    }
}

/// Closes the room when the pipeline ends, however it ends.
struct Leaving(Arc<Room>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.inside.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.0.left.notify_all();
    }
}

/// What may be under way: bytes of text, and of what `work` makes of each record besides.
#[derive(Clone, Copy)]
pub struct UnderWay {
    pub bytes: usize,
    pub record_bytes: usize,
}

impl UnderWay {
    fn weight(self, chunk: &Chunk) -> usize {
        chunk.bytes() + chunk.len() * self.record_bytes
    }
}

/// Runs `work` on every chunk, on `threads` threads, and `sink` on the results, in row order, on this thread.
/// `sink` says false to stop early.
pub fn stream<T: Send>(
    corpus: &Corpus,
    kept_in: &KeptIn,
    threads: usize,
    watch: &Watch,
    work: impl Fn(Chunk) -> Result<T> + Sync,
    sink: impl FnMut(T) -> Result<bool>,
) -> Result<CorpusRead> {
    stream_within(
        UnderWay { bytes: BYTES_UNDER_WAY, record_bytes: 0 },
        corpus,
        kept_in,
        threads,
        watch,
        work,
        sink,
    )
}

/// The same with at most so much under way.
pub fn stream_within<T: Send>(
    most: UnderWay,
    corpus: &Corpus,
    kept_in: &KeptIn,
    threads: usize,
    watch: &Watch,
    work: impl Fn(Chunk) -> Result<T> + Sync,
    mut sink: impl FnMut(T) -> Result<bool>,
) -> Result<CorpusRead> {
    let threads = threads.max(1);
    let under_way = 4 * threads;
    thread::scope(|scope| {
        let (chunk_in, chunk_out) = bounded::<(u64, Chunk)>(under_way);
        let (done_in, done_out) = bounded::<(u64, usize, Result<T>)>(under_way);
        let room = Arc::new(Room::new(under_way, most.bytes));
        let leaving = Leaving(Arc::clone(&room));
        let entrance = Arc::clone(&room);
        let reader = scope.spawn(move || {
            let mut number = 0;
            read(corpus, &mut Kept::open(kept_in), watch, |chunk| {
                let sent = entrance.enter(most.weight(&chunk)) && chunk_in.send((number, chunk)).is_ok();
                number += 1;
                sent
            })
        });
        for _ in 0..threads {
            let (chunk_out, done_in, work) = (chunk_out.clone(), done_in.clone(), &work);
            scope.spawn(move || {
                for (number, mut chunk) in chunk_out {
                    let bytes = most.weight(&chunk);
                    // A panic must not leave the others waiting for this chunk for ever.
                    let result = catch_unwind(AssertUnwindSafe(|| {
                        chunk.decode()?;
                        work(chunk)
                    }))
                    .unwrap_or_else(|_| Err(Error::input("a worker panicked: this is a bug of catprune")));
                    if done_in.send((number, bytes, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop((chunk_out, done_in));
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        loop {
            watch.check()?;
            let (number, bytes, result) = match done_out.recv_timeout(Duration::from_millis(50)) {
                Ok(done) => done,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            waiting.insert(number, (bytes, result));
            while let Some((bytes, result)) = waiting.remove(&next) {
                next += 1;
                if !sink(result?)? {
                    return Ok(CorpusRead::default());
                }
                leaving.0.leave(bytes);
            }
        }
        reader.join().unwrap_or_else(|_| Err(Error::input("a reader panicked: this is a bug of catprune")))
    })
}
