//! Independent pieces of work on several threads.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::{Error, Result};

/// Runs `work` on the numbers below `count`, on at most `threads` threads, each with a state of its own; gives what it
/// returned, in the order of the numbers. After an error no more is begun.
pub fn on_threads<S, T: Send>(
    threads: usize,
    count: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let worker = || {
        let (mut state, mut done) = (state(), Vec::new());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return done;
            }
            match work(&mut state, number) {
                Ok(result) => done.push((number, result)),
                Err(error) => {
                    next.store(count, Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    return done;
                }
            }
        }
    };
    let panicked = || Error::input("a worker panicked: this is a bug of catprune");
    let mut done = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(count)).map(|_| scope.spawn(worker)).collect();
        // Every thread is waited for, also after one has panicked.
        let joined: Vec<_> =
            workers.into_iter().map(|worker| worker.join().map_err(|_| panicked())).collect();
        joined
            .into_iter()
            .collect::<Result<Vec<_>>>()
            .map(|done| done.into_iter().flatten().collect::<Vec<_>>())
    })?;
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    done.sort_unstable_by_key(|&(number, _)| number);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
