//! Recognises files that are not text by their first bytes: archives, compressions, tables.

use std::path::Path;

use crate::{Error, Result};

/// The most bytes from the start that `check_content` looks at; a tar header ends with them.
pub const START_BYTES: usize = 512;
const TAR_PLACE: usize = 257;

const DECOMPRESS: &str =
    ", which is not read: decompress the file, or compress the text with gzip, zstd, xz or bzip2";
const UNPACK: &str = ", which is not read: unpack the archive, and give the files in it";
const CONVERT: &str = ", which is not read: write its text as lines, TSV or JSONL";
const TWICE: &str = " inside another compression: decompress the file once";

/// The first bytes of files, what they are, and why they are not read.
const UNREAD: [(&[u8], &str, &str); 22] = [
    (b"\x1f\x8b", "gzip", TWICE),
    (b"\x28\xb5\x2f\xfd", "zstd", TWICE),
    (b"\xfd7zXZ\0", "xz", TWICE),
    (b"BZh91AY&SY", "bzip2", TWICE),
    (b"\x1f\x9d", "compress (.Z)", DECOMPRESS),
    (b"\x1f\xa0", "compress (.Z)", DECOMPRESS),
    (b"LZIP", "lzip (.lz)", DECOMPRESS),
    (b"\x5d\0", "LZMA (.lzma)", DECOMPRESS),
    (b"\x04\x22\x4d\x18", "LZ4", DECOMPRESS),
    (b"\x02\x21\x4c\x18", "LZ4", DECOMPRESS),
    (b"\xff\x06\0\0sNaPpY", "Snappy", DECOMPRESS),
    (b"PK\x03\x04", "a zip archive", UNPACK),
    (b"PK\x05\x06", "a zip archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"PAR1", "Parquet", ", not text: give format = parquet"),
    (b"ARROW1\0\0", "an Arrow file", CONVERT),
    (b"Obj\x01", "Avro", CONVERT),
    (b"\x93NUMPY", "a NumPy array", CONVERT),
    (b"SQLite format 3\0", "a SQLite database", CONVERT),
    (b"%PDF-", "PDF", CONVERT),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", CONVERT),
];

/// Names of compressions and archives that are not read, by suffix in lower case.
pub fn unread_of_name(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "z" => Some("compress (.Z)"),
        "lz" => Some("lzip (.lz)"),
        "lzma" => Some("LZMA (.lzma)"),
        "lz4" => Some("LZ4"),
        "zip" => Some("a zip archive"),
        "7z" => Some("a 7z archive"),
        _ => None,
    }
}

/// Fails if a text that begins with these bytes, after decompression, is another kind of file. `start` holds
/// `START_BYTES`, or the whole text.
pub fn check_content(path: &Path, start: &[u8]) -> Result<()> {
    let tar = start.get(TAR_PLACE..).is_some_and(|rest| rest.starts_with(b"ustar"));
    let found = UNREAD.iter().find(|(magic, ..)| start.starts_with(magic));
    let (what, why) = match found {
        _ if tar => ("a tar archive", UNPACK),
        Some((_, what, why)) => (*what, *why),
        None => return Ok(()),
    };
    Err(Error::input(format!("{} is {what}{why}", path.display())))
}
