//! Runs independent pieces of work on several threads, and one on a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::{Error, Result};

/// Runs `work` on the numbers below `count`, on at most `threads` threads, each with its own state. Returns the results
/// in the order of the numbers, or the first error. After an error or a panic no further number starts.
pub fn on_threads<S, T: Send>(
    threads: usize,
    count: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Ok(Vec::new())));
    let worker = || {
        let mut state = state();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(|| work(&mut state, number)))
                .unwrap_or_else(|_| Err(Error::input("a worker panicked: this is a bug of catprune")));
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *done, result) {
                (Ok(done), Ok(result)) => done.push((number, result)),
                (Ok(_), Err(error)) => {
                    next.store(count, Ordering::Relaxed);
                    *done = Err(error);
                }
                // Only the first error is reported.
                (Err(_), _) => return,
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            scope.spawn(worker);
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    done.sort_unstable_by_key(|&(number, _)| number);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// Work on a thread of its own. It is waited for, also if nobody asks for its result: no file of a pass appears after its
/// end.
pub struct Background<T>(Option<JoinHandle<Result<T>>>);

impl<T: Send + 'static> Background<T> {
    pub fn spawn(work: impl FnOnce() -> Result<T> + Send + 'static) -> Self {
        Self(Some(thread::spawn(work)))
    }
}

impl<T> Background<T> {
    pub fn join(mut self) -> Result<T> {
        self.wait()
    }

    /// Waits for the result, which is given once.
    pub fn wait(&mut self) -> Result<T> {
        let joined = self.0.take().map(JoinHandle::join);
        let panicked = || Err(Error::input("a writer panicked: this is a bug of catprune"));
        joined.and_then(std::result::Result::ok).unwrap_or_else(panicked)
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        if self.0.is_some() {
            let _ = self.wait();
        }
    }
}
