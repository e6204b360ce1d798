//! Duplicates beyond memory: fingerprints and rows go to temporary files by their leading bits, and each file is
//! resolved in memory by itself.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::best_rows::BestRows;
use crate::first_rows::{FirstRows, Slot, row};
use crate::found::{Found, FoundWriter, Merged};
use crate::{Error, Result, Watch};

/// Leading bits that tell the files of one level apart; a file that is too large is parted again by the next bits.
const LEVEL_BITS: u32 = 8;
const FILES: usize = 1 << LEVEL_BITS;
const READ_BYTES: usize = 1 << 18;
/// Records taken from a file before they are looked up together.
const BATCH: usize = 1024;

/// What stands in a record beside the slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// How much the row is wished for: the lowest of equal keys is kept, not the first.
    pub priority: bool,
    /// What the fingerprint is of, to be compared byte for byte.
    pub text: bool,
}

impl Layout {
    /// Whether the first row of a fingerprint is always the one that is kept.
    pub fn is_plain(self) -> bool {
        self == Self::default()
    }
}

/// A row that may be a duplicate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Candidate<'a> {
    pub slot: Slot,
    pub priority: u32,
    pub text: &'a [u8],
}

pub struct Partitions {
    folder: PathBuf,
    layout: Layout,
    /// Leading bits that were used up by the levels above.
    shared: u32,
    files: Vec<BufWriter<File>>,
}

impl Partitions {
    /// Opens the files in `folder`, which is made; `buffers` is what they may hold in memory together.
    pub fn create(folder: &Path, layout: Layout, buffers: usize) -> Result<Self> {
        Self::at_level(folder, layout, 0, buffers)
    }

    fn at_level(folder: &Path, layout: Layout, shared: u32, buffers: usize) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let size = (buffers / FILES).clamp(4 << 10, 256 << 10);
        let files = (0..FILES).map(|number| {
            let path = file_path(folder, number);
            let file = File::create(&path).map_err(Error::io(&path))?;
            Ok(BufWriter::with_capacity(size, file))
        });
        Ok(Self { folder: folder.to_owned(), layout, shared, files: files.collect::<Result<_>>()? })
    }

    /// Adds a record. Records of equal fingerprints must come in the order of their rows.
    pub fn add(&mut self, candidate: Candidate<'_>) -> Result<()> {
        let number = ((candidate.slot << self.shared) >> (u128::BITS - LEVEL_BITS)) as usize;
        let Self { folder, layout, files, .. } = self;
        write_record(&mut files[number], *layout, candidate)
            .map_err(|source| Error::Io { path: file_path(folder, number), source })
    }

    /// Tells the duplicates: files of (row, row that is kept), ascending. `memory` bounds the tables.
    pub fn resolve(mut self, memory: usize, watch: &Watch) -> Result<Vec<Found>> {
        for (number, file) in self.files.iter_mut().enumerate() {
            file.flush().map_err(Error::io(&file_path(&self.folder, number)))?;
        }
        self.files.clear();
        let mut found = Vec::new();
        for number in 0..FILES {
            let path = file_path(&self.folder, number);
            found.extend(self.resolve_file(&path, memory, watch)?);
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
        Ok(found)
    }

    fn resolve_file(&self, path: &Path, memory: usize, watch: &Watch) -> Result<Option<Found>> {
        let mut writer = FoundWriter::create(&path.with_extension("found"))?;
        let whole = if self.layout.is_plain() {
            self.first_of(path, memory, &mut writer, watch)?
        } else {
            self.best_of(path, memory, &mut writer, watch)?
        };
        if whole {
            return writer.finish();
        }
        drop(writer);
        self.split(path, memory, watch)
    }

    /// Resolves a file by the first row of each fingerprint; false if there are too many for the memory.
    fn first_of(&self, path: &Path, memory: usize, found: &mut FoundWriter, watch: &Watch) -> Result<bool> {
        let mut table = FirstRows::new(memory, self.shared + LEVEL_BITS);
        let mut slots = Vec::with_capacity(BATCH);
        let mut records = Records::open(path, self.layout)?;
        loop {
            watch.check()?;
            slots.clear();
            while slots.len() < BATCH
                && let Some(record) = records.next()?
            {
                slots.push(record.slot);
            }
            if slots.is_empty() {
                return Ok(true);
            }
            if !table.reserve(slots.len()) {
                return Ok(false);
            }
            let mut outcome = Ok(());
            table.insert(&slots, |index, earlier| {
                if let (Some(of), Ok(())) = (earlier, &outcome) {
                    outcome = found.add(row(slots[index]), of);
                }
            });
            outcome?;
        }
    }

    /// Resolves a file by the best row of each key, told apart byte for byte where the records hold their text.
    fn best_of(&self, path: &Path, memory: usize, found: &mut FoundWriter, watch: &Watch) -> Result<bool> {
        let mut table = BestRows::new(memory, self.shared + LEVEL_BITS);
        let mut records = Records::open(path, self.layout)?;
        let mut count = 0_usize;
        while let Some(record) = records.next()? {
            count += 1;
            if count.is_multiple_of(BATCH) {
                watch.check()?;
            }
            if !table.offer(record) {
                return Ok(false);
            }
        }
        let mut records = Records::open(path, self.layout)?;
        while let Some(record) = records.next()? {
            if let Some(best) = table.best(record).filter(|&best| best != row(record.slot)) {
                found.add(row(record.slot), best)?;
            }
        }
        Ok(true)
    }

    /// Parts a file by the next bits of its fingerprints.
    fn split(&self, path: &Path, memory: usize, watch: &Watch) -> Result<Option<Found>> {
        let shared = self.shared + LEVEL_BITS;
        // The slots tell 88 bits apart; keys that share them all are not parted by more bits.
        if shared + LEVEL_BITS > 64 {
            return Err(Error::input(format!(
                "{}: one part of the fingerprints does not fit into memory: raise --memory",
                path.display()
            )));
        }
        let folder = path.with_extension("parts");
        let mut parts = Self::at_level(&folder, self.layout, shared, memory / 2)?;
        let mut records = Records::open(path, self.layout)?;
        while let Some(record) = records.next()? {
            parts.add(record)?;
        }
        let merged = Merged::of(parts.resolve(memory, watch)?)?;
        let whole = merged.into_file(&path.with_extension("found"), watch, |_| {})?;
        fs::remove_dir_all(&folder).map_err(Error::io(&folder))?;
        Ok(whole)
    }
}

