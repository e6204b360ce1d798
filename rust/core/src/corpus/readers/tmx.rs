//! Translation units of a TMX file, streamed: every pair of a source and a target variant of a unit is a record.

use std::io;
use std::path::{Path, PathBuf};

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::corpus::files_read::FileRead;
use crate::corpus::readers::lines::CHUNK_LINES;
use crate::corpus::record::Pairs;
use crate::corpus::record::Record;
use crate::io::compression::{Decoder, is_stopped};
use crate::io::encoding::{Decoded, UNDECODABLE};
use crate::text::xml::{DECLARATION, is_legal, is_sound};
use crate::{Error, Progress, Result};

/// The longest text, tag or comment that is held; one that is longer is no TMX that anybody made on purpose.
const MARKUP_BYTES: usize = 64 << 20;
/// Units that are copied whole come in smaller chunks where there is more text than this.
const CHUNK_BYTES: usize = 64 << 20;

/// The text of one variant.
enum Segment {
    Text(Vec<u8>),
    TooLong,
    /// It holds an entity that XML does not define.
    Malformed,
}

/// Records, and the units that they were, where those are read and were one record each.
#[derive(Default)]
pub struct Records {
    pub pairs: Pairs,
    units: Vec<Vec<u8>>,
    unit_bytes: usize,
}

/// The segments of a unit, source and target, and how many of its records were handed out.
#[derive(Default)]
struct Unit {
    segments: [Vec<Segment>; 2],
    /// The whole unit, if it is read and can be copied.
    whole: Vec<u8>,
    given: usize,
    ended: bool,
}

pub struct TmxReader<'w> {
    path: PathBuf,
    xml: Reader<Decoded<Decoder<'w>>>,
    buffer: Vec<u8>,
    languages: [String; 2],
    max_line_bytes: usize,
    /// The elements that are open.
    depth: usize,
    /// How deep the unit, the variant and the segment that are open began; 0 where none is.
    unit_depth: usize,
    variant_depth: usize,
    segment_depth: usize,
    /// The side of the variant that is open.
    side: Option<usize>,
    unit: Unit,
    segment: Option<Segment>,
    /// Whether what was copied of the document since the last unit can stand in another one.
    sound: bool,
    in_body: bool,
    records: u64,
    ended: bool,
}

