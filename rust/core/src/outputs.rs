//! Files that are written side by side, each by a thread of its own, and appear together.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded};

use crate::draft::{Draft, Sealed};
use crate::lines::FileRead;
use crate::{Error, Result};

/// Blocks that may wait for a file's thread.
const WAITING: usize = 4;

/// Drafts of files, the threads that fill them, and where blocks are handed to those.
pub struct Outputs {
    lanes: Vec<Lane>,
}

struct Lane {
    path: PathBuf,
    /// None once all was handed over, or a write failed.
    blocks: Option<Sender<Vec<u8>>>,
    writer: Option<JoinHandle<Result<Draft>>>,
}

impl Outputs {
    pub fn create(paths: &[&Path]) -> Result<Self> {
        let lanes = paths.iter().map(|path| Lane::create(path)).collect::<Result<_>>()?;
        Ok(Self { lanes })
    }

    /// Hands over the next block of every file.
    pub fn write(&mut self, blocks: impl IntoIterator<Item = Vec<u8>>) -> Result<()> {
        for (lane, block) in self.lanes.iter_mut().zip(blocks) {
            let sent = lane.blocks.as_ref().is_some_and(|blocks| blocks.send(block).is_ok());
            if !sent {
                lane.finish()?;
            }
        }
        Ok(())
    }

    /// Gives all files their names, once all are on disk. Old files of these names go first: whenever this ends, what is
    /// there is whole and of one run, or missing.
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
        sealed.into_iter().map(|(path, sealed)| name(path, sealed)).collect()
    }
}

fn name(path: PathBuf, sealed: Sealed) -> Result<FileRead> {
    let digest = sealed.publish()?;
    let bytes = fs::metadata(&path).map_err(Error::io(&path))?.len();
    Ok(FileRead { path, bytes, digest })
}

impl Lane {
    fn create(path: &Path) -> Result<Self> {
        let mut draft = Draft::create(path)?;
        draft.sync_along()?;
        let (blocks, incoming) = bounded::<Vec<u8>>(WAITING);
        let owned = path.to_owned();
        let writer = thread::spawn(move || {
            for block in incoming {
                draft.write_all(&block).map_err(Error::io(&owned))?;
            }
            Ok(draft)
        });
        Ok(Self { path: path.to_owned(), blocks: Some(blocks), writer: Some(writer) })
    }

    /// Waits until everything was written.
    fn finish(&mut self) -> Result<Draft> {
        self.blocks = None;
        let failed =
            || Error::input(format!("{}: a writer panicked: this is a bug of catprune", self.path.display()));
        self.writer.take().and_then(|writer| writer.join().ok()).unwrap_or_else(|| Err(failed()))
    }
}

impl Drop for Outputs {
    /// Unpublished drafts are removed before the caller goes on.
    fn drop(&mut self) {
        for lane in &mut self.lanes {
            if lane.writer.is_some() {
                drop(lane.finish());
            }
        }
    }
}
