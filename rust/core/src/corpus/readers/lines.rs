//! Reads the lines of one file in chunks of a fixed number of lines, without its byte order mark; hashes the raw bytes.

use std::fs;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, Sender, bounded};
use memchr::memchr_iter;

use crate::corpus::files_read::FileRead;
use crate::io::compression::Decoder;
use crate::io::content::{START_BYTES, check_content};
use crate::{Error, Progress, Result};

/// Lines per chunk. A chunk is the unit of work of a thread, so outputs must not depend on where chunks begin.
pub const CHUNK_LINES: usize = 4096;
/// Bytes per read. What is read past the end of a chunk is copied to the next chunk, so this is less than the buffers
/// of decoders.
const READ_BYTES: usize = 1 << 18;
/// Bytes per read of the smallest files.
const LEAST_READ_BYTES: usize = 1 << 12;
/// The most buffers that wait to be filled again, and the most bytes of each; others are freed.
const SPARE_BUFFERS: usize = 64;
const SPARE_BYTES: usize = 2 << 20;
/// The byte order mark of UTF-8.
pub const MARK: &[u8] = b"\xef\xbb\xbf";

/// Consecutive lines as they are in their file, with their ends. The buffers return to the reader when the lines are
/// dropped: fresh memory for every chunk would cost as much as reading.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Buffer,
    reader: Option<Sender<Buffer>>,
}

#[derive(Debug, Default)]
struct Buffer {
    /// All initialised; the text is `bytes[..filled]`.
    bytes: Vec<u8>,
    filled: usize,
    /// Where each line stops, after its `\n`.
    stops: Vec<usize>,
    /// Indices of the lines over the limit, ascending.
    too_long: Vec<usize>,
    carriage_returns: bool,
}

impl Lines {
    pub fn len(&self) -> usize {
        self.buffer.stops.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.stops.is_empty()
    }

    /// Bytes of the lines in memory.
    pub fn bytes(&self) -> usize {
        self.buffer.bytes.len()
    }

    /// The line without its end (`\n`, and one `\r` before it). Undefined text for a line over the limit.
    pub fn line(&self, index: usize) -> &[u8] {
        without_end(&self.buffer.bytes[self.start(index)..self.buffer.stops[index]])
    }

    /// The lines as one text, each as `line` returns it and followed by `\n` (the last perhaps without). None if a line
    /// ends in `\r\n` or is over the limit.
    pub fn run(&self, lines: Range<usize>) -> Option<&[u8]> {
        let whole = !self.buffer.carriage_returns && self.buffer.too_long.is_empty() && !lines.is_empty();
        whole.then(|| &self.buffer.bytes[self.start(lines.start)..self.buffer.stops[lines.end - 1]])
    }

    fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.buffer.stops[index - 1] }
    }

    /// Whether the line was over the limit; its text was not kept.
    pub fn is_too_long(&self, index: usize) -> bool {
        self.buffer.too_long.binary_search(&index).is_ok()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // A buffer that grew for long lines is freed, so that memory stays bounded.
        if let Some(reader) = self.reader.take().filter(|_| self.buffer.bytes.len() <= SPARE_BYTES) {
            // The channel is full or closed if the reader has enough buffers or has ended.
            let _ = reader.try_send(std::mem::take(&mut self.buffer));
        }
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    match line.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None => line,
    }
}

pub struct LineReader<'w> {
    path: PathBuf,
    decoder: Decoder<'w>,
    max_line_bytes: usize,
    /// The text that was read past the end of the last chunk.
    next: Buffer,
    /// Bytes per read: less for a small file, since a corpus may have many.
    read_bytes: usize,
    /// Whether the next line is over the limit and its beginning was discarded.
    long: bool,
    returned: (Sender<Buffer>, Receiver<Buffer>),
    /// Lines handed out so far.
    pub lines: u64,
}

impl<'w> LineReader<'w> {
    /// Opens a file; its compression is detected by the first bytes, not by the name. A byte order mark of UTF-8 at the
    /// start is skipped. UTF-16, archives and other files that are not text are errors.
    pub fn open(path: &Path, max_line_bytes: usize, memory: usize, progress: &'w Progress) -> Result<Self> {
        let decoder = Decoder::open(path, memory, progress)?;
        let bytes = fs::metadata(path).map_err(Error::io(path))?.len();
        let mut reader = Self {
            path: path.to_owned(),
            decoder,
            max_line_bytes,
            next: Buffer::default(),
            read_bytes: usize::try_from(bytes).unwrap_or(READ_BYTES).clamp(LEAST_READ_BYTES, READ_BYTES),
            long: false,
            returned: bounded(SPARE_BUFFERS),
            lines: 0,
        };
        reader.skip_mark()?;
        Ok(reader)
    }