impl<'w> TmxReader<'w> {
    /// Opens a file. A variant is of a language if its code is that of the language or goes on after it with a hyphen,
    /// upper or lower case: `en` takes `EN-US`. `whole` also reads the units as they stand.
    pub fn open(
        path: &Path,
        languages: [&str; 2],
        max_line_bytes: usize,
        whole: bool,
        progress: &'w Progress,
    ) -> Result<Self> {
        let mut decoded = Decoded::new(Decoder::open(path, progress)?, MARKUP_BYTES);
        decoded.copy = whole.then(Vec::new);
        if let Err(error) = decoded.sniff() {
            return Err(decoded.inner.explain(error, path, "line 0"));
        }
        let mut xml = Reader::from_reader(decoded);
        xml.config_mut().expand_empty_elements = true;
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
            side: None,
            unit: Unit::default(),
            segment: None,
            sound: true,
            in_body: false,
            records: 0,
            ended: false,
        })
    }

    /// The next `CHUNK_LINES` records; fewer at the end, none after it, and fewer where units are long and read whole.
    /// The records of a unit come in the order of its source variants, and of its target variants for each of them.
    pub fn chunk(&mut self) -> Result<Records> {
        let mut records = Records::default();
        let room = CHUNK_LINES - self.records as usize % CHUNK_LINES;
        loop {
            self.unit.hand_out(&mut records, room);
            if records.pairs.len() == room || self.ended || records.unit_bytes > CHUNK_BYTES {
                break;
            }
            self.trim_copy();
            self.read_event()?;
        }
        self.records += records.pairs.len() as u64;
        if self.records == 0 {
            return Err(Error::input(format!(
                "{} is empty: it has no translation unit",
                self.path.display()
            )));
        }
        Ok(records)
    }

    /// A copy holds one unit, and none that is too long or cannot be copied.
    fn trim_copy(&mut self) {
        let outside = self.unit_depth == 0;
        let Some(copy) = &mut self.xml.get_mut().copy else { return };
        self.sound = outside || (self.sound && copy.len() <= MARKUP_BYTES);
        if outside || !self.sound {
            copy.clear();
        }
    }

    /// The document up to its first unit, in UTF-8 and without a document type; None if it cannot be copied.
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
            Ok(Event::End(_)) => {
                self.end();
                Ok(())
            }
            Ok(Event::Text(text)) => {
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

    /// Says whether what is copied can stand in another document.
    fn check_copy(&mut self, event: &Event<'_>) {
        match (event, &mut self.xml.get_mut().copy) {
            (Event::Decl(_) | Event::DocType(_), Some(copy)) if self.depth == 0 => copy.clear(),
            (Event::Text(text), _) if self.depth == 0 => self.sound &= text.trim_ascii().is_empty(),
            (event, _) => self.sound &= is_sound(event),
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<()> {
        self.depth += 1;
        let name = start.local_name();
        if self.depth == 1 && name.as_ref() != "tmx" {
            return Err(self.wrong(&format!("is no TMX: its first element is <{}>", name.as_ref())));
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
            }
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

    fn end(&mut self) {
        if self.segment_depth == self.depth {
            self.segment_depth = 0;
            if let (Some(side), Some(segment)) = (self.side, self.segment.take()) {
                self.unit.segments[side].push(segment.finished());
            }
        } else if self.variant_depth == self.depth {
            self.variant_depth = 0;
            self.side = None;
        } else if self.unit_depth == self.depth {
            self.unit_depth = 0;
            self.unit.ended = true;
            if let Some(copy) = self.xml.get_mut().copy.as_mut().filter(|_| self.sound) {
                self.unit.whole = std::mem::take(copy);
            }
        }
        self.depth = self.depth.saturating_sub(1);
    }

    /// Text of a segment, whatever inline elements stand around it.
    fn add(&mut self, text: &str) {
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
            _ => self.segment = self.segment.take().map(|_| Segment::Malformed),
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
            "{}, line {line}: the file {what}: mend it, or fetch it again",
            self.path.display()
        ))
    }

    /// Reads what is left and gives the file's digest.
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
    /// Appends the records of a unit that has ended, as far as there is room.
    fn hand_out(&mut self, records: &mut Records, room: usize) {
        if !self.ended {
            return;
        }
        let [sources, targets] = &self.segments;
        let count = (sources.len() * targets.len()).max(1);
        while self.given < count && records.pairs.len() < room {
            if count == 1 {
                records.push_unit(std::mem::take(&mut self.whole));
            }
            let place = (
                sources.get(self.given / targets.len().max(1)),
                targets.get(self.given % targets.len().max(1)),
            );
            records.pairs.push(match place {
                (Some(Segment::Text(source)), Some(Segment::Text(target))) => Record::Pair { source, target },
                (Some(Segment::Malformed), Some(_)) | (Some(_), Some(Segment::Malformed)) => {
                    Record::Malformed
                }
                (Some(_), Some(_)) => Record::TooLong,
                _ => Record::MissingSide,
            });
            self.given += 1;
        }
        if self.given == count {
            *self = Self::default();
        }
    }
}

impl Records {
    /// The unit of the record that comes next.
    fn push_unit(&mut self, unit: Vec<u8>) {
        if !unit.is_empty() {
            self.unit_bytes += unit.len();
            self.units.resize(self.pairs.len(), Vec::new());
            self.units.push(unit);
        }
    }

    /// The unit that a record was, by itself and as it stood.
    pub fn whole(&self, index: usize) -> Option<&[u8]> {
        self.units.get(index).map(Vec::as_slice).filter(|unit| !unit.is_empty())
    }

    pub fn bytes(&self) -> usize {
        self.pairs.bytes() + self.unit_bytes
    }
}

/// What a file begins with, up to its first unit; None if that cannot stand in another document.
pub fn opening(path: &Path) -> Result<Option<String>> {
    TmxReader::open(path, ["", ""], 0, true, &Progress::default())?.opening()
}

impl Segment {
    /// Bytes that were no text stand as what is no UTF-8, so that rules see it.
    fn finished(self) -> Self {
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
