//! How many rows of a Parquet file fit into memory: the sizes of its pages, before the library allocates what their
//! headers say.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::FileExt;
use std::path::Path;

use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use crate::columns::page_header::{DELTA_BYTE_ARRAY, DICTIONARY_PAGE, Fault, PageHeader, parse};
use crate::{Error, Result};

/// Reading may use one part in this many of the memory of a pass, within these limits.
const MEMORY_SHARE: usize = 2;
const LEAST_BYTES: usize = 32 << 20;
const MOST_BYTES: usize = 2 << 30;
/// Bytes of a header that are read at first, and the most that a header may have: statistics repeat values.
const HEADER_BYTES: usize = 256;
const MOST_HEADER_BYTES: usize = 16 << 20;
/// What the library keeps of a value of a dictionary beside its page; it allocates this for as many as the header says.
const VALUE_BYTES: usize = 16;

/// Pages of a file that are read together.
pub struct PagesRead<'a> {
    pub path: &'a Path,
    pub file: &'a File,
    pub metadata: &'a ParquetMetaData,
    pub groups: Range<usize>,
    /// The columns that are read.
    pub leaves: &'a [usize],
    /// Bytes of the pass; `usize::MAX` if they are not limited.
    pub memory: usize,
}

/// The pages of a column in the row groups that are read.
struct Column {
    leaf: usize,
    /// The group of the largest page, and its bytes.
    largest: (usize, usize),
    /// Bytes of the largest dictionary, and of the largest page as it is in the file.
    dictionary: usize,
    compressed: usize,
    data: Vec<Data>,
}

/// A data page.
struct Data {
    rows: usize,
    bytes: usize,
    /// Whether each value may have as many bytes as the page.
    repeats: bool,
}

