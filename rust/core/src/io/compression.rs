//! Compression: gzip, zstd, xz, bzip2 and plain files, detected by their first bytes and read to the end of the last
//! member; each piece that is written is one member.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::thread;

use bzip2::bufread::MultiBzDecoder;
use flate2::Compression;
use liblzma::stream::{Action, Check, Filters, LzmaOptions, MtStreamBuilder, Status, Stream};

use crate::io::content::{START_BYTES, check_content, unread_of_name};
use crate::io::digests::Hashed;
use crate::io::gzip::{GzipDecoder, TrailingBytes};
use crate::io::plain_file::open_plain;
use crate::{Error, Progress, Result};

pub const BUFFER_BYTES: usize = 1 << 20;
/// Memory limit of a multi-threaded xz decoder; beyond it, blocks are decoded one after the other.
const XZ_THREADING_BYTES: u64 = 256 << 20;
/// Memory limit of an xz decoder; a dictionary of 2 GiB fits, as it does for zstd.
const XZ_BYTES: u64 = (2 << 30) + (64 << 20);
/// Memory that every decoder may take: the windows of zstd without `--long` and `--ultra`, and of `xz -6`, fit.
const LEAST_BYTES: u64 = 16 << 20;
/// A file may take one part in this many of the memory of a pass: two are read at a time.
const MEMORY_SHARE: usize = 4;
const XZ_PRESET: u32 = 6;

/// The bytes of a file as they are on disk, hashed and counted while they are read.
pub type Raw<'w> = Hashed<Counted<'w>>;

pub struct Counted<'w> {
    file: File,
    progress: &'w Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.progress.is_stopped() {
            return Err(io::Error::other(Stopped));
        }
        let read = self.file.read(buffer)?;
        self.progress.add(read as u64, 0);
        Ok(read)
    }
}

/// Ends a read after the caller stopped the pass.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
struct Stopped;

pub fn is_stopped(error: &io::Error) -> bool {
    matches!(error.get_ref(), Some(inner) if inner.is::<Stopped>())
}

type Buffered<'w> = BufReader<Raw<'w>>;

pub enum Decoder<'w> {
    Plain(Box<Raw<'w>>),
    Gzip(Box<GzipDecoder<Buffered<'w>>>),
    Zstd(Box<zstd::Decoder<'static, Buffered<'w>>>),
    Xz(Box<XzDecoder<Buffered<'w>>>),
    Bzip2(Box<MultiBzDecoder<Buffered<'w>>>),
}

impl<'w> Decoder<'w> {
    /// Opens a regular file of any compression, which is detected by the first bytes, not by the name.
    /// Decompression that needs more than a quarter of `memory`, and more than 16 MiB, ends with an error.
    pub fn open(path: &Path, memory: usize, progress: &'w Progress) -> Result<Self> {
        let (file, magic) = open_file(path)?;
        let most_bytes = ((memory / MEMORY_SHARE) as u64).clamp(LEAST_BYTES, XZ_BYTES);
        let raw = Hashed::new(Counted { file, progress });
        let buffered = |raw| BufReader::with_capacity(BUFFER_BYTES, raw);
        Ok(match magic[..] {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(GzipDecoder::new(buffered(raw)))),
            // The second pattern is a skippable frame, which parallel compressors write first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                let mut decoder = zstd::Decoder::with_buffer(buffered(raw)).map_err(Error::io(path))?;
                // Up to `zstd --long=31`; the memory is only allocated if a frame needs it.
                decoder.window_log_max(most_bytes.ilog2()).map_err(Error::io(path))?;
                Self::Zstd(Box::new(decoder))
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
                Self::Xz(Box::new(XzDecoder::new(buffered(raw), most_bytes)))
            }
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => {
                Self::Bzip2(Box::new(MultiBzDecoder::new(buffered(raw))))
            }
            _ => {
                check_content(path, &magic)?;
                check_plain(path)?;
                Self::Plain(Box::new(raw))
            }
        })
    }

    pub fn raw(&mut self) -> &mut Raw<'w> {
        match self {
            Self::Plain(raw) => raw,
            Self::Gzip(decoder) => decoder.input.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut().get_mut(),
            Self::Xz(decoder) => decoder.input.get_mut(),
            Self::Bzip2(decoder) => decoder.get_mut().get_mut(),
        }
    }

    /// The error of a failed read: an I/O error, or a damaged file; `place` is the last that was read, like "line 7".
    pub fn explain(&self, error: io::Error, path: &Path, place: &str) -> Error {
        if is_stopped(&error) {
            return Error::Interrupted;
        }
        if error.raw_os_error().is_some() || matches!(self, Self::Plain(_)) {
            return Error::Io { path: path.to_owned(), source: error };
        }
        let path = path.display();
        Error::input(match cause(&error) {
            Cause::TrailingBytes => format!(
                "{path}: bytes that are no compressed text (trailing garbage) follow its end after {place}: remove them, or \
                 compress the text again"
            ),
            Cause::Memory => format!(
                "{path} needs more memory for decompression than there is, after {place} ({error}): give more memory, \
                 decompress the file elsewhere, or compress its text with a smaller window"
            ),
            Cause::Unsupported => format!(
                "{path} uses a filter or option of its compression that is not supported, after {place} ({error}): \
                 decompress the file first"
            ),
            Cause::Dictionary => format!(
                "{path} was compressed with a dictionary: decompress the file first (zstd -d -D DICTIONARY FILE)"
            ),
            Cause::Damage => {
                format!("{path} is truncated or damaged after {place} ({error}): fetch the file again")
            }
        })
    }
}

