//! Duplicates that were found after the text had passed: temporary files of rows and of the rows that are kept in their
//! place, ascending, and their merging.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result, Watch};

const RECORD_BYTES: u64 = 16;
const BUFFER_BYTES: usize = 1 << 16;

/// Writes duplicates in the order of their rows.
pub struct FoundWriter {
    path: PathBuf,
    file: BufWriter<File>,
    count: u64,
}

impl FoundWriter {
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(Error::io(path))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::with_capacity(BUFFER_BYTES, file), count: 0 })
    }

    pub fn add(&mut self, row: u64, of: u64) -> Result<()> {
        self.count += 1;
        let mut record = [0; RECORD_BYTES as usize];
        record[..8].copy_from_slice(&row.to_le_bytes());
        record[8..].copy_from_slice(&of.to_le_bytes());
        self.file.write_all(&record).map_err(Error::io(&self.path))
    }

    /// None, and no file, if there were none.
    pub fn finish(mut self) -> Result<Option<Found>> {
        self.file.flush().map_err(Error::io(&self.path))?;
        if self.count == 0 {
            fs::remove_file(&self.path).map_err(Error::io(&self.path))?;
            return Ok(None);
        }
        Ok(Some(Found { path: self.path, left: self.count, file: None }))
    }
}

/// A file of duplicates; it is opened when it is first read, and removed when it is dropped.
pub struct Found {
    path: PathBuf,
    left: u64,
    file: Option<BufReader<File>>,
}

impl Found {
    fn next(&mut self) -> Result<Option<(u64, u64)>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let read = |found: &mut Self| -> io::Result<(u64, u64)> {
            let file = match &mut found.file {
                Some(file) => file,
                empty => empty.insert(BufReader::with_capacity(BUFFER_BYTES, File::open(&found.path)?)),
            };
            let (mut row, mut of) = ([0; 8], [0; 8]);
            file.read_exact(&mut row)?;
            file.read_exact(&mut of)?;
            Ok((u64::from_le_bytes(row), u64::from_le_bytes(of)))
        };
        read(self).map(Some).map_err(Error::io(&self.path))
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Several files as one: ascending rows, each once, with the lowest of the rows that are kept in its place.
pub struct Merged {
    parts: Vec<Found>,
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    last: Option<u64>,
}

impl Merged {
    pub fn of(parts: Vec<Found>) -> Result<Self> {
        let mut merged = Self { parts, heap: BinaryHeap::new(), last: None };
        for number in 0..merged.parts.len() {
            merged.advance(number)?;
        }
        Ok(merged)
    }

    fn advance(&mut self, number: usize) -> Result<()> {
        if let Some((row, of)) = self.parts[number].next()? {
            self.heap.push(Reverse((row, of, number)));
        }
        Ok(())
    }

    /// Makes one file of what is left; `see` is told every row.
    pub fn into_file(
        mut self,
        path: &Path,
        watch: &Watch,
        mut see: impl FnMut(u64),
    ) -> Result<Option<Found>> {
        let mut writer = FoundWriter::create(path)?;
        while let Some((row, of)) = self.next_below(u64::MAX)? {
            if writer.count.is_multiple_of(1 << 16) {
                watch.check()?;
            }
            see(row);
            writer.add(row, of)?;
        }
        writer.finish()
    }

    /// The next duplicate, if its row lies below `end`.
    pub fn next_below(&mut self, end: u64) -> Result<Option<(u64, u64)>> {
        while let Some(&Reverse((row, of, number))) = self.heap.peek()
            && row < end
        {
            self.heap.pop();
            self.advance(number)?;
            if self.last != Some(row) {
                self.last = Some(row);
                return Ok(Some((row, of)));
            }
        }
        Ok(None)
    }
}
