//! `NumPy`'s .npy files: reads one-dimensional float arrays in parts, and writes the numbers of kept rows.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::columns::float32::saturate;
use crate::io::atomic_files::Draft;
use crate::{Error, Result, Row};

const MAGIC: &[u8] = b"\x93NUMPY";
/// Bytes of the header that is written.
const HEADER: usize = 128;
/// Values of a part, and of a batch.
const PART: u64 = 1 << 20;
const BATCH: u64 = 1 << 14;

/// A float32 or float64 array of one dimension.
pub struct Npy {
    path: PathBuf,
    file: File,
    start: u64,
    width: u64,
    count: u64,
}

impl Npy {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let size = file.metadata().map_err(Error::io(path))?.len();
        let refuse = |why: &str| {
            Error::input(format!(
                "{}: {why}: give a one-dimensional float32 or float64 array, as numpy.save writes it",
                path.display()
            ))
        };
        let mut head = [0; 12];
        file.read_exact_at(&mut head, 0).map_err(|_| refuse("not a .npy file"))?;
        let (length, start) = match (&head[..6], head[6]) {
            (MAGIC, 1) => (u64::from(u16::from_le_bytes([head[8], head[9]])), 10),
            (MAGIC, 2 | 3) => (u64::from(u32::from_le_bytes([head[8], head[9], head[10], head[11]])), 12),
            _ => return Err(refuse("not a .npy file")),
        };
        if start + length > size {
            return Err(refuse("it ends within its header"));
        }
        let mut header = vec![0; length as usize];
        file.read_exact_at(&mut header, start).map_err(Error::io(path))?;
        let header = String::from_utf8_lossy(&header);
        let width = match field(&header, "descr") {
            Some("'<f4'") => 4,
            Some("'<f8'") => 8,
            other => return Err(refuse(&format!("its type is {}", other.unwrap_or("unknown")))),
        };
        let shape = field(&header, "shape").unwrap_or("unknown");
        let count = shape.strip_prefix('(').and_then(|shape| shape.strip_suffix(",)"));
        let count = count.and_then(|count| count.trim().parse::<u64>().ok());
        let count = count.ok_or_else(|| refuse(&format!("its shape is {shape}")))?;
        let start = start + length;
        if count.checked_mul(width).and_then(|bytes| bytes.checked_add(start)) != Some(size) {
            return Err(refuse(&format!("it has {size} bytes, which is not {count} values")));
        }
        Ok(Self { path: path.to_owned(), file, start, width, count })
    }

    /// How many parts can be streamed on their own.
    pub fn len(&self) -> usize {
        self.count.div_ceil(PART) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Reads some parts, in the order of the values.
    pub fn read(&self, span: Range<usize>) -> NpyReading<'_> {
        let (row, end) = (span.start as u64 * PART, (span.end as u64 * PART).min(self.count));
        let wide = vec![0.0; if self.width == 8 { BATCH as usize } else { 0 }];
        NpyReading { array: self, row, end, wide }
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> Result<()> {
        self.file.read_exact_at(bytes, at).map_err(Error::io(&self.path))
    }
}

/// A position in an array.
pub struct NpyReading<'a> {
    array: &'a Npy,
    row: u64,
    end: u64,
    /// Holds a batch of float64 values before they are rounded.
    wide: Vec<f64>,
}

