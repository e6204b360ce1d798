//! Streams the translation units of a TMX file: every pair of a source and a target variant of a unit is a record.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use quick_xml::Reader;
use quick_xml::escape::{partial_escape, resolve_xml_entity};
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::corpus::files_read::FileRead;
use crate::corpus::readers::lines::CHUNK_LINES;
use crate::corpus::record::Pairs;
use crate::corpus::record::Record;
use crate::io::compression::{Decoder, is_stopped};
use crate::io::encoding::{Decoded, UNDECODABLE};
use crate::text::xml::{DECLARATION, is_legal, is_sound};
use crate::{Error, Progress, Result};

/// The longest text, tag or comment that is held, in bytes; a file with a longer one is damaged or not TMX.
const MARKUP_BYTES: usize = 16 << 20;
/// The most bytes of the segments of a unit in the two languages.
const UNIT_BYTES: usize = 16 << 20;
/// What a segment costs in addition to its text, in bytes.
const SEGMENT_BYTES: usize = 64;
/// The most elements inside each other, and the longest name of one, in bytes: the XML reader holds the names of open
/// elements.
const MAX_DEPTH: usize = 256;
const NAME_BYTES: usize = 1 << 10;
/// The most bytes of text, and of units that are copied whole, in a chunk; longer records come in smaller chunks.
const CHUNK_BYTES: usize = 16 << 20;

/// The text of one variant.
enum Segment {
    Text(Vec<u8>),
    TooLong,
    /// The text has an entity that XML does not define.
    Malformed,
}

/// An inline element that changes whether its content is text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inline {
    /// Markup of another format: `bpt`, `ept`, `ph`, `it`, `ut`.
    Code,
    /// Text inside markup, like the title of a link: `sub`.
    Text,
}

/// The XML of a unit, and where the content of its segments is: source and target, the last of each.
#[derive(Default, Clone)]
struct Whole {
    xml: Vec<u8>,
    segments: [Range<usize>; 2],
}

/// Records, and the whole units of those whose unit gives one record, if units are copied.
#[derive(Default)]
pub struct Records {
    pub pairs: Pairs,
    units: Vec<Whole>,
    unit_bytes: usize,
}

/// The segments of a unit, source and target, and how many of its records were returned.
#[derive(Default)]
struct Unit {
    segments: [Vec<Segment>; 2],
    /// Bytes of the segments, and of their text.
    bytes: usize,
    /// Its XML is empty if units are not copied, or this one cannot be.
    whole: Whole,
    returned: usize,
    ended: bool,
}

pub struct TmxReader<'w> {
    path: PathBuf,
    xml: Reader<Decoded<Decoder<'w>>>,
    buffer: Vec<u8>,
    languages: [String; 2],
    max_line_bytes: usize,
    /// Number of open elements.
    depth: usize,
    /// The depth of the open unit, variant and segment; 0 if none is open.
    unit_depth: usize,
    variant_depth: usize,
    segment_depth: usize,
    /// The depths of open inline elements whose content is not the text around them, outermost first: native codes, and
    /// the text inside codes.
    inline: Vec<(usize, Inline)>,
    /// The side of the open variant; None outside variants and for other languages.
    side: Option<usize>,
    unit: Unit,
    segment: Option<Segment>,
    /// Whether the text copied since the last unit is valid inside another document.
    sound: bool,
    in_body: bool,
    records: u64,
    ended: bool,
}

impl<'w> TmxReader<'w> {
    /// Opens a file. A variant matches a language if its code is equal to the language or continues it after a hyphen,
    /// whatever the case: `en` matches `EN-US`. `whole` also copies the units.
    pub fn open(
        path: &Path,
        languages: [&str; 2],
        max_line_bytes: usize,
        whole: bool,
        memory: usize,
        progress: &'w Progress,
    ) -> Result<Self> {
        let mut decoded = Decoded::new(Decoder::open(path, memory, progress)?, MARKUP_BYTES);
        decoded.copy = whole.then(Vec::new);
        if let Err(error) = decoded.sniff() {
            return Err(decoded.inner.explain(error, path, "line 0"));
        }
        let mut xml = Reader::from_reader(decoded);
        xml.config_mut().expand_empty_elements = true;
        // An ampersand that is not escaped comes as text, so that only its unit is lost.
        xml.config_mut().allow_dangling_amp = true;
        Ok(Self {
            path: path.to_owned(),
            xml,
            buffer: Vec::new(),
            languages: languages.map(canonical),
            max_line_bytes,
            depth: 0,
            unit_depth: 0,
            variant_depth: 0,
            segment_depth: 0,
            inline: Vec::new(),
            side: None,
            unit: Unit::default(),
            segment: None,
            sound: true,
            in_body: false,
            records: 0,
            ended: false,
        })
    }