/// Why text cannot be decompressed.
enum Cause {
    TrailingBytes,
    Memory,
    Unsupported,
    Dictionary,
    Damage,
}

/// Distinguishes the errors of the libraries. The first member or stream has the right first bytes, or the file would be
/// opened as another format: an unknown format later on follows the end of the text.
fn cause(error: &io::Error) -> Cause {
    let inner = error.get_ref();
    if inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<TrailingBytes>) {
        return Cause::TrailingBytes;
    }
    if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<bzip2::Error>()) {
        return if *error == bzip2::Error::DataMagic { Cause::TrailingBytes } else { Cause::Damage };
    }
    if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<liblzma::stream::Error>()) {
        return match error {
            liblzma::stream::Error::Format => Cause::TrailingBytes,
            liblzma::stream::Error::Mem | liblzma::stream::Error::MemLimit => Cause::Memory,
            liblzma::stream::Error::Options => Cause::Unsupported,
            _ => Cause::Damage,
        };
    }
    // The names of zstd's errors.
    match error.to_string().as_str() {
        "Unknown frame descriptor" => Cause::TrailingBytes,
        "Dictionary mismatch" => Cause::Dictionary,
        "Allocation error : not enough memory" | "Frame requires too much memory for decoding" => {
            Cause::Memory
        }
        "Unsupported frame parameter" => Cause::Unsupported,
        _ => Cause::Damage,
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(decoder) => decoder.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Xz(decoder) => decoder.read(buffer),
            Self::Bzip2(decoder) => decoder.read(buffer),
        }
    }
}

/// Reads concatenated xz streams, with padding between them. Blocks that store their sizes, as `xz -T` writes them, are
/// decoded in parallel.
pub struct XzDecoder<R> {
    input: R,
    most_bytes: u64,
    /// None between two streams.
    stream: Option<Stream>,
    padding: usize,
}

impl<R: BufRead> XzDecoder<R> {
    /// A stream that needs more than `most_bytes` ends with an error.
    pub fn new(input: R, most_bytes: u64) -> Self {
        Self { input, most_bytes, stream: None, padding: 0 }
    }

    /// Skips padding up to the next stream; false at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            let input = self.input.fill_buf()?;
            let zeros = input.iter().take_while(|&&byte| byte == 0).count();
            let (ended, more) = (input.is_empty(), zeros < input.len());
            self.input.consume(zeros);
            self.padding += zeros;
            // The xz format pads streams with a multiple of four zero bytes.
            if (ended || more) && !self.padding.is_multiple_of(4) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "wrong size of xz padding"));
            }
            if ended {
                return Ok(false);
            }
            if more {
                self.padding = 0;
                let threads = thread::available_parallelism().map_or(1, |count| count.get().min(16));
                self.stream = Some(
                    MtStreamBuilder::new()
                        .threads(threads as u32)
                        .memlimit_threading(XZ_THREADING_BYTES.min(self.most_bytes))
                        .memlimit_stop(self.most_bytes)
                        .decoder()?,
                );
                return Ok(true);
            }
        }
    }
}

