//! Lines of one file in chunks of a fixed number of lines; its raw bytes are hashed on the way.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use memchr::memchr;

use crate::codec::{BUFFER_BYTES, Decoder};
use crate::{Error, Result, Watch};

/// Lines of a chunk; a chunk is the unit that workers get, so outputs must not depend on its place.
pub const CHUNK_LINES: usize = 4096;

/// Consecutive lines without their ends (`\n`, and one `\r` before it).
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    too_long: Vec<usize>,
}

impl Lines {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all lines.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn line(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// Whether the line was over the limit; its text was not kept.
    pub fn is_too_long(&self, index: usize) -> bool {
        self.too_long.binary_search(&index).is_ok()
    }
}

/// What was read of one file, once it has ended.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, PartialEq, Eq)]
pub struct FileRead {
    pub path: PathBuf,
    pub bytes: u64,
    /// xxh3-128 of the bytes as they are on disk.
    pub digest: String,
}

pub struct LineReader<'w> {
    path: PathBuf,
    decoder: Decoder<'w>,
    max_line_bytes: usize,
    buffer: Vec<u8>,
    position: usize,
    filled: usize,
    /// Lines handed out so far.
    pub lines: u64,
}

impl<'w> LineReader<'w> {
    /// Opens a file; compression is told by the first bytes, not by the name.
    pub fn open(path: &Path, max_line_bytes: usize, watch: &'w Watch) -> Result<Self> {
        let decoder = Decoder::open(path, watch)?;
        let buffer = vec![0; BUFFER_BYTES];
        Ok(Self { path: path.to_owned(), decoder, max_line_bytes, buffer, position: 0, filled: 0, lines: 0 })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next `CHUNK_LINES` lines; fewer at the end, none after it.
    pub fn chunk(&mut self) -> Result<Lines> {
        self.take(CHUNK_LINES)
    }

    /// The next `count` lines; fewer at the end, none after it.
    pub fn take(&mut self, count: usize) -> Result<Lines> {
        let mut chunk = Lines::default();
        while chunk.len() < count && self.line(&mut chunk)? {}
        self.lines += chunk.len() as u64;
        Ok(chunk)
    }

    /// Appends one line; false at the end of the file.
    fn line(&mut self, chunk: &mut Lines) -> Result<bool> {
        let start = chunk.bytes.len();
        let (mut any, mut long) = (false, false);
        loop {
            if self.position == self.filled && !self.fill(chunk)? {
                if any {
                    long |= chunk.bytes.len() - start > self.max_line_bytes;
                    finish_line(chunk, start, long);
                }
                return Ok(any);
            }
            any = true;
            let rest = &self.buffer[self.position..self.filled];
            let end = memchr(b'\n', rest);
            let piece = &rest[..end.unwrap_or(rest.len())];
            // One more byte than the limit may come: the `\r` of the line's end.
            long |= chunk.bytes.len() - start + piece.len() > self.max_line_bytes + 1;
            if long {
                chunk.bytes.truncate(start);
            } else {
                chunk.bytes.extend_from_slice(piece);
            }
            self.position += piece.len() + usize::from(end.is_some());
            if end.is_some() {
                if chunk.bytes.len() > start && chunk.bytes.ends_with(b"\r") {
                    chunk.bytes.pop();
                }
                long |= chunk.bytes.len() - start > self.max_line_bytes;
                finish_line(chunk, start, long);
                return Ok(true);
            }
        }
    }

    fn fill(&mut self, chunk: &Lines) -> Result<bool> {
        self.position = 0;
        self.filled = loop {
            match self.decoder.read(&mut self.buffer) {
                Ok(filled) => break filled,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(error, chunk)),
            }
        };
        Ok(self.filled > 0)
    }

    fn explain(&self, error: io::Error, chunk: &Lines) -> Error {
        let line = self.lines + chunk.len() as u64;
        self.decoder.explain(error, &self.path, &format!("line {line}"))
    }

    /// Reads what is left and gives the file's digest.
    pub fn finish(mut self) -> Result<FileRead> {
        let raw = self.decoder.raw();
        let copied = io::copy(raw, &mut io::sink());
        let (bytes, digest) = (raw.bytes, raw.digest());
        copied.map_err(|error| self.explain(error, &Lines::default()))?;
        Ok(FileRead { path: self.path, bytes, digest })
    }
}

fn finish_line(chunk: &mut Lines, start: usize, long: bool) {
    if long {
        chunk.bytes.truncate(start);
        chunk.too_long.push(chunk.ends.len());
    }
    chunk.ends.push(chunk.bytes.len());
}