    /// The next `CHUNK_LINES` records; fewer if records are long; fewer at the end of the file, then none.
    /// The records of a unit are in the order of its source variants, then of its target variants.
    pub fn chunk(&mut self) -> Result<Records> {
        let mut records = Records::default();
        let room = CHUNK_LINES - self.records as usize % CHUNK_LINES;
        loop {
            self.unit.hand_out(&mut records, room);
            if records.pairs.len() == room || self.ended || records.bytes() > CHUNK_BYTES {
                break;
            }
            self.trim_copy();
            self.read_event()?;
        }
        self.records += records.pairs.len() as u64;
        if self.records == 0 {
            return Err(Error::input(format!(
                "{} has no translation unit: leave the file out, or fetch it again",
                self.path.display()
            )));
        }
        Ok(records)
    }

    /// Keeps the copy to the open unit, and drops the copy of a unit that is too long or cannot be copied.
    fn trim_copy(&mut self) {
        let outside = self.unit_depth == 0;
        let Some(copy) = &mut self.xml.get_mut().copy else { return };
        self.sound = outside || (self.sound && copy.len() <= MARKUP_BYTES);
        if outside || !self.sound {
            copy.clear();
        }
    }

    /// The document up to its first unit, in UTF-8 and without a document type; None if it is not valid in another
    /// document.
    fn opening(&mut self) -> Result<Option<String>> {
        while !(self.in_body || self.ended || self.unit_depth > 0 || !self.sound) {
            let copied = self.xml.get_ref().copy.as_ref().map_or(0, Vec::len);
            self.sound &= copied <= MARKUP_BYTES;
            self.read_event()?;
        }
        let copy = self.xml.get_mut().copy.take().unwrap_or_default();
        let copy = String::from_utf8(copy).ok().filter(|copy| is_legal(copy) && !copy.ends_with("/>"));
        Ok(copy
            .filter(|_| self.sound && self.in_body)
            .map(|copy| format!("{DECLARATION}{}", copy.trim_ascii_start())))
    }

