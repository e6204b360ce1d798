//! Temporary folders, and checks of free disk space before a pass writes much.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Fails if the disk of `folder` has fewer free bytes than `needed`. `what` names the files in the message, in the
/// plural.
pub fn require(folder: &Path, needed: u64, what: &str) -> Result<()> {
    let disk = rustix::fs::statvfs(folder).map_err(|error| Error::io(folder)(error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if needed <= free {
        return Ok(());
    }
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(Error::input(format!(
        "{}: {what} need about {} MiB of disk, but {} MiB are free: free some space, or use another disk",
        folder.display(),
        mebibytes(needed),
        mebibytes(free)
    )))
}

/// Whether two folders are on one disk.
pub fn are_one(folder: &Path, other: &Path) -> Result<bool> {
    let device = |path: &Path| Ok(fs::metadata(path).map_err(Error::io(path))?.dev());
    Ok(device(folder)? == device(other)?)
}

/// A folder of temporary files. Files of a killed run are removed first; the folder is removed when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn create(path: &Path) -> Result<Self> {
        if path.exists() {
            fs::remove_dir_all(path).map_err(Error::io(path))?;
        }
        fs::create_dir_all(path).map_err(Error::io(path))?;
        Ok(Self(path.to_owned()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
