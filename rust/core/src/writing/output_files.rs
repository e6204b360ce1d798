//! Output files, each written by its own thread, and published together.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded};

use crate::corpus::files_read::FileRead;
use crate::io::atomic_files::{Sealed, sync_folder};
use crate::writing::formats::{Piece, Sink};
use crate::{Error, Result};

/// The most pieces that wait for the thread of a file.
const WAITING: usize = 4;

/// The threads that write the files, and the channels to them.
pub struct Outputs {
    lanes: Vec<Lane>,
}

struct Lane {
    path: PathBuf,
    /// None after the last piece, or after a failed write.
    pieces: Option<Sender<Piece>>,
    writer: Option<JoinHandle<Result<Sink>>>,
}

impl Outputs {
    pub fn new(sinks: Vec<Sink>, paths: &[&Path]) -> Self {
        Self { lanes: sinks.into_iter().zip(paths).map(|(sink, path)| Lane::new(sink, path)).collect() }
    }

    /// Sends the next piece of every file to its thread.
    pub fn write(&mut self, pieces: impl IntoIterator<Item = Piece>) -> Result<()> {
        for (lane, piece) in self.lanes.iter_mut().zip(pieces) {
            let sent = lane.pieces.as_ref().is_some_and(|pieces| pieces.send(piece).is_ok());
            if !sent {
                lane.finish()?;
            }
        }
        Ok(())
    }

    /// Renames all files to their names, once all are on disk. Old files with these names are removed first, and the
    /// removal is synced: after a crash, every file is complete and from this run, or missing.
    pub fn publish(mut self) -> Result<Vec<FileRead>> {
        let mut sealed = Vec::with_capacity(self.lanes.len());
        for lane in &mut self.lanes {
            sealed.push((lane.path.clone(), lane.finish()?.seal()?));
        }
        for (path, _) in &sealed {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io(path)(error)),
                _ => {}
            }
        }
        sealed.iter().try_for_each(|(path, _)| sync_folder(path))?;
        sealed.into_iter().map(|(path, sealed)| name(path, sealed)).collect()
    }
}

fn name(path: PathBuf, sealed: Sealed) -> Result<FileRead> {
    let digest = sealed.publish()?;
    let bytes = fs::metadata(&path).map_err(Error::io(&path))?.len();
    Ok(FileRead { path, bytes, digest })
}

impl Lane {
    fn new(mut sink: Sink, path: &Path) -> Self {
        let (pieces, incoming) = bounded::<Piece>(WAITING);
        let writer = thread::spawn(move || {
            incoming.iter().try_for_each(|piece| sink.write(&piece))?;
            Ok(sink)
        });
        Self { path: path.to_owned(), pieces: Some(pieces), writer: Some(writer) }
    }

    /// Waits until all pieces are written.
    fn finish(&mut self) -> Result<Sink> {
        self.pieces = None;
        let failed =
            || Error::input(format!("{}: a writer panicked: this is a bug of catprune", self.path.display()));
        self.writer.take().and_then(|writer| writer.join().ok()).unwrap_or_else(|| Err(failed()))
    }
}

impl Drop for Outputs {
    /// Waits for the threads, so that unpublished drafts are removed before the caller continues.
    fn drop(&mut self) {
        for lane in &mut self.lanes {
            if lane.writer.is_some() {
                drop(lane.finish());
            }
        }
    }
}
