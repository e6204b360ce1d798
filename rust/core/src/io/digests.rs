//! Digests: xxh3-128 of bytes, of files, and of streams while they are read or written.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::io::plain_file::open_plain;
use crate::io::threads::on_threads;
use crate::{Error, Progress, Result};

/// A reader or writer that hashes and counts the bytes that pass.
pub struct Hashed<W> {
    pub inner: W,
    hash: Xxh3,
    pub bytes: u64,
}

impl<W> Hashed<W> {
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Xxh3::new(), bytes: 0 }
    }

    /// xxh3-128 of the bytes so far, 32 hexadecimal digits.
    pub fn digest(&self) -> String {
        format!("{:032x}", self.hash.digest128())
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: io::Read> io::Read for Hashed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hash.update(&bytes[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// xxh3-128 of `bytes`, 32 hexadecimal digits.
pub fn digest_bytes(bytes: &[u8]) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(bytes))
}

/// xxh3-128 of a file, 32 hexadecimal digits.
pub fn digest_file(path: &Path, progress: &Progress) -> Result<String> {
    digest_open(open_plain(path)?, path, progress, |read| progress.add(read, 0))
}

/// The digests of files, on several threads.
pub fn digest_files(paths: &[PathBuf], threads: usize, progress: &Progress) -> Result<Vec<String>> {
    on_threads(threads, paths.len(), || (), |(), number| digest_file(&paths[number], progress))
}

/// xxh3-128 of an open file from its position on, 32 hexadecimal digits. The file is hashed even if its name now has
/// another file. Calls `count` with the number of bytes of each read.
pub fn digest_open(file: File, path: &Path, progress: &Progress, count: impl Fn(u64)) -> Result<String> {
    let mut file = Hashed::new(file);
    let mut buffer = vec![0; 1 << 20];
    loop {
        progress.check()?;
        let read = io::Read::read(&mut file, &mut buffer).map_err(Error::io(path))?;
        if read == 0 {
            return Ok(file.digest());
        }
        count(read as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_come_in_the_order_of_the_files() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("catprune-digests-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let texts: Vec<String> = (0..50).map(|number| "x".repeat(number * 1000)).collect();
        let paths: Vec<PathBuf> = (0..50).map(|number| folder.join(number.to_string())).collect();
        for (path, text) in paths.iter().zip(&texts) {
            std::fs::write(path, text).map_err(Error::io(path))?;
        }
        let expected: Vec<String> = texts.iter().map(|text| digest_bytes(text.as_bytes())).collect();
        for threads in [1, 2, 8] {
            assert_eq!(digest_files(&paths, threads, &Progress::default())?, expected);
        }
        std::fs::remove_file(&paths[7]).map_err(Error::io(&paths[7]))?;
        let missing = digest_files(&paths, 4, &Progress::default());
        assert!(matches!(missing, Err(Error::Io { path, .. }) if path == paths[7]));
        let stopped = Progress::default();
        stopped.stop();
        assert!(matches!(digest_files(&paths[..5], 2, &stopped), Err(Error::Interrupted)));
        let _ = std::fs::remove_dir_all(&folder);
        Ok(())
    }
}
