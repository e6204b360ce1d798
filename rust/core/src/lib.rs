//! The streaming passes of catprune, without Python: every pass reads files, writes files, holds a bounded
//! amount of the corpus in memory, and gives the same bytes whatever the number of threads.

pub mod clean;
pub mod columns;
pub mod corpus;
pub mod cut;
pub mod draft;
pub mod duplicates;
pub mod error;
pub mod feed;
pub mod foreign;
pub mod groups;
pub mod kept;
pub mod lines;
pub mod merge;
pub mod methods;
pub mod npy;
pub mod progress;
pub mod quota;
pub mod radix;
pub mod ranks;
pub mod records;
pub mod rules;
pub mod select;
pub mod selection;
pub mod shards;
pub mod stream;
pub mod tokenize;
pub mod watch;
pub mod write;

pub use error::{Error, Result};
pub use watch::Watch;
