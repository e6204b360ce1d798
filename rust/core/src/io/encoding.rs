//! Decodes XML text of any declared encoding to UTF-8, marks bytes that cannot be decoded, and counts lines.

use std::io::{self, BufRead, Read};

use encoding_rs::{DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};
use memchr::memchr_iter;

/// The mark of bytes that are invalid in the encoding of the file. XML does not allow this character, so no text has
/// it.
pub const UNDECODABLE: char = '\u{FFFF}';
const BUFFER_BYTES: usize = 1 << 16;
/// The XML declaration must be within this many bytes of the start.
const DECLARATION_BYTES: usize = 1 << 10;

/// A reader that decodes by the byte order mark or the XML declaration, otherwise as UTF-8.
pub struct Decoded<R> {
    pub inner: R,
    decoder: encoding_rs::Decoder,
    raw: Vec<u8>,
    raw_at: usize,
    raw_end: usize,
    ended: bool,
    /// Whether the decoder has no more output.
    finished: bool,
    text: Vec<u8>,
    text_at: usize,
    /// Line feeds consumed so far.
    pub lines: u64,
    /// Bytes that may be consumed until the caller raises the limit, so that a document without markup is never
    /// buffered as a whole.
    pub allowance: usize,
    /// A copy of the consumed text, if the caller wants one.
    pub copy: Option<Vec<u8>>,
}

impl<R: Read> Decoded<R> {
    pub fn new(inner: R, allowance: usize) -> Self {
        let (raw, text) = (vec![0; BUFFER_BYTES], Vec::with_capacity(3 * BUFFER_BYTES));
        let decoder = UTF_8.new_decoder();
        Self {
            inner,
            decoder,
            raw,
            raw_at: 0,
            raw_end: 0,
            ended: false,
            finished: false,
            text,
            text_at: 0,
            lines: 0,
            allowance,
            copy: None,
        }
    }

    /// Reads the start of the file and detects its encoding.
    pub fn sniff(&mut self) -> io::Result<()> {
        while self.raw_end < DECLARATION_BYTES && !self.ended {
            self.read_more()?;
        }
        let start = &self.raw[..self.raw_end.min(DECLARATION_BYTES)];
        self.decoder = match start {
            [b'<', 0, ..] => UTF_16LE,
            [0, b'<', ..] => UTF_16BE,
            _ => declared(start).unwrap_or(UTF_8),
        }
        .new_decoder();
        Ok(())
    }

    fn read_more(&mut self) -> io::Result<()> {
        let read = loop {
            match self.inner.read(&mut self.raw[self.raw_end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.raw_end += read;
        self.ended |= read == 0;
        Ok(())
    }

    fn decode(&mut self) {
        self.text.resize(self.text.capacity(), 0);
        let mut filled = 0;
        // There is always room for one mark of undecodable bytes.
        while filled + 8 < self.text.len() {
            let (source, room) = (&self.raw[self.raw_at..self.raw_end], self.text.len() - 4);
            let (result, read, written) = self.decoder.decode_to_utf8_without_replacement(
                source,
                &mut self.text[filled..room],
                self.ended,
            );
            self.raw_at += read;
            filled += written;
            match result {
                DecoderResult::Malformed(..) => {
                    filled += UNDECODABLE.encode_utf8(&mut self.text[filled..]).len();
                }
                DecoderResult::InputEmpty => {
                    self.finished = self.ended;
                    break;
                }
                DecoderResult::OutputFull => break,
            }
        }
        self.text.truncate(filled);
    }
}

/// The encoding that an XML declaration names. A declaration that is readable as bytes is not UTF-16, even if it says
/// so.
fn declared(start: &[u8]) -> Option<&'static Encoding> {
    let start = start.strip_prefix(b"<?xml")?;
    let declaration = &start[..memchr::memmem::find(start, b"?>")?];
    let value = &declaration[memchr::memmem::find(declaration, b"encoding")? + b"encoding".len()..];
    let value = value.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let (quote, value) = value.split_first()?;
    let label = &value[..memchr::memchr(*quote, value)?];
    Encoding::for_label(label).filter(|encoding| *encoding != UTF_16LE && *encoding != UTF_16BE)
}

impl<R: Read> BufRead for Decoded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.allowance == 0 {
            return Err(io::Error::other("too much text without markup"));
        }
        while self.text_at == self.text.len() && !self.finished {
            if self.raw_at == self.raw_end && !self.ended {
                (self.raw_at, self.raw_end) = (0, 0);
                self.read_more()?;
            }
            self.text_at = 0;
            self.decode();
        }
        Ok(&self.text[self.text_at..])
    }

    fn consume(&mut self, amount: usize) {
        let end = (self.text_at + amount).min(self.text.len());
        self.lines += memchr_iter(b'\n', &self.text[self.text_at..end]).count() as u64;
        if let Some(copy) = &mut self.copy {
            copy.extend_from_slice(&self.text[self.text_at..end]);
        }
        self.text_at = end;
        self.allowance = self.allowance.saturating_sub(amount);
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}
