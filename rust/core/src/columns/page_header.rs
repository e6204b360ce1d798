//! The header of a Parquet page: what the format stores in Thrift's compact protocol. Types and numbers that the format
//! does not allow are errors, so that no other reader sees another size in the same bytes.

/// Types of the compact protocol.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const STRUCT: u8 = 12;

/// The deepest struct that is skipped; those of the format have one level.
const DEPTH: u32 = 4;

pub const DICTIONARY_PAGE: i32 = 2;
/// The encoding in which a value repeats the beginning of the one before.
pub const DELTA_BYTE_ARRAY: i32 = 7;

#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// The bytes end inside the header.
    Ends,
    Damaged,
}

type Result<T> = std::result::Result<T, Fault>;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct PageHeader {
    pub kind: i32,
    /// Bytes of the page after this header, without and with compression.
    pub uncompressed: usize,
    pub compressed: usize,
    pub values: usize,
    pub encoding: i32,
    /// Bytes before the compressed ones: levels in pages of version 2.
    pub plain_bytes: usize,
    pub is_compressed: bool,
}

/// Parses the header at the beginning of `bytes`; returns it and its length.
pub fn parse(bytes: &[u8]) -> Result<(PageHeader, usize)> {
    let mut thrift = Thrift { bytes, at: 0 };
    let mut header = PageHeader { is_compressed: true, ..PageHeader::default() };
    let (mut known, mut last) = ([false; 3], 0);
    while let Some((field, kind)) = thrift.field(&mut last)? {
        match (field, kind) {
            (1, I32) => header.kind = thrift.integer()?,
            (2, I32) => header.uncompressed = thrift.count()?,
            (3, I32) => header.compressed = thrift.count()?,
            (4, I32) => drop(thrift.integer()?),
            (5..=8, STRUCT) => details(&mut thrift, field, &mut header)?,
            (1..=8, _) => return Err(Fault::Damaged),
            _ => thrift.skip(kind, DEPTH)?,
        }
        if let 1..=3 = field {
            known[field as usize - 1] = true;
        }
    }
    if known == [true; 3] { Ok((header, thrift.at)) } else { Err(Fault::Damaged) }
}

/// The header of a data page (field 5), an index (6), a dictionary (7) or a data page of version 2 (8).
fn details(thrift: &mut Thrift, page: i16, header: &mut PageHeader) -> Result<()> {
    let mut last = 0;
    while let Some((field, kind)) = thrift.field(&mut last)? {
        match (page, field, kind) {
            (5 | 7 | 8, 1, I32) => header.values = thrift.count()?,
            (5 | 7, 2, I32) | (8, 4, I32) => header.encoding = thrift.integer()?,
            (8, 5 | 6, I32) => header.plain_bytes += thrift.count()?,
            (8, 7, TRUE | FALSE) => header.is_compressed = kind == TRUE,
            (5, 3 | 4, I32) | (8, 2 | 3, I32) => drop(thrift.integer()?),
            (5, 5, STRUCT) | (8, 8, STRUCT) | (7, 3, TRUE | FALSE) => thrift.skip(kind, DEPTH)?,
            (5, 1..=5, _) | (7, 1..=3, _) | (8, 1..=8, _) => return Err(Fault::Damaged),
            _ => thrift.skip(kind, DEPTH)?,
        }
    }
    Ok(())
}

struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Thrift<'_> {
    fn byte(&mut self) -> Result<u8> {
        let byte = self.bytes.get(self.at).copied().ok_or(Fault::Ends)?;
        self.at += 1;
        Ok(byte)
    }

    /// The number and type of the next field; None at the end of the struct.
    fn field(&mut self, last: &mut i16) -> Result<Option<(i16, u8)>> {
        let byte = self.byte()?;
        let (step, kind) = (byte >> 4, byte & 15);
        if kind == 0 {
            return Ok(None);
        }
        *last = match step {
            0 => i16::try_from(self.zigzag()?).map_err(|_| Fault::Damaged)?,
            step => last.checked_add(i16::from(step)).ok_or(Fault::Damaged)?,
        };
        Ok(Some((*last, kind)))
    }

    fn unsigned(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(number);
            }
        }
        // Longer than the numbers of a header, all of which have 32 bits.
        Err(Fault::Damaged)
    }

    fn zigzag(&mut self) -> Result<i64> {
        let number = self.unsigned()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn integer(&mut self) -> Result<i32> {
        i32::try_from(self.zigzag()?).map_err(|_| Fault::Damaged)
    }

    fn count(&mut self) -> Result<usize> {
        usize::try_from(self.integer()?).map_err(|_| Fault::Damaged)
    }

    /// Skips a value; lists and maps are no part of a header.
    fn skip(&mut self, kind: u8, depth: u32) -> Result<()> {
        let bytes = match kind {
            TRUE | FALSE => 0,
            BYTE => 1,
            DOUBLE => 8,
            I16 | I32 | I64 => return self.varint(),
            BINARY => usize::try_from(self.unsigned()?).map_err(|_| Fault::Damaged)?,
            STRUCT if depth > 0 => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip(kind, depth - 1)?;
                }
                0
            }
            _ => return Err(Fault::Damaged),
        };
        self.at = self.at.checked_add(bytes).ok_or(Fault::Damaged)?;
        if self.at <= self.bytes.len() { Ok(()) } else { Err(Fault::Ends) }
    }

    fn varint(&mut self) -> Result<()> {
        while self.byte()? >= 128 {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dictionary page: 300 bytes, 20 compressed, 7 values in plain encoding.
    const DICTIONARY: [u8; 15] = [0x15, 4, 0x15, 0xd8, 4, 0x15, 40, 0x4c, 0x15, 14, 0x15, 0, 0, 0, 99];

    #[test]
    fn a_header_has_its_sizes_and_length() {
        let Ok((header, length)) = parse(&DICTIONARY) else { unreachable!("a whole header") };
        assert_eq!((header.kind, header.uncompressed, header.compressed), (DICTIONARY_PAGE, 300, 20));
        assert_eq!((header.values, header.encoding, length), (7, 0, 14));
    }

    #[test]
    fn a_header_that_ends_or_has_another_type_is_a_fault() {
        for length in 0..14 {
            assert_eq!(parse(&DICTIONARY[..length]), Err(Fault::Ends));
        }
        for kind in (0..16).filter(|&kind| kind != I32) {
            let mut bytes = DICTIONARY;
            bytes[2] = 0x10 | kind;
            assert_eq!(parse(&bytes), Err(Fault::Damaged), "{kind}");
        }
        // A size of 2^32 + 300, of which other readers see the last 32 bits.
        let long = [&DICTIONARY[..3], &[0xd8, 0x84, 0x80, 0x80, 0x20], &DICTIONARY[5..]].concat();
        assert_eq!(parse(&long), Err(Fault::Damaged));
    }
}