    fn skip_mark(&mut self) -> Result<()> {
        let mut buffer = Buffer::default();
        while buffer.filled < START_BYTES && self.fill(&mut buffer)? {}
        let start = &buffer.bytes[..buffer.filled];
        check_content(&self.path, start)?;
        if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
            return Err(Error::input(format!(
                "{} is UTF-16 by its byte order mark: convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)",
                self.path.display()
            )));
        }
        if start.starts_with(MARK) {
            buffer.bytes.copy_within(MARK.len()..buffer.filled, 0);
            buffer.filled -= MARK.len();
        }
        self.next = buffer;
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next `CHUNK_LINES` lines; fewer at the end of the file, then none.
    pub fn chunk(&mut self) -> Result<Lines> {
        self.take(CHUNK_LINES)
    }

    /// The next `count` lines; fewer at the end of the file, then none.
    pub fn take(&mut self, count: usize) -> Result<Lines> {
        let mut buffer = std::mem::take(&mut self.next);
        let (mut start, mut scanned) = (0, 0);
        while buffer.stops.len() < count {
            start = self.scan(&mut buffer, start, scanned, count);
            if buffer.stops.len() == count {
                break;
            }
            // A line over the limit is never held whole. One more byte than the limit may be the `\r` of the line's
            // end.
            if buffer.filled - start > self.max_line_bytes + 1 {
                self.long = true;
                buffer.filled = start;
            }
            scanned = buffer.filled;
            if !self.fill(&mut buffer)? {
                start = self.end_last(&mut buffer, start);
                break;
            }
        }
        self.keep_rest(&mut buffer, start);
        self.lines += buffer.stops.len() as u64;
        Ok(Lines { buffer, reader: Some(self.returned.0.clone()) })
    }

    /// Notes the lines that end after `scanned`, up to `count`; returns where the next one starts.
    fn scan(&mut self, buffer: &mut Buffer, mut start: usize, scanned: usize, count: usize) -> usize {
        let limit = self.max_line_bytes;
        let Buffer { bytes, filled, stops, too_long, carriage_returns } = buffer;
        for at in memchr_iter(b'\n', &bytes[scanned..*filled]) {
            let stop = scanned + at + 1;
            let text = without_end(&bytes[start..stop]).len();
            *carriage_returns |= start + text + 1 < stop;
            if std::mem::take(&mut self.long) || text > limit {
                too_long.push(stops.len());
            }
            stops.push(stop);
            start = stop;
            if stops.len() == count {
                break;
            }
        }
        start
    }

    /// Ends the last line of the file, if it has no `\n`.
    fn end_last(&mut self, buffer: &mut Buffer, start: usize) -> usize {
        let stop = buffer.filled;
        let long = std::mem::take(&mut self.long) || stop - start > self.max_line_bytes;
        if long {
            buffer.too_long.push(buffer.stops.len());
        }
        if long || stop > start {
            buffer.stops.push(stop);
            // This `\r` belongs to the text; `run` must not return it before a `\n`, where it would be part of the line
            // end.
            buffer.carriage_returns |= buffer.bytes[start..stop].ends_with(b"\r");
        }
        stop
    }

    /// Reads once; false at the end of the file.
    fn fill(&mut self, buffer: &mut Buffer) -> Result<bool> {
        let end = buffer.filled + self.read_bytes;
        if buffer.bytes.len() < end {
            buffer.bytes.resize(end.max(2 * buffer.bytes.len()), 0);
        }
        loop {
            match self.decoder.read(&mut buffer.bytes[buffer.filled..end]) {
                Ok(read) => {
                    buffer.filled += read;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // `skip_mark` does not note where lines stop.
                    let lines = memchr_iter(b'\n', &buffer.bytes[..buffer.filled]).count();
                    return Err(self.explain(error, lines));
                }
            }
        }
    }

    /// Moves the text that was read past `end` to the buffer of the next chunk.
    fn keep_rest(&mut self, buffer: &mut Buffer, end: usize) {
        let mut next = self.returned.1.try_recv().unwrap_or_default();
        next.stops.clear();
        next.too_long.clear();
        next.carriage_returns = false;
        next.filled = buffer.filled - end;
        if next.bytes.len() < next.filled {
            next.bytes.resize(next.filled, 0);
        }
        next.bytes[..next.filled].copy_from_slice(&buffer.bytes[end..buffer.filled]);
        buffer.filled = end;
        self.next = next;
    }

    fn explain(&self, error: io::Error, lines: usize) -> Error {
        self.decoder.explain(error, &self.path, &format!("line {}", self.lines + lines as u64))
    }

    /// Reads the rest of the file and returns its digest.
    pub fn finish(mut self) -> Result<FileRead> {
        let raw = self.decoder.raw();
        let copied = io::copy(raw, &mut io::sink());
        let (bytes, digest) = (raw.bytes, raw.digest());
        copied.map_err(|error| self.explain(error, 0))?;
        Ok(FileRead { path: self.path, bytes, digest })
    }
}
