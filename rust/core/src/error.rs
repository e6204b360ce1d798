//! The errors of a pass. A message says what is wrong, in which file and line, and what to do. It names options as
//! Python does (`force = true`), because Python and the command line share it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

/// A row of the corpus in a message. Lines of files count from 1, so a message says where rows count from.
pub struct Row<N>(pub N);

impl<N: fmt::Display> fmt::Display for Row<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "row {} (rows count from 0)", self.0)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call of the operating system failed; becomes an `OSError` with the path.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The input, a folder or an option is wrong; becomes a `CatpruneError`.
    #[error("{0}")]
    Input(String),
    /// The caller stopped the pass (Ctrl-C).
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Adds the path to an I/O error: `.map_err(Error::io(path))`.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// An error of the Parquet library about `path`; an I/O error inside it (such as a full disk) stays one.
    pub fn parquet(path: &Path, error: parquet::errors::ParquetError) -> Self {
        use parquet::errors::ParquetError;
        // What the library says of codecs, encodings and types that it does not know.
        let is_unknown = |text: &str| text.contains("support") || text.contains("encrypt");
        match error {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(source) => Self::Io { path: path.to_owned(), source: *source },
                Err(inner) => Self::damaged(path, &inner),
            },
            ParquetError::NYI(cause) => Self::unknown(path, &cause),
            ParquetError::General(cause) if is_unknown(&cause) => Self::unknown(path, &cause),
            error => Self::damaged(path, &error),
        }
    }

    fn unknown(path: &Path, cause: &str) -> Self {
        let path = path.display();
        Self::Input(format!(
            "{path} has what this version cannot read ({cause}): write it with another codec or encoding"
        ))
    }

    fn damaged(path: &Path, cause: &dyn std::fmt::Display) -> Self {
        let path = path.display();
        Self::Input(format!("{path} is damaged, or not Parquet ({cause}): fetch the file, or write it again"))
    }

    /// A file without content where text is needed.
    pub fn empty(path: &Path) -> Self {
        Self::Input(format!("{} is empty: leave the file out, or fetch it again", path.display()))
    }

    pub fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }
}
