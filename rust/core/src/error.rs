//! What can go wrong in a pass; every message names the file, and the line or the remedy.

use std::io;
use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused; it becomes an `OSError` with the path.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The input, a folder or an option is wrong; it becomes a `CatpruneError`.
    #[error("{0}")]
    Input(String),
    /// The caller asked to stop (Ctrl-C).
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Wraps an I/O error with the path that it concerns: `.map_err(Error::io(path))`.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// An error of the Parquet or Arrow libraries about `path`; a full disk stays an I/O error.
    pub fn parquet(path: &Path, error: parquet::errors::ParquetError) -> Self {
        if let parquet::errors::ParquetError::External(inner) = error {
            return match inner.downcast::<io::Error>() {
                Ok(source) => Self::Io { path: path.to_owned(), source: *source },
                Err(inner) => Self::damaged(path, &inner),
            };
        }
        Self::damaged(path, &error)
    }

    fn damaged(path: &Path, why: &dyn std::fmt::Display) -> Self {
        Self::Input(format!("{} cannot be read as Parquet ({why}): make it again", path.display()))
    }

    pub fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }
}
