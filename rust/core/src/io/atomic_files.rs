//! Atomic files: written under a temporary name, synced, renamed, and their folder synced.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded};

use crate::io::digests::Hashed;
use crate::{Error, Result};

/// A file that is written as `<path>.tmp`; removed if it is dropped before it is published.
pub struct Draft {
    path: PathBuf,
    temporary: PathBuf,
    stream: Option<BufWriter<Hashed<File>>>,
    background_sync: Option<BackgroundSync>,
}

/// A thread that syncs a file while it is written, so that the final sync has little left to write.
struct BackgroundSync {
    requests: Sender<()>,
    thread: JoinHandle<io::Result<()>>,
    /// Bytes written since the last request.
    unsynced: usize,
}

/// Bytes written between two requests to sync.
const SYNC_BYTES: usize = 32 << 20;

/// A finished draft that still has its temporary name, so that several files can be published together.
pub struct Sealed {
    path: PathBuf,
    temporary: PathBuf,
    renamed: bool,
    pub digest: String,
}

/// A temporary file of a pass; removed when dropped.
pub struct Temporary {
    pub path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Draft {
    pub fn create(path: &Path) -> Result<Self> {
        let temporary = temporary_name(path);
        let file = File::create(&temporary).map_err(Error::io(&temporary))?;
        let stream = Some(BufWriter::with_capacity(1 << 20, Hashed::new(file)));
        Ok(Self { path: path.to_owned(), temporary, stream, background_sync: None })
    }

    /// Starts to sync the file while it is written; for large files.
    pub fn sync_in_background(&mut self) -> Result<()> {
        let Some(stream) = &self.stream else { return Ok(()) };
        let file = stream.get_ref().inner.try_clone().map_err(Error::io(&self.path))?;
        let (requests, received) = bounded(1);
        // The system reports a write error to one sync call only, so this result must not be lost.
        let thread = thread::spawn(move || received.iter().try_for_each(|()| file.sync_data()));
        self.background_sync = Some(BackgroundSync { requests, thread, unsynced: 0 });
        Ok(())
    }

    /// Flushes and syncs the bytes; the file keeps its temporary name until `Sealed::publish`.
    pub fn seal(mut self) -> Result<Sealed> {
        let path = self.path.clone();
        let failed = |source| Error::Io { path: path.clone(), source };
        let Some(stream) = self.stream.take() else {
            return Err(failed(io::Error::other("already sealed")));
        };
        let hashed = stream.into_inner().map_err(|error| failed(error.into_error()))?;
        if let Some(BackgroundSync { requests, thread, .. }) = self.background_sync.take() {
            drop(requests);
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread that syncs the file panicked")))
                .map_err(failed)?;
        }
        hashed.inner.sync_all().map_err(failed)?;
        let digest = hashed.digest();
        let temporary = std::mem::take(&mut self.temporary);
        Ok(Sealed { path, temporary, renamed: false, digest })
    }

    /// Seals and publishes the file; returns the digest of its bytes.
    pub fn publish(self) -> Result<String> {
        self.seal()?.publish()
    }

    /// Publishes under another name in the same folder, for files whose names contain their row range.
    pub fn publish_as(mut self, path: &Path) -> Result<String> {
        path.clone_into(&mut self.path);
        self.publish()
    }

    /// Ends the file under a second temporary name, so that the same pass can read it. Does not sync: the file need not
    /// outlive the process.
    pub fn keep(mut self) -> Result<Temporary> {
        if let Some(stream) = &mut self.stream {
            stream.flush().map_err(Error::io(&self.path))?;
        }
        let kept = Temporary { path: with_suffix(&self.path, ".waiting.tmp") };
        fs::rename(&self.temporary, &kept.path).map_err(Error::io(&kept.path))?;
        self.temporary = PathBuf::new();
        Ok(kept)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(stream) = &mut self.stream else { return Err(io::Error::other("already sealed")) };
        let written = stream.write(bytes)?;
        if let Some(sync) = &mut self.background_sync {
            sync.unsynced += written;
            // A request that still waits covers these bytes too.
            if sync.unsynced >= SYNC_BYTES && sync.requests.try_send(()).is_ok() {
                sync.unsynced = 0;
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.temporary.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

impl Sealed {
    /// Renames the file to its final name and syncs the folder; returns the digest of the bytes.
    pub fn publish(mut self) -> Result<String> {
        fs::rename(&self.temporary, &self.path).map_err(Error::io(&self.path))?;
        self.renamed = true;
        sync_folder(&self.path)?;
        Ok(std::mem::take(&mut self.digest))
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    with_suffix(path, ".tmp")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Syncs the folder of a file, so that its name survives a crash.
pub fn sync_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // A file system that cannot sync folders, or a folder that may be written, but not read.
        Err(error) if matches!(error.kind(), InvalidInput | Unsupported | PermissionDenied) => Ok(()),
        synced => synced.map_err(Error::io(folder)),
    }
}