    fn read_event(&mut self) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        self.xml.get_mut().allowance = MARKUP_BYTES;
        let event = self.xml.read_event_into(&mut buffer);
        if self.xml.get_ref().copy.is_some()
            && let Ok(event) = &event
        {
            self.check_copy(event);
        }
        let done = match event {
            Ok(Event::Start(start)) => self.start(&start),
            Ok(Event::End(_)) => self.end(),
            Ok(Event::Text(text)) => {
                if text.contains('&') {
                    self.spoil();
                }
                self.add(&text.xml10_content());
                Ok(())
            }
            Ok(Event::CData(text)) => {
                self.add(&text.xml10_content());
                Ok(())
            }
            Ok(Event::GeneralRef(reference)) => {
                self.add_reference(&reference);
                Ok(())
            }
            Ok(Event::Eof) => self.end_document(),
            Ok(Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Empty(_)) => {
                Ok(())
            }
            Err(error) => Err(self.explain(error)),
        };
        self.buffer = buffer;
        done
    }

    /// Updates `sound`: whether the copied text is valid inside another document.
    fn check_copy(&mut self, event: &Event<'_>) {
        match (event, &mut self.xml.get_mut().copy) {
            (Event::Decl(_) | Event::DocType(_), Some(copy)) if self.depth == 0 => copy.clear(),
            (Event::Text(text), _) if self.depth == 0 => self.sound &= text.trim_ascii().is_empty(),
            (Event::CData(_) | Event::GeneralRef(_), _) if self.depth == 0 => self.sound = false,
            (event, _) => self.sound &= is_sound(event),
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<()> {
        self.depth += 1;
        let name = start.local_name();
        if self.depth > MAX_DEPTH || name.as_ref().len() > NAME_BYTES {
            return Err(self.wrong("is not TMX: its elements are nested too deeply, or have long names"));
        }
        if self.depth == 1 && name.as_ref() != "tmx" {
            return Err(self.wrong(&format!("is not TMX: its first element is <{}>", name.as_ref())));
        }
        match name.as_ref() {
            "body" if self.depth == 2 => self.in_body = true,
            "tu" if self.unit_depth == 0 => self.unit_depth = self.depth,
            "tuv" if self.unit_depth > 0 && self.variant_depth == 0 => {
                self.variant_depth = self.depth;
                self.side = self.find_side(start)?;
            }
            "seg" if self.variant_depth > 0 && self.segment_depth == 0 => {
                self.segment_depth = self.depth;
                self.segment = self.side.map(|_| Segment::Text(Vec::new()));
                if let (Some(side), Some(copy)) = (self.side, &self.xml.get_ref().copy) {
                    self.unit.whole.segments[side] = copy.len()..copy.len();
                }
            }
            "bpt" | "ept" | "ph" | "it" | "ut" if self.segment_depth > 0 => {
                self.inline.push((self.depth, Inline::Code));
            }
            "sub" if self.segment_depth > 0 => self.inline.push((self.depth, Inline::Text)),
            _ => {}
        }
        Ok(())
    }

    fn find_side(&self, start: &BytesStart<'_>) -> Result<Option<usize>> {
        let attribute = |name| {
            start.try_get_attribute(name).map_err(|error| self.wrong(&format!("is damaged ({error})")))
        };
        let Some(code) = attribute("xml:lang")?.or(attribute("lang")?) else { return Ok(None) };
        let code = canonical(&code.value);
        Ok(self.languages.iter().position(|language| {
            code.strip_prefix(language.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        }))
    }

    fn end(&mut self) -> Result<()> {
        self.inline.pop_if(|(depth, _)| *depth == self.depth);
        if self.segment_depth == self.depth {
            self.segment_depth = 0;
            if let (Some(side), Some(copy)) = (self.side, &self.xml.get_ref().copy) {
                let segment = &mut self.unit.whole.segments[side];
                // Where its end tag begins; an empty element has none.
                segment.end = memchr::memmem::rfind(copy, b"</").unwrap_or(0).max(segment.start);
            }
            if let (Some(side), Some(segment)) = (self.side, self.segment.take()) {
                self.unit.bytes += SEGMENT_BYTES + segment.bytes();
                self.unit.segments[side].push(segment.finish());
            }
            if self.unit.bytes > UNIT_BYTES {
                return Err(self.wrong(&format!(
                    "has a translation unit of more than {} MiB of text and variants",
                    UNIT_BYTES >> 20
                )));
            }
        } else if self.variant_depth == self.depth {
            self.variant_depth = 0;
            self.side = None;
        } else if self.unit_depth == self.depth {
            self.unit_depth = 0;
            self.unit.ended = true;
            if let Some(copy) = self.xml.get_mut().copy.as_mut().filter(|_| self.sound) {
                self.unit.whole.xml = std::mem::take(copy);
            }
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    /// Whether character data here is markup of another format.
    fn is_code(&self) -> bool {
        matches!(self.inline.last(), Some((_, Inline::Code)))
    }

    /// Marks the open segment as text that cannot be read.
    fn spoil(&mut self) {
        if !self.is_code() {
            self.segment = self.segment.take().map(|_| Segment::Malformed);
        }
    }

    /// Appends text to the open segment, unless it is inside a code; other inline elements around it are ignored.
    fn add(&mut self, text: &str) {
        if self.is_code() {
            return;
        }
        if let Some(Segment::Text(segment)) = &mut self.segment {
            if segment.len() + text.len() > self.max_line_bytes {
                self.segment = Some(Segment::TooLong);
            } else {
                segment.extend_from_slice(text.as_bytes());
            }
        }
    }

    fn add_reference(&mut self, reference: &BytesRef<'_>) {
        match (reference.resolve_char_ref(), resolve_xml_entity(reference)) {
            (Ok(Some(character)), _) => self.add(character.encode_utf8(&mut [0; 4])),
            (Ok(None), Some(text)) => self.add(text),
            _ => self.spoil(),
        }
    }

    fn end_document(&mut self) -> Result<()> {
        if self.depth > 0 {
            return Err(self.wrong("is truncated: elements are open at its end"));
        }
        self.ended = true;
        Ok(())
    }

    fn explain(&self, error: quick_xml::Error) -> Error {
        let decoded = self.xml.get_ref();
        match error {
            quick_xml::Error::Io(error) if decoded.allowance == 0 => {
                self.wrong(&format!("is damaged ({error})"))
            }
            quick_xml::Error::Io(error) if is_stopped(&error) => Error::Interrupted,
            quick_xml::Error::Io(error) => {
                let code = error.raw_os_error();
                let error = code.map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error);
                decoded.inner.explain(error, &self.path, &format!("line {}", decoded.lines))
            }
            error => self.wrong(&format!("is damaged ({error})")),
        }
    }

    fn wrong(&self, what: &str) -> Error {
        let line = self.xml.get_ref().lines + 1;
        Error::input(format!(
            "{}, line {line}: the file {what}: correct the file, or fetch it again",
            self.path.display()
        ))
    }

    /// Reads the rest of the file and returns its digest.
    pub fn finish(self) -> Result<FileRead> {
        let path = self.path;
        let lines = self.xml.get_ref().lines;
        let mut decoder = self.xml.into_inner().inner;
        let copied = io::copy(decoder.raw(), &mut io::sink());
        let (bytes, digest) = (decoder.raw().bytes, decoder.raw().digest());
        copied.map_err(|error| decoder.explain(error, &path, &format!("line {lines}")))?;
        Ok(FileRead { path, bytes, digest })
    }
}

impl Unit {
    /// Appends the records of a unit that has ended, up to `room` records in the chunk.
    fn hand_out(&mut self, records: &mut Records, room: usize) {
        if !self.ended {
            return;
        }
        let [sources, targets] = &self.segments;
        let count = (sources.len() * targets.len()).max(1);
        while self.returned < count && records.pairs.len() < room && records.bytes() <= CHUNK_BYTES {
            if count == 1 {
                records.push_unit(std::mem::take(&mut self.whole));
            }
            let sides = (
                sources.get(self.returned / targets.len().max(1)),
                targets.get(self.returned % targets.len().max(1)),
            );
            records.pairs.push(match sides {
                (Some(Segment::Text(source)), Some(Segment::Text(target))) => Record::Pair { source, target },
                (Some(Segment::Malformed), Some(_)) | (Some(_), Some(Segment::Malformed)) => {
                    Record::Malformed
                }
                (Some(_), Some(_)) => Record::TooLong,
                _ => Record::MissingSide,
            });
            self.returned += 1;
        }
        if self.returned == count {
            *self = Self::default();
        }
    }
}

impl Records {
    /// Appends the whole unit of the next record.
    fn push_unit(&mut self, unit: Whole) {
        if !unit.xml.is_empty() {
            self.unit_bytes += unit.xml.len();
            self.units.resize(self.pairs.len(), Whole::default());
            self.units.push(unit);
        }
    }

    /// The XML of the unit of a record, if the unit was copied.
    pub fn whole(&self, index: usize) -> Option<&[u8]> {
        self.units.get(index).map(|unit| &unit.xml[..]).filter(|unit| !unit.is_empty())
    }

    /// The same with other text in its segments; None stays. Elements inside a replaced segment do not stay.
    pub fn replace(&self, index: usize, sides: [Option<&[u8]>; 2]) -> Option<Vec<u8>> {
        let unit = self.units.get(index).filter(|unit| !unit.xml.is_empty())?;
        let mut segments: Vec<_> = unit.segments.iter().zip(sides).collect();
        segments.sort_unstable_by_key(|(segment, _)| segment.start);
        let (mut xml, mut end) = (Vec::with_capacity(unit.xml.len()), 0);
        for (segment, side) in segments {
            let Some(side) = side.map(String::from_utf8_lossy) else { continue };
            xml.extend_from_slice(unit.xml.get(end..segment.start)?);
            xml.extend_from_slice(partial_escape(&*side).as_bytes());
            end = segment.end;
        }
        xml.extend_from_slice(unit.xml.get(end..)?);
        Some(xml)
    }

    pub fn bytes(&self) -> usize {
        self.pairs.bytes() + self.unit_bytes
    }
}

/// The beginning of a file, up to its first unit; None if it is not valid in another document.
pub fn opening(path: &Path) -> Result<Option<String>> {
    TmxReader::open(path, ["", ""], 0, true, usize::MAX, &Progress::default())?.opening()
}

impl Segment {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::TooLong | Self::Malformed => 0,
        }
    }

    /// Replaces the mark of undecodable bytes by invalid UTF-8, so that the rules find it.
    fn finish(self) -> Self {
        match self {
            Self::Text(text) => {
                let mark = UNDECODABLE.to_string();
                if memchr::memmem::find(&text, mark.as_bytes()).is_none() {
                    return Self::Text(text);
                }
                let text = String::from_utf8(text).unwrap_or_default();
                let pieces: Vec<&[u8]> = text.split(&mark).map(str::as_bytes).collect();
                Self::Text(pieces.join(&b"\xff"[..]))
            }
            other => other,
        }
    }
}

/// A language code in lower case with hyphens.
pub fn canonical(code: &str) -> String {
    code.trim().to_ascii_lowercase().replace('_', "-")
}
