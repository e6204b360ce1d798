//! Opens regular files, and refuses folders, pipes and devices.

use std::fs::File;
use std::path::Path;

use crate::{Error, Result};

/// Opens a regular file. The type is checked first: opening a named pipe would block until another process writes to
/// it.
pub fn open_plain(path: &Path) -> Result<File> {
    let kind = std::fs::metadata(path).map_err(Error::io(path))?.file_type();
    if !kind.is_file() {
        let kind =
            if kind.is_dir() { "a folder" } else { "a pipe or device, which later steps cannot read again" };
        return Err(Error::input(format!("{} is {kind}: give a regular file", path.display())));
    }
    File::open(path).map_err(Error::io(path))
}
