//! Opens plain files, and refuses folders, pipes and devices.

use std::fs::File;
use std::path::Path;

use crate::{Error, Result};

/// Opens a plain file. The type is checked before: opening a named pipe would block until somebody writes to it.
pub fn open_plain(path: &Path) -> Result<File> {
    let kind = std::fs::metadata(path).map_err(Error::io(path))?.file_type();
    if !kind.is_file() {
        let kind = if kind.is_dir() { "a folder" } else { "no plain file, and later steps read again" };
        return Err(Error::input(format!("{} is {kind}: give a file", path.display())));
    }
    File::open(path).map_err(Error::io(path))
}
