//! A record: a pair, or the reason why it is not a pair; and a buffer of decoded records.

/// The two sides of a record, or why it is not a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    Pair {
        source: &'a [u8],
        target: &'a [u8],
    },
    /// A line or side over `max_line_bytes`.
    TooLong,
    /// Too few columns, invalid JSON, or a field that is missing or not text.
    Malformed,
    /// A TSV line with another number of columns than the first record of its file.
    Columns,
    /// A translation unit that lacks one of the languages.
    MissingSide,
}

/// Records that were decoded, their text in one buffer.
#[derive(Debug, Default)]
pub struct Pairs {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Pair { start: usize, middle: usize, end: usize },
    TooLong,
    Malformed,
    Columns,
    MissingSide,
}

impl Pairs {
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes of all sides.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn push(&mut self, record: Record<'_>) {
        self.places.push(match record {
            Record::Pair { source, target } => {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(source);
                let middle = self.bytes.len();
                self.bytes.extend_from_slice(target);
                Place::Pair { start, middle, end: self.bytes.len() }
            }
            Record::TooLong => Place::TooLong,
            Record::Malformed => Place::Malformed,
            Record::Columns => Place::Columns,
            Record::MissingSide => Place::MissingSide,
        });
    }

    pub fn record(&self, index: usize) -> Record<'_> {
        match self.places[index] {
            Place::Pair { start, middle, end } => {
                Record::Pair { source: &self.bytes[start..middle], target: &self.bytes[middle..end] }
            }
            Place::TooLong => Record::TooLong,
            Place::Malformed => Record::Malformed,
            Place::Columns => Record::Columns,
            Place::MissingSide => Record::MissingSide,
        }
    }
}
