//! A temporary file of records in partitions, written in any order and read back one partition at a time. The file has
//! no name, so that it disappears with the process, however that ends.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Offset and length of a block, the unit that is written and read.
pub type Block = (u64, usize);

pub struct Spool {
    folder: PathBuf,
    file: File,
    end: u64,
    /// A buffer is written when it holds this many bytes.
    full: usize,
    buffers: Vec<Vec<u8>>,
    blocks: Vec<Vec<Block>>,
}

impl Spool {
    /// `memory` bounds the buffers, of which each partition has one; a buffer holds at least one record.
    pub fn new(folder: &Path, partitions: usize, memory: usize) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(Error::io(folder))?;
        Ok(Self {
            folder: folder.to_owned(),
            file,
            end: 0,
            full: (memory / partitions.max(1)).clamp(1, 1 << 16),
            buffers: vec![Vec::new(); partitions],
            blocks: vec![Vec::new(); partitions],
        })
    }

    /// Adds a record, of any length. A block never ends inside one.
    pub fn push(&mut self, partition: usize, record: &[u8]) -> Result<()> {
        let buffer = &mut self.buffers[partition];
        if !buffer.is_empty() && buffer.len() + record.len() > self.full {
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

    /// Bytes that a partition holds.
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

    /// The blocks of a partition that were written, to be read in this order.
    pub fn blocks(&self, partition: usize) -> &[Block] {
        &self.blocks[partition]
    }

    /// Takes all blocks out of a partition; records that are pushed later get new blocks.
    pub fn take(&mut self, partition: usize) -> Result<Vec<Block>> {
        self.finish(partition)?;
        Ok(std::mem::take(&mut self.blocks[partition]))
    }

    /// Reads a block into `buffer` and gives its bytes.
    pub fn read<'b>(&self, block: Block, buffer: &'b mut Vec<u8>) -> Result<&'b [u8]> {
        buffer.resize(block.1, 0);
        self.file.read_exact_at(buffer, block.0).map_err(Error::io(&self.folder))?;
        Ok(buffer)
    }
}
