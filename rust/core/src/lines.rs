//! Lines of one file, plain, gzip or zstd, in chunks of a fixed number of lines; its raw bytes are hashed on the way.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use memchr::memchr;

use crate::draft::Hashed;
use crate::{Error, Result, Watch};

/// Lines of a chunk; a chunk is the unit that workers get, so outputs must not depend on its place.
pub const CHUNK_LINES: usize = 4096;
const BUFFER_BYTES: usize = 1 << 20;

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

type Raw<'w> = Hashed<Counted<'w>>;

struct Counted<'w> {
    file: File,
    watch: &'w Watch,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.watch.is_stopped() {
            return Err(io::Error::other(Stopped));
        }
        let read = self.file.read(buffer)?;
        self.watch.add(read as u64, 0);
        Ok(read)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("stopped")]
struct Stopped;

enum Decoder<'w> {
    Plain(Box<Raw<'w>>),
    Gzip(Box<MultiGzDecoder<BufReader<Raw<'w>>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<Raw<'w>>>>),
}

impl<'w> Decoder<'w> {
    fn raw(&mut self) -> &mut Raw<'w> {
        match self {
            Self::Plain(raw) => raw,
            Self::Gzip(decoder) => decoder.get_mut().get_mut(),
            Self::Zstd(decoder) => decoder.get_mut().get_mut(),
        }
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(decoder) => decoder.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
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
        let mut file = File::open(path).map_err(Error::io(path))?;
        let kind = file.metadata().map_err(Error::io(path))?.file_type();
        if !kind.is_file() {
            let kind = if kind.is_dir() { "a folder" } else { "no plain file, and later steps read again" };
            return Err(Error::input(format!("{} is {kind}: give a file", path.display())));
        }
        let magic = first_bytes(&mut file).map_err(Error::io(path))?;
        if magic.is_empty() {
            return Err(Error::input(format!("{} is empty", path.display())));
        }
        let raw = Hashed::new(Counted { file, watch });
        let decoder = match magic[..] {
            [0x1f, 0x8b, ..] => {
                Decoder::Gzip(Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, raw))))
            }
            // The second is a skippable frame, which parallel compressors write first.
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                let buffered = BufReader::with_capacity(BUFFER_BYTES, raw);
                Decoder::Zstd(Box::new(zstd::Decoder::with_buffer(buffered).map_err(Error::io(path))?))
            }
            _ => {
                check_plain(path)?;
                Decoder::Plain(Box::new(raw))
            }
        };
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
        if matches!(error.get_ref(), Some(inner) if inner.is::<Stopped>()) {
            return Error::Interrupted;
        }
        if error.raw_os_error().is_some() || matches!(self.decoder, Decoder::Plain(_)) {
            return Error::Io { path: self.path.clone(), source: error };
        }
        let (path, line) = (self.path.display(), self.lines + chunk.len() as u64);
        Error::input(format!("{path} is truncated or damaged after line {line} ({error}): fetch it again"))
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

fn first_bytes(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(4);
    Read::by_ref(file).take(4).read_to_end(&mut bytes)?;
    io::Seek::rewind(file)?;
    Ok(bytes)
}

/// A name that promises compression over bytes that have none is a mistake better told than read as text.
fn check_plain(path: &Path) -> Result<()> {
    let promised = match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => "gzip",
        Some("zst") => "zstd",
        Some("xz") => return Err(unsupported(path, "xz")),
        Some("bz2") => return Err(unsupported(path, "bzip2")),
        _ => return Ok(()),
    };
    Err(Error::input(format!(
        "{} is not {promised}: its first bytes are not those of {promised}",
        path.display()
    )))
}

fn unsupported(path: &Path, name: &str) -> Error {
    Error::input(format!(
        "{} is {name}, which is not read yet: decompress it, or give gzip or zstd",
        path.display()
    ))
}
