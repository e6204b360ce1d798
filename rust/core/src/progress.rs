//! Progress and cancellation of a running pass: bytes and rows done, and a flag that stops it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::{Error, Result};

#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    rows: AtomicU64,
    stopped: AtomicBool,
}

impl Progress {
    /// Counts work done; bytes are those read from disk, compressed where the file is.
    pub fn add(&self, bytes: u64, rows: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.rows.fetch_add(rows, Relaxed);
    }

    /// Bytes and rows done so far.
    pub fn done(&self) -> (u64, u64) {
        (self.bytes.load(Relaxed), self.rows.load(Relaxed))
    }

    /// Asks the pass to end at its next check.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Ends a stopped pass with `Error::Interrupted`.
    pub fn check(&self) -> Result<()> {
        if self.is_stopped() { Err(Error::Interrupted) } else { Ok(()) }
    }
}
