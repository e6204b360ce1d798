//! A temporary file of records in partitions, written in any order and read back one partition at a time. The file has
//! no name, so that it disappears when the process ends or is killed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Offset and length in bytes of a block, the unit that is written and read. A header before it, empty in the last block of
/// a partition, says where the partition's next block is: memory does not grow with the file.
type Block = (u64, usize);

/// Bytes of a header.
const HEADER: usize = 16;

/// The blocks of a partition that are still to be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Blocks {
    next: Option<Block>,
}

/// What was written of a partition.
#[derive(Debug, Clone, Copy, Default)]
struct Written {
    blocks: Blocks,
    last: Option<Block>,
    bytes: usize,
}

pub struct Spool {
    folder: PathBuf,
    file: File,
    end: u64,
    /// A buffer is written before it holds more bytes than this.
    buffer_bytes: usize,
    buffers: Vec<Vec<u8>>,
    written: Vec<Written>,
}

impl Spool {
    /// `memory` bounds the bytes of all buffers, one per partition; a buffer holds at least one record.
    pub fn new(folder: &Path, partitions: usize, memory: usize) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(Error::io(folder))?;
        Ok(Self {
            folder: folder.to_owned(),
            file,
            end: 0,
            buffer_bytes: (memory / partitions.max(1)).clamp(1, 1 << 16),
            buffers: vec![Vec::new(); partitions],
            written: vec![Written::default(); partitions],
        })
    }

    /// Adds a record of any length. A block never ends inside a record.
    pub fn push(&mut self, partition: usize, record: &[u8]) -> Result<()> {
        let buffer = &mut self.buffers[partition];
        if !buffer.is_empty() && buffer.len() + record.len() > self.buffer_bytes {
            self.write(partition)?;
        }
        self.buffers[partition].extend_from_slice(record);
        Ok(())
    }

    fn write(&mut self, partition: usize) -> Result<()> {
        let (buffer, written) = (&mut self.buffers[partition], &mut self.written[partition]);
        let block = (self.end, buffer.len());
        // The header stays a hole in the file, which reads as zeros, until there is a next block.
        self.file.write_all_at(buffer, block.0 + HEADER as u64).map_err(Error::io(&self.folder))?;
        if let Some((last, _)) = written.last {
            let header = u128::from(block.0) | (block.1 as u128) << 64;
            self.file.write_all_at(&header.to_le_bytes(), last).map_err(Error::io(&self.folder))?;
        }
        written.last = Some(block);
        written.bytes += block.1;
        written.blocks.next = written.blocks.next.or(Some(block));
        self.end += (HEADER + block.1) as u64;
        buffer.clear();
        Ok(())
    }

    /// Bytes of a partition, written and buffered.
    pub fn bytes(&self, partition: usize) -> usize {
        self.written[partition].bytes + self.buffers[partition].len()
    }

    fn finish(&mut self, partition: usize) -> Result<()> {
        if !self.buffers[partition].is_empty() {
            self.write(partition)?;
        }
        self.buffers[partition] = Vec::new();
        Ok(())
    }

    /// Writes the buffers of all partitions and frees them.
    pub fn flush(&mut self) -> Result<()> {
        (0..self.buffers.len()).try_for_each(|partition| self.finish(partition))
    }

    /// The written blocks of a partition, in the order in which they are read.
    pub fn blocks(&self, partition: usize) -> Blocks {
        self.written[partition].blocks
    }

    /// Takes all blocks out of a partition; later records get new blocks.
    pub fn take(&mut self, partition: usize) -> Result<Blocks> {
        self.finish(partition)?;
        Ok(std::mem::take(&mut self.written[partition]).blocks)
    }

    /// Reads the next block into `buffer` and returns its bytes; None after the last.
    pub fn read<'b>(&self, blocks: &mut Blocks, buffer: &'b mut Vec<u8>) -> Result<Option<&'b [u8]>> {
        let Some((offset, length)) = blocks.next else { return Ok(None) };
        buffer.resize(HEADER + length, 0);
        self.file.read_exact_at(buffer, offset).map_err(Error::io(&self.folder))?;
        let (header, records) = buffer.split_at(HEADER);
        let (offset, length) = header.split_at(HEADER / 2);
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
        blocks.next = Some((number(offset), number(length) as usize)).filter(|&(_, length)| length > 0);
        Ok(Some(records))
    }
}
