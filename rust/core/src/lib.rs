//! The streaming passes of catprune, without Python: every pass reads files, writes files, holds a bounded
//! amount of the corpus in memory, and gives the same bytes whatever the number of threads.

pub mod clean;
pub mod columns;
pub mod corpus;
pub mod cut;
pub mod distinct;
pub mod draft;
pub mod duplicates;

pub mod error;
pub mod foreign;
pub mod histogram;
pub mod ids;
pub mod kept;
pub mod lines;
pub mod methods;
pub mod open_corpus;
pub mod progress;
pub mod quota;
pub mod radix;
pub mod records;
pub mod rules;
pub mod select;
pub mod selection;
pub mod shards;
pub mod stats;
pub mod stream;
pub mod tally;
pub mod tokenize;
pub mod watch;
pub mod write;

pub use error::{Error, Result};
pub use watch::Watch;
