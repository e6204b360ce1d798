//! Reads concatenated gzip members, with headers of any length and zero bytes after a member, as gzip itself does.

use std::io::{self, BufRead, ErrorKind, Read};

use flate2::{Crc, Decompress, FlushDecompress, Status};

/// The flags of a member header (RFC 1952).
const HEADER_CHECKSUM: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

/// Bytes that are not compressed text follow its end.
#[derive(Debug, thiserror::Error)]
#[error("other bytes follow the compressed text")]
pub struct TrailingBytes;

enum State {
    /// Before the first member, or after a member.
    Between,
    Text,
    /// The text of a member ended; its checksum was not compared yet.
    Ended,
}

pub struct GzipDecoder<R> {
    pub input: R,
    state: State,
    inflate: Decompress,
    crc: Crc,
    members: u64,
}

impl<R: BufRead> GzipDecoder<R> {
    pub fn new(input: R) -> Self {
        Self { input, state: State::Between, inflate: Decompress::new(false), crc: Crc::new(), members: 0 }
    }

    /// Reads the header of the next member; false at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            let input = self.input.fill_buf()?;
            if input.is_empty() {
                return Ok(false);
            }
            let zeros = input.iter().take_while(|&&byte| byte == 0).count();
            if self.members == 0 || zeros == 0 {
                break;
            }
            self.input.consume(zeros);
        }
        self.crc.reset();
        if self.bytes()? != [0x1f] || self.bytes()? != [0x8b] {
            return Err(if self.members > 0 {
                io::Error::new(ErrorKind::InvalidData, TrailingBytes)
            } else {
                invalid("invalid gzip header")
            });
        }
        let [method, flags, ..] = self.bytes::<8>()?;
        if method != 8 || flags & RESERVED != 0 {
            return Err(invalid("unknown gzip method or flags"));
        }
        if flags & EXTRA != 0 {
            for _ in 0..u16::from_le_bytes(self.bytes()?) {
                self.bytes::<1>()?;
            }
        }
        for field in [NAME, COMMENT] {
            while flags & field != 0 && self.bytes()? != [0] {}
        }
        let checksum = self.crc.sum() as u16;
        if flags & HEADER_CHECKSUM != 0 && u16::from_le_bytes(self.bytes()?) != checksum {
            return Err(invalid("wrong checksum of the gzip header"));
        }
        self.crc.reset();
        self.inflate.reset(false);
        self.members += 1;
        Ok(true)
    }

    /// The next bytes, which also count for the checksum of a header.
    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        self.crc.update(&bytes);
        Ok(bytes)
    }

    /// Compares the checksum and the length of the text with those at the end of the member.
    fn compare(&mut self) -> io::Result<()> {
        let (checksum, length) = (self.crc.sum(), self.crc.amount());
        let same =
            u32::from_le_bytes(self.bytes()?) == checksum && u32::from_le_bytes(self.bytes()?) == length;
        if same { Ok(()) } else { Err(invalid("wrong gzip checksum or length")) }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

impl<R: BufRead> Read for GzipDecoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::Between => {
                    if !self.begin()? {
                        return Ok(0);
                    }
                    self.state = State::Text;
                }
                State::Ended => {
                    self.compare()?;
                    self.state = State::Between;
                }
                State::Text => {
                    let input = self.input.fill_buf()?;
                    let ended = input.is_empty();
                    let (read_before, written_before) = (self.inflate.total_in(), self.inflate.total_out());
                    let status = self.inflate.decompress(input, buffer, FlushDecompress::None)?;
                    let consumed = (self.inflate.total_in() - read_before) as usize;
                    let written = (self.inflate.total_out() - written_before) as usize;
                    self.input.consume(consumed);
                    self.crc.update(&buffer[..written]);
                    if status == Status::StreamEnd {
                        self.state = State::Ended;
                    } else if ended && written == 0 {
                        return Err(io::Error::new(
                            ErrorKind::UnexpectedEof,
                            "the gzip member ends too early",
                        ));
                    }
                    if written > 0 {
                        return Ok(written);
                    }
                }
            }
        }
    }
}