impl NpyReading<'_> {
    /// Reads the next batch into `values` and, unless `rowless`, its rows into `rows`; false at the end.
    pub fn batch(&mut self, rowless: bool, rows: &mut Vec<u64>, values: &mut Vec<f32>) -> Result<bool> {
        if self.row >= self.end {
            return Ok(false);
        }
        let count = BATCH.min(self.end - self.row);
        let at = self.array.start + self.row * self.array.width;
        values.resize(count as usize, 0.0);
        if self.array.width == 4 {
            self.array.read_at(bytemuck::cast_slice_mut(values), at)?;
            for value in values.iter_mut() {
                *value = f32::from_bits(u32::from_le(value.to_bits()));
            }
        } else {
            let wide = &mut self.wide[..count as usize];
            self.array.read_at(bytemuck::cast_slice_mut(wide), at)?;
            let rounded = wide.iter().map(|value| saturate(f64::from_bits(u64::from_le(value.to_bits()))));
            values.iter_mut().zip(rounded).for_each(|(value, rounded)| *value = rounded);
        }
        // NaN is noticed once a batch and not at each value: that costs no branch.
        let mut nan = false;
        for value in values.iter_mut() {
            nan |= value.is_nan();
            *value = value.clamp(f32::MIN, f32::MAX);
        }
        if nan {
            let index = values.iter().position(|value| value.is_nan()).unwrap_or(0);
            return Err(Error::input(format!(
                "{}: the value of {} is NaN: an array has no null, leave such rows out of a Parquet file",
                self.array.path.display(),
                Row(self.row + index as u64)
            )));
        }
        rows.clear();
        if !rowless {
            rows.extend(self.row..self.row + count);
        }
        self.row += count;
        Ok(true)
    }
}

/// The value of a key in a header, which is a Python dictionary as `NumPy` writes it.
fn field<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let rest = header.split_once(&format!("'{key}':"))?.1.trim_start();
    let end = if rest.starts_with('(') { rest.find(')')? + 1 } else { rest.find([',', '}'])? };
    Some(rest[..end].trim_end())
}

/// Writes ascending row numbers: uint32, or uint64 where one of them is 2^32 or more.
pub struct RowsWriter {
    path: PathBuf,
    draft: Draft,
    wide: bool,
    /// How many rows were announced, and how many were written.
    count: u64,
    written: u64,
    /// The row after the last one that was decided, for rows without numbers.
    next: u64,
    bytes: Vec<u8>,
}

impl RowsWriter {
    /// `count` rows, all below `end`, will be added.
    pub fn create(path: &Path, count: u64, end: u64) -> Result<Self> {
        let wide = end > 1 << 32;
        let kind = if wide { "<u8" } else { "<u4" };
        let mut header =
            format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({count},), }}").into_bytes();
        header.resize(HEADER - 11, b' ');
        header.push(b'\n');
        let mut draft = Draft::create(path)?;
        let parts: [&[u8]; 4] = [MAGIC, &[1, 0], &((HEADER - 10) as u16).to_le_bytes(), &header];
        draft.write_all(&parts.concat()).map_err(Error::io(path))?;
        Ok(Self { path: path.to_owned(), draft, wide, count, written: 0, next: 0, bytes: Vec::new() })
    }

    /// Adds the kept rows; if `rows` is empty, the rows continue after the last ones.
    pub fn add(&mut self, rows: &[u64], kept: &[bool]) -> Result<()> {
        let first = self.next;
        self.next = first + kept.len() as u64;
        if rows.is_empty() { self.put(first..self.next, kept) } else { self.put(rows.iter().copied(), kept) }
    }

    fn put(&mut self, rows: impl Iterator<Item = u64>, kept: &[bool]) -> Result<()> {
        // Every row is written, and overwritten by the next one if it is not kept: this needs no branch.
        let width = if self.wide { 8 } else { 4 };
        self.bytes.resize(kept.len() * width, 0);
        let mut count = 0;
        if self.wide {
            let places = self.bytes.as_chunks_mut::<8>().0;
            for (row, &kept) in rows.zip(kept) {
                places[count] = row.to_le_bytes();
                count += usize::from(kept);
            }
        } else {
            let places = self.bytes.as_chunks_mut::<4>().0;
            for (row, &kept) in rows.zip(kept) {
                places[count] = (row as u32).to_le_bytes();
                count += usize::from(kept);
            }
        }
        self.written += count as u64;
        self.draft.write_all(&self.bytes[..count * width]).map_err(Error::io(&self.path))
    }

    /// Publishes the file; returns its digest.
    pub fn finish(self) -> Result<String> {
        if self.written != self.count {
            return Err(Error::input("the scores changed while they were read: run the step again"));
        }
        self.draft.publish()
    }
}
