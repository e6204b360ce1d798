//! The streaming passes of catprune, without Python: every pass reads files, writes files, holds a bounded
//! amount of the corpus in memory, and gives the same bytes whatever the number of threads.

pub mod best_rows;
pub mod clean;
pub mod clean_shards;
pub mod codec;
pub mod columns;
pub mod corpus;
pub mod cut;
pub mod disk;
pub mod draft;
pub mod duplicates;
pub mod encoding;
pub mod error;
pub mod examples;
pub mod fields;
pub mod fingerprints;
pub mod first_rows;
pub mod foreign;
pub mod format;
pub mod found;
pub mod json;
pub mod kept;
pub mod ledger;
pub mod lines;
pub mod methods;
pub mod normal;
pub mod outputs;
pub mod pairs;
pub mod partitions;
pub mod progress;
pub mod quota;
pub mod radix;
pub mod records;
pub mod rules;
pub mod select;
pub mod selection;
pub mod shards;
pub mod stream;
pub mod table;
pub mod tmx;
pub mod tokenize;
pub mod watch;
pub mod write;

pub use error::{Error, Result};
pub use watch::Watch;
