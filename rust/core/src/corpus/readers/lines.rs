//! Reads the lines of one file in chunks of a fixed number of lines, without its byte order mark; hashes the raw bytes.

use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, Sender, bounded};
use memchr::memchr_iter;

use crate::corpus::files_read::FileRead;
use crate::io::compression::Decoder;
use crate::{Error, Progress, Result};

/// Lines of a chunk; a chunk is the unit that workers get, so outputs must not depend on its place.
pub const CHUNK_LINES: usize = 4096;
/// How much is asked of the file at once. What is read past the end of a chunk is copied to the next, so less is better
/// than the buffers of decoders.
const READ_BYTES: usize = 1 << 18;
/// Buffers that wait to be filled again; more are let go.
const SPARE_BUFFERS: usize = 64;
const SPARE_BYTES: usize = 2 << 20;
/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Consecutive lines as they stand in their file, ends included. Its buffers go back to the reader when it is dropped:
/// touching fresh memory for every chunk would cost as much as reading.
#[derive(Debug, Default)]
pub struct Lines {
    held: Held,
    home: Option<Sender<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    /// Initialised throughout; the text is `bytes[..filled]`.
    bytes: Vec<u8>,
    filled: usize,
    /// Where each line stops, its end included.
    stops: Vec<usize>,
    too_long: Vec<usize>,
    carriage_returns: bool,
}

impl Lines {
    pub fn len(&self) -> usize {
        self.held.stops.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.stops.is_empty()
    }

    /// Bytes that they take in memory.
    pub fn bytes(&self) -> usize {
        self.held.bytes.len()
    }

    /// The line without its end (`\n`, and one `\r` before it); of a line over the limit nothing that means anything.
    pub fn line(&self, index: usize) -> &[u8] {
        without_end(&self.held.bytes[self.start(index)..self.held.stops[index]])
    }

    /// The lines as one text, if each stands in it as `line` has it, `\n` after every one (but perhaps the last).
    pub fn run(&self, lines: Range<usize>) -> Option<&[u8]> {
        let whole = !self.held.carriage_returns && self.held.too_long.is_empty() && !lines.is_empty();
        whole.then(|| &self.held.bytes[self.start(lines.start)..self.held.stops[lines.end - 1]])
    }

    fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.held.stops[index - 1] }
    }

    /// Whether the line was over the limit; its text was not kept.
    pub fn is_too_long(&self, index: usize) -> bool {
        self.held.too_long.binary_search(&index).is_ok()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // One that long lines have swollen is let go.
        if let Some(home) = self.home.take().filter(|_| self.held.bytes.len() <= SPARE_BYTES) {
            // A reader that has ended, or has buffers enough, needs no more.
            let _ = home.try_send(std::mem::take(&mut self.held));
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
    /// What was read past the end of the last chunk.
    next: Held,
    /// Whether the front of the next line was over the limit and let go.
    long: bool,
    returned: (Sender<Held>, Receiver<Held>),
    /// Lines handed out so far.
    pub lines: u64,
}

impl<'w> LineReader<'w> {
    /// Opens a file; compression is told by the first bytes, not by the name. One byte order mark of UTF-8 at its start is
    /// no text; that of another encoding is an error.
    pub fn open(path: &Path, max_line_bytes: usize, progress: &'w Progress) -> Result<Self> {
        let decoder = Decoder::open(path, progress)?;
        let mut reader = Self {
            path: path.to_owned(),
            decoder,
            max_line_bytes,
            next: Held::default(),
            long: false,
            returned: bounded(SPARE_BUFFERS),
            lines: 0,
        };
        reader.pass_mark()?;
        Ok(reader)
    }

    fn pass_mark(&mut self) -> Result<()> {
        let mut held = Held::default();
        while held.filled < MARK.len() && self.fill(&mut held)? {}
        let start = &held.bytes[..held.filled];
        if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
            return Err(Error::input(format!(
                "{} is UTF-16 by its byte order mark: convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)",
                self.path.display()
            )));
        }
        if start.starts_with(MARK) {
            held.bytes.copy_within(MARK.len()..held.filled, 0);
            held.filled -= MARK.len();
        }
        self.next = held;
        Ok(())
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
        let mut held = std::mem::take(&mut self.next);
        let (mut start, mut scanned) = (0, 0);
        while held.stops.len() < count {
            start = self.scan(&mut held, start, scanned, count);
            if held.stops.len() == count {
                break;
            }
            // One more byte than the limit may come: the `\r` of the line's end.
            if held.filled - start > self.max_line_bytes + 1 {
                self.long = true;
                held.filled = start;
            }
            scanned = held.filled;
            if !self.fill(&mut held)? {
                start = self.end_last(&mut held, start);
                break;
            }
        }
        self.keep_rest(&mut held, start);
        self.lines += held.stops.len() as u64;
        Ok(Lines { held, home: Some(self.returned.0.clone()) })
    }

    /// Notes the lines that end after `scanned`, up to `count`; returns where the next one starts.
    fn scan(&mut self, held: &mut Held, mut start: usize, scanned: usize, count: usize) -> usize {
        let limit = self.max_line_bytes;
        let Held { bytes, filled, stops, too_long, carriage_returns } = held;
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

    /// A last line without its `\n` counts.
    fn end_last(&mut self, held: &mut Held, start: usize) -> usize {
        let stop = held.filled;
        let long = std::mem::take(&mut self.long) || stop - start > self.max_line_bytes;
        if long {
            held.too_long.push(held.stops.len());
        }
        if long || stop > start {
            held.stops.push(stop);
            // With an end after it, its own would be taken for a part of that.
            held.carriage_returns |= held.bytes[start..stop].ends_with(b"\r");
        }
        stop
    }

    /// Reads once; false at the end of the file.
    fn fill(&mut self, held: &mut Held) -> Result<bool> {
        if held.bytes.len() < held.filled + READ_BYTES {
            held.bytes.resize((held.filled + READ_BYTES).max(2 * held.bytes.len()), 0);
        }
        loop {
            match self.decoder.read(&mut held.bytes[held.filled..held.filled + READ_BYTES]) {
                Ok(read) => {
                    held.filled += read;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(error, held.stops.len())),
            }
        }
    }

    /// Moves what was read past `end` to the buffer of the next chunk.
    fn keep_rest(&mut self, held: &mut Held, end: usize) {
        let mut next = self.returned.1.try_recv().unwrap_or_default();
        next.stops.clear();
        next.too_long.clear();
        next.carriage_returns = false;
        next.filled = held.filled - end;
        if next.bytes.len() < next.filled {
            next.bytes.resize(next.filled, 0);
        }
        next.bytes[..next.filled].copy_from_slice(&held.bytes[end..held.filled]);
        held.filled = end;
        self.next = next;
    }

    fn explain(&self, error: io::Error, lines: usize) -> Error {
        self.decoder.explain(error, &self.path, &format!("line {}", self.lines + lines as u64))
    }

    /// Reads what is left and gives the file's digest.
    pub fn finish(mut self) -> Result<FileRead> {
        let raw = self.decoder.raw();
        let copied = io::copy(raw, &mut io::sink());
        let (bytes, digest) = (raw.bytes, raw.digest());
        copied.map_err(|error| self.explain(error, 0))?;
        Ok(FileRead { path: self.path, bytes, digest })
    }
}
