//! Files and threads for every format: compression, encodings, atomic files, digests, disk space, spools.

pub mod atomic_files;
pub mod compression;
pub mod content;
pub mod digests;
pub mod disk;
pub mod encoding;
pub mod gzip;
pub mod panics;
pub mod plain_file;
pub mod spool;
pub mod threads;