impl<R: BufRead> Read for XzDecoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(stream) = &mut self.stream else {
                if self.begin()? {
                    continue;
                }
                return Ok(0);
            };
            let input = self.input.fill_buf()?;
            let ended = input.is_empty();
            let (read_before, written_before) = (stream.total_in(), stream.total_out());
            let status = stream.process(input, buffer, if ended { Action::Finish } else { Action::Run })?;
            let consumed = (stream.total_in() - read_before) as usize;
            let written = (stream.total_out() - written_before) as usize;
            self.input.consume(consumed);
            if status == Status::StreamEnd {
                self.stream = None;
            }
            if written > 0 {
                return Ok(written);
            }
            // The decoder made no progress twice: the input ended inside a stream.
            if status == Status::MemNeeded {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the xz stream ends too early"));
            }
        }
    }
}

/// Opens a regular file that is not empty; also returns its first `START_BYTES`.
pub fn open_file(path: &Path) -> Result<(File, Vec<u8>)> {
    let mut file = open_plain(path)?;
    let magic = first_bytes(&mut file).map_err(Error::io(path))?;
    if magic.is_empty() {
        return Err(Error::empty(path));
    }
    Ok((file, magic))
}

fn first_bytes(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(START_BYTES);
    Read::by_ref(file).take(START_BYTES as u64).read_to_end(&mut bytes)?;
    io::Seek::rewind(file)?;
    Ok(bytes)
}

/// The start of the text of a file, decompressed: up to `most` bytes, fewer if the file is damaged. Empty for an empty
/// file.
pub fn read_start(path: &Path, most: usize) -> Result<Vec<u8>> {
    if open_plain(path)?.metadata().map_err(Error::io(path))?.len() == 0 {
        return Ok(Vec::new());
    }
    let progress = Progress::default();
    let mut start = Vec::with_capacity(most);
    // The pass that reads the whole file reports damage, with the line.
    let _ = Decoder::open(path, usize::MAX, &progress)?.take(most as u64).read_to_end(&mut start);
    check_content(path, &start)?;
    Ok(start)
}

/// The compression that the suffix of a file name indicates.
fn compression_of_name(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "gz" => Some("gzip"),
        "zst" | "zstd" => Some("zstd"),
        "xz" => Some("xz"),
        "bz2" => Some("bzip2"),
        _ => None,
    }
}

/// Fails if the name indicates a compression that the bytes do not have: to read them as text would hide the mistake.
fn check_plain(path: &Path) -> Result<()> {
    let Some(name) = compression_of_name(path).or_else(|| unread_of_name(path)) else { return Ok(()) };
    Err(Error::input(format!(
        "{} is not {name} (its first bytes are not those of {name}): correct the suffix, or fetch the file again",
        path.display()
    )))
}

/// Compresses a piece as the file name indicates, into one gzip member, zstd frame, xz or bzip2 stream. Every piece is
/// one member, so that the bytes of a file do not depend on the number of threads.
pub fn compress(bytes: Vec<u8>, path: &Path) -> io::Result<Vec<u8>> {
    match compression_of_name(path) {
        Some("gzip") => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(&bytes)?;
            encoder.finish()
        }
        Some("zstd") => {
            let mut compressor = zstd::bulk::Compressor::new(3)?;
            compressor.include_checksum(true)?;
            compressor.compress(&bytes)
        }
        Some("xz") => {
            let mut options = LzmaOptions::new_preset(XZ_PRESET)?;
            // A window larger than the piece would only cost memory.
            options.dict_size(bytes.len().next_power_of_two().clamp(1 << 16, 8 << 20) as u32);
            let stream = Stream::new_stream_encoder(Filters::new().lzma2(&options), Check::Crc64)?;
            let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
            encoder.write_all(&bytes)?;
            encoder.finish()
        }
        Some("bzip2") => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
            encoder.write_all(&bytes)?;
            encoder.finish()
        }
        _ => Ok(bytes),
    }
}
