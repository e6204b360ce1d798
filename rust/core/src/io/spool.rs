//! A temporary file of records in partitions, written in any order and read back one partition at a time. The file has
//! no name, so that it disappears when the process ends or is killed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Offset and length in bytes of a block, the unit that is written and read.
pub type Block = (u64, usize);

pub struct Spool {
    folder: PathBuf,
    file: File,
    end: u64,
    /// A buffer is written before it holds more bytes than this.
    buffer_bytes: usize,
    buffers: Vec<Vec<u8>>,
    blocks: Vec<Vec<Block>>,
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
            blocks: vec![Vec::new(); partitions],
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
        let buffer = &mut self.buffers[partition];
        self.file.write_all_at(buffer, self.end).map_err(Error::io(&self.folder))?;
        self.blocks[partition].push((self.end, buffer.len()));
        self.end += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }

    /// Bytes of a partition, written and buffered.
    pub fn bytes(&self, partition: usize) -> usize {
        let written: usize = self.blocks[partition].iter().map(|(_, length)| length).sum();
        written + self.buffers[partition].len()
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
    pub fn blocks(&self, partition: usize) -> &[Block] {
        &self.blocks[partition]
    }

    /// Takes all blocks out of a partition; later records get new blocks.
    pub fn take(&mut self, partition: usize) -> Result<Vec<Block>> {
        self.finish(partition)?;
        Ok(std::mem::take(&mut self.blocks[partition]))
    }

    /// Reads a block into `buffer` and returns its bytes.
    pub fn read<'b>(&self, block: Block, buffer: &'b mut Vec<u8>) -> Result<&'b [u8]> {
        buffer.resize(block.1, 0);
        self.file.read_exact_at(buffer, block.0).map_err(Error::io(&self.folder))?;
        Ok(buffer)
    }
}