fn file_path(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number:03}.fingerprints"))
}

fn write_record(file: &mut impl Write, layout: Layout, record: Candidate<'_>) -> io::Result<()> {
    file.write_all(&record.slot.to_le_bytes())?;
    if layout.priority {
        file.write_all(&record.priority.to_le_bytes())?;
    }
    if layout.text {
        file.write_all(&(record.text.len() as u32).to_le_bytes())?;
        file.write_all(record.text)?;
    }
    Ok(())
}

/// The records of a file, in order.
struct Records {
    path: PathBuf,
    file: BufReader<File>,
    layout: Layout,
    left: u64,
    text: Vec<u8>,
}

impl Records {
    fn open(path: &Path, layout: Layout) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let left = file.metadata().map_err(Error::io(path))?.len();
        let file = BufReader::with_capacity(READ_BYTES, file);
        Ok(Self { path: path.to_owned(), file, layout, left, text: Vec::new() })
    }

    fn next(&mut self) -> Result<Option<Candidate<'_>>> {
        if self.left == 0 {
            return Ok(None);
        }
        match self.read() {
            Ok((slot, priority)) => Ok(Some(Candidate { slot, priority, text: &self.text })),
            Err(source) => Err(Error::Io { path: self.path.clone(), source }),
        }
    }

    fn read(&mut self) -> io::Result<(Slot, u32)> {
        let slot = Slot::from_le_bytes(self.take()?);
        let priority = if self.layout.priority { u32::from_le_bytes(self.take()?) } else { 0 };
        if self.layout.text {
            let length = u32::from_le_bytes(self.take()?) as usize;
            self.text.resize(length, 0);
            self.file.read_exact(&mut self.text)?;
            self.left -= length as u64;
        }
        Ok((slot, priority))
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        self.left -= N as u64;
        Ok(bytes)
    }
}
