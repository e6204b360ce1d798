//! Whether a disk has room for what a pass is going to write, told before it is full.

use std::path::Path;

use crate::{Error, Result};

/// Fails if the disk of `folder` has fewer free bytes than `needed`; `what` says for what.
pub fn require(folder: &Path, needed: u64, what: &str) -> Result<()> {
    let disk = rustix::fs::statvfs(folder).map_err(|error| Error::io(folder)(error.into()))?;
    let free = disk.f_bavail * disk.f_frsize;
    if needed <= free {
        return Ok(());
    }
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(Error::input(format!(
        "{}: {what} need about {} MiB of disk, {} MiB are free: make room, or give another disk",
        folder.display(),
        mebibytes(needed),
        mebibytes(free)
    )))
}
