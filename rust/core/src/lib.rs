//! The streaming passes of catprune, without Python: every pass reads files, writes files, holds a bounded
//! amount of the corpus in memory, and gives the same bytes whatever the number of threads.

pub mod cleaning;
pub mod columns;
pub mod corpus;
pub mod duplicates;
pub mod error;
pub mod io;
pub mod progress;
pub mod selection;
pub mod stats;
pub mod text;
pub mod tokens;
pub mod writing;

pub use error::{Error, Result, Row};
pub use progress::Progress;
