//! Translation units of a TMX file, streamed: every pair of a source and a target variant of a unit is a record.

use std::io;
use std::path::{Path, PathBuf};

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::codec::{Decoder, is_stopped};
use crate::corpus::Record;
use crate::encoding::{Decoded, UNDECODABLE};
use crate::lines::{CHUNK_LINES, FileRead};
use crate::pairs::Pairs;
use crate::{Error, Result, Watch};

/// The longest text, tag or comment that is held; one that is longer is no TMX that anybody made on purpose.
const MARKUP_BYTES: usize = 64 << 20;

/// The text of one variant.
enum Segment {
    Text(Vec<u8>),
    TooLong,
    /// It holds an entity that XML does not define.
    Malformed,
}

/// The segments of a unit, source and target, and how many of its records were handed out.
#[derive(Default)]
struct Unit {
    segments: [Vec<Segment>; 2],
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
    records: u64,
    ended: bool,
}

impl<'w> TmxReader<'w> {
    /// Opens a file. A variant is of a language if its code is that of the language or goes on after it with a hyphen,
    /// upper or lower case: `en` takes `EN-US`.
    pub fn open(path: &Path, languages: [&str; 2], max_line_bytes: usize, watch: &'w Watch) -> Result<Self> {
        let mut decoded = Decoded::new(Decoder::open(path, watch)?, MARKUP_BYTES);
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
            records: 0,
            ended: false,
        })
    }

    /// The next `CHUNK_LINES` records; fewer at the end, none after it. The records of a unit come in the order of its
    /// source variants, and of its target variants for each of them.
    pub fn chunk(&mut self) -> Result<Pairs> {
        let mut pairs = Pairs::default();
        loop {
            self.unit.hand_out(&mut pairs);
            if pairs.len() == CHUNK_LINES || self.ended {
                break;
            }
            self.read_event()?;
        }
        self.records += pairs.len() as u64;
        if self.records == 0 {
            return Err(Error::input(format!(
                "{} is empty: it has no translation unit",
                self.path.display()
            )));
        }
        Ok(pairs)
    }

    fn read_event(&mut self) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        self.xml.get_mut().allowance = MARKUP_BYTES;
        let event = self.xml.read_event_into(&mut buffer);
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

    fn start(&mut self, start: &BytesStart<'_>) -> Result<()> {
        self.depth += 1;
        let name = start.local_name();
        if self.depth == 1 && name.as_ref() != "tmx" {
            return Err(self.wrong(&format!("is no TMX: its first element is <{}>", name.as_ref())));
        }
        match name.as_ref() {
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
    /// Appends the records of a unit that has ended, as far as the chunk has room.
    fn hand_out(&mut self, pairs: &mut Pairs) {
        if !self.ended {
            return;
        }
        let [sources, targets] = &self.segments;
        let count = (sources.len() * targets.len()).max(1);
        while self.given < count && pairs.len() < CHUNK_LINES {
            let place = (
                sources.get(self.given / targets.len().max(1)),
                targets.get(self.given % targets.len().max(1)),
            );
            pairs.push(match place {
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
fn canonical(code: &str) -> String {
    code.trim().to_ascii_lowercase().replace('_', "-")
}
