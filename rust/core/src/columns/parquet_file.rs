//! A Parquet file as the library reads it. The library counts on page headers that are whole: on a damaged one it would
//! read the end of the file for hours.

use std::fs::File;
use std::io::{self, BufReader, Read};

use bytes::Bytes;
use parquet::errors::Result;
use parquet::file::reader::{ChunkReader, Length};

/// How often a read may find nothing before it is an error.
const MOST_ENDS: u32 = 8;

pub struct ParquetFile(pub File);

/// Fails when it is read again and again at its end.
pub struct Ending {
    reader: BufReader<File>,
    ends: u32,
}

impl Read for Ending {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.ends += u32::from(read == 0 && !buffer.is_empty());
        if self.ends > MOST_ENDS { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
    }
}

impl Length for ParquetFile {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for ParquetFile {
    type T = Ending;

    fn get_read(&self, start: u64) -> Result<Ending> {
        Ok(Ending { reader: self.0.get_read(start)?, ends: 0 })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.0.get_bytes(start, length)
    }
}