impl PagesRead<'_> {
    /// The rows of a batch, one of the powers of two in `rows`: the most whose pages fit into the share of memory.
    pub fn batch_rows(&self, rows: RangeInclusive<usize>) -> Result<usize> {
        let share = (self.memory / MEMORY_SHARE).clamp(LEAST_BYTES, MOST_BYTES);
        let columns = self.leaves.iter().map(|&leaf| self.column(leaf, share)).collect::<Result<Vec<_>>>()?;
        let (mut batch, least) = (*rows.end(), *rows.start());
        loop {
            let bytes = columns.iter().fold(0, |sum: usize, column| sum.saturating_add(column.bytes(batch)));
            if bytes <= share {
                return Ok(batch);
            }
            if batch == least {
                let largest = columns.iter().max_by_key(|column| column.largest.1);
                let (group, leaf) = largest.map_or((0, 0), |column| (column.largest.0, column.leaf));
                return Err(self.too_large(group, leaf, bytes, share));
            }
            batch /= 2;
        }
    }

    fn column(&self, leaf: usize, share: usize) -> Result<Column> {
        let (largest, dictionary, compressed) = ((0, 0), 0, 0);
        let mut column = Column { leaf, largest, dictionary, compressed, data: Vec::new() };
        for group in self.groups.clone() {
            self.walk(group, share, &mut column)?;
        }
        Ok(column)
    }

    /// Reads the headers of a chunk: they follow each other, each before its page.
    fn walk(&self, group: usize, share: usize, column: &mut Column) -> Result<()> {
        let metadata = self.metadata.row_group(group);
        let leaf = column.leaf;
        let chunk = metadata.columns().get(leaf).ok_or_else(|| self.damaged(group, leaf))?;
        let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        let place = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
        let (mut offset, mut rest) = place.ok_or_else(|| self.damaged(group, leaf))?;
        let is_compressed = chunk.compression() != Compression::UNCOMPRESSED;
        // The rows of a page are those of its values, but for columns that repeat in a row.
        let rows = metadata.num_rows().max(0) as u128;
        let values = u128::try_from(chunk.num_values()).unwrap_or(0).max(rows).max(1);
        while rest > 0 {
            let (page, length) = self.header(offset, rest).map_err(|fault| self.fault(fault, group, leaf))?;
            let (plain, stored) = (page.uncompressed, page.compressed);
            offset += length as u64;
            rest -= length as u64;
            if stored as u64 > rest || page.plain_bytes > stored.min(plain) {
                return Err(self.damaged(group, leaf));
            }
            let mut bytes = if is_compressed { plain.saturating_add(stored) } else { stored };
            if page.kind == DICTIONARY_PAGE {
                bytes += page.values * VALUE_BYTES;
                column.dictionary = column.dictionary.max(bytes);
            } else {
                let rows = (page.values as u128 * rows).div_ceil(values) as usize;
                let repeats = page.encoding == DELTA_BYTE_ARRAY;
                column.data.push(Data { rows, bytes: if is_compressed { plain } else { stored }, repeats });
            }
            column.compressed = column.compressed.max(stored);
            if bytes > column.largest.1 {
                column.largest = (group, bytes);
            }
            if bytes > share {
                return Err(self.too_large(group, leaf, bytes, share));
            }
            if is_compressed && page.is_compressed {
                self.check_inflated(chunk, offset, &page, share)
                    .map_err(|fault| self.fault(fault, group, leaf))?;
            }
            offset += stored as u64;
            rest -= stored as u64;
        }
        Ok(())
    }

    fn header(&self, offset: u64, rest: u64) -> io::Result<(PageHeader, usize)> {
        let mut buffer = Vec::new();
        let mut room = HEADER_BYTES;
        loop {
            buffer.resize(room.min(usize::try_from(rest).unwrap_or(usize::MAX)), 0);
            self.file.read_exact_at(&mut buffer, offset)?;
            match parse(&buffer) {
                Ok(header) => return Ok(header),
                Err(Fault::Ends) if room < MOST_HEADER_BYTES && buffer.len() == room => room *= 16,
                Err(_) => return Err(ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Fails if a page inflates to more than its header says: for codecs whose decoders in the library do not stop there,
    /// unless the most that they can make of the bytes fits into memory.
    fn check_inflated(
        &self,
        chunk: &ColumnChunkMetaData,
        offset: u64,
        page: &PageHeader,
        share: usize,
    ) -> io::Result<()> {
        let ratio = match chunk.compression() {
            Compression::GZIP(_) => 1032,
            Compression::LZ4 => 255,
            Compression::BROTLI(_) => usize::MAX,
            _ => return Ok(()),
        };
        if page.compressed.saturating_mul(ratio) <= share {
            return Ok(());
        }
        let mut bytes = vec![0; page.compressed - page.plain_bytes];
        self.file.read_exact_at(&mut bytes, offset + page.plain_bytes as u64)?;
        let most = page.uncompressed - page.plain_bytes;
        let inflated = match chunk.compression() {
            Compression::GZIP(_) => inflated(flate2::read::MultiGzDecoder::new(&bytes[..]), most),
            Compression::BROTLI(_) => inflated(brotli::Decompressor::new(&bytes[..], 1 << 16), most),
            _ => inflated(lz4_flex::frame::FrameDecoder::new(&bytes[..]), most),
        };
        if inflated > most { Err(ErrorKind::InvalidData.into()) } else { Ok(()) }
    }

    fn fault(&self, fault: io::Error, group: usize, leaf: usize) -> Error {
        match fault.kind() {
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => self.damaged(group, leaf),
            _ => Error::io(self.path)(fault),
        }
    }

    fn name(&self, leaf: usize) -> String {
        self.metadata.file_metadata().schema_descr().column(leaf).path().string()
    }

    fn damaged(&self, group: usize, leaf: usize) -> Error {
        let name = self.name(leaf);
        let cause = format!("the page sizes of column {name} in row group {group} are wrong");
        Error::parquet(self.path, ParquetError::EOF(cause))
    }

    fn too_large(&self, group: usize, leaf: usize, bytes: usize, share: usize) -> Error {
        let (path, name, most) = (self.path.display(), self.name(leaf), share >> 20);
        let needed = bytes.div_ceil(1 << 20);
        let memory = match bytes.checked_mul(MEMORY_SHARE) {
            Some(memory) if bytes <= MOST_BYTES && self.memory < usize::MAX => {
                format!("give memory of {} MiB, or ", memory.div_ceil(1 << 20))
            }
            _ => String::new(),
        };
        Error::input(format!(
            "{path}: pages of row group {group} (from 0) need {needed} MiB, most of them those of column {name}, but \
             reading may use {most} MiB: {memory}write the file with smaller pages"
        ))
    }
}

impl Column {
    /// Bytes of the pages that a batch of so many rows needs, at most.
    fn bytes(&self, batch: usize) -> usize {
        let weight = |page: &Data| page.bytes * if page.repeats { batch.min(page.rows) } else { 1 };
        let (mut most, mut sum, mut rows, mut first) = (0, 0_usize, 0, 0);
        for (last, page) in self.data.iter().enumerate() {
            // No batch has rows of page `first` and of this one, if all its others fit between them.
            while first < last && rows - self.data[first].rows >= batch - 1 {
                rows -= self.data[first].rows;
                sum = sum.saturating_sub(weight(&self.data[first]));
                first += 1;
            }
            sum = sum.saturating_add(weight(page));
            rows += page.rows;
            most = most.max(sum);
        }
        self.dictionary.saturating_add(self.compressed).saturating_add(most)
    }
}

/// How many bytes a decoder gives before it fails or ends; it is left when they are more than `most`.
fn inflated(mut decoder: impl Read, most: usize) -> usize {
    let (mut buffer, mut total) = (vec![0; 1 << 16], 0);
    while total <= most {
        match decoder.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => total += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The library reports it.
            Err(_) => break,
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_needs_the_pages_that_its_rows_are_in() {
        for seed in 0..200_usize {
            let number = |index: usize, below: usize| (seed * 7919 + index * 104_729) % 1009 % below;
            let pages = 1 + number(0, 9);
            let page =
                |at| Data { rows: number(3 * at + 1, 4), bytes: number(3 * at + 2, 50), repeats: false };
            let data: Vec<Data> = (0..pages).map(page).collect();
            let column = Column { leaf: 0, largest: (0, 0), dictionary: 0, compressed: 0, data };
            // The page of every row.
            let rows: Vec<usize> =
                column.data.iter().enumerate().flat_map(|(at, page)| vec![at; page.rows]).collect();
            for batch in [1, 2, 4, 8, 16] {
                let bytes = |rows: &[usize]| {
                    (rows[0]..=rows[rows.len() - 1]).map(|at| column.data[at].bytes).sum::<usize>()
                };
                let most = rows.windows(batch.min(rows.len()).max(1)).map(bytes).max().unwrap_or(0);
                assert!(column.bytes(batch) >= most, "{seed} {batch}");
                if (0..pages).all(|at| column.data[at].rows > 0) {
                    assert_eq!(column.bytes(batch), most, "{seed} {batch}");
                }
            }
        }
    }
}
