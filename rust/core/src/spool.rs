//! A temporary file of records in partitions: written in any order, read back one partition at a time. It has no name, so
//! that nothing of it outlives the process, however that ends.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Records of `N` bytes.
pub struct Spool<const N: usize> {
    folder: PathBuf,
    file: File,
    end: u64,
    /// Bytes of a block, the unit that is written.
    block: usize,
    buffers: Vec<Vec<u8>>,
    /// Offset and length of the blocks of each partition.
    blocks: Vec<Vec<(u64, usize)>>,
}

impl<const N: usize> Spool<N> {
    /// `memory` bounds the buffers, of which each partition has one; a buffer holds at least one record.
    pub fn new(folder: &Path, partitions: usize, memory: usize) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(Error::io(folder))?;
        let block = (memory / partitions.max(1)).clamp(N, 1 << 16) / N * N;
        let buffers = vec![Vec::new(); partitions];
        Ok(Self {
            folder: folder.to_owned(),
            file,
            end: 0,
            block,
            buffers,
            blocks: vec![Vec::new(); partitions],
        })
    }

    pub fn push(&mut self, partition: usize, record: [u8; N]) -> Result<()> {
        let buffer = &mut self.buffers[partition];
        buffer.extend_from_slice(&record);
        if buffer.len() == self.block { self.flush(partition) } else { Ok(()) }
    }

    fn flush(&mut self, partition: usize) -> Result<()> {
        let buffer = &mut self.buffers[partition];
        self.file.write_all_at(buffer, self.end).map_err(Error::io(&self.folder))?;
        self.blocks[partition].push((self.end, buffer.len()));
        self.end += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }

    /// Records that a partition holds.
    pub fn len(&self, partition: usize) -> usize {
        let written: usize = self.blocks[partition].iter().map(|(_, length)| length).sum();
        (written + self.buffers[partition].len()) / N
    }

    /// The blocks of a partition, to be read in this order; records pushed later are not among them.
    pub fn blocks(&mut self, partition: usize) -> Result<Vec<(u64, usize)>> {
        if !self.buffers[partition].is_empty() {
            self.flush(partition)?;
        }
        Ok(self.blocks[partition].clone())
    }

    /// Reads a block into `buffer` and gives its records.
    pub fn read<'b>(&self, block: (u64, usize), buffer: &'b mut Vec<u8>) -> Result<&'b [[u8; N]]> {
        buffer.resize(block.1, 0);
        self.file.read_exact_at(buffer, block.0).map_err(Error::io(&self.folder))?;
        Ok(buffer.as_chunks().0)
    }
}
