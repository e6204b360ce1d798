//! The segments of a test set: lines, two columns of TSV, or `<seg>` elements of SGML and of WMT's XML.

use std::io::Read;
use std::path::{Path, PathBuf};

use quick_xml::escape::resolve_xml_entity;
use serde::{Deserialize, Serialize};

use crate::corpus::files_read::FileRead;
use crate::corpus::readers::lines::LineReader;
use crate::corpus::readers::tsv::columns;
use crate::io::compression::Decoder;
use crate::{Error, Progress, Result};

/// The largest test set in SGML or XML, whose file is read whole, and the longest line of a test set that is read whole.
const MARKUP_BYTES: u64 = 256 << 20;
/// The longest entity, like `&#x10FFFF;`, in bytes.
const ENTITY_BYTES: usize = 12;

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum TestFormat {
    #[default]
    Lines,
    Tsv,
    Markup,
}

/// A test set: two files of equal length, or one file: with both sides (TSV, WMT's XML), or of segments of either side.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestSet {
    #[serde(default)]
    pub format: TestFormat,
    pub source: PathBuf,
    #[serde(default)]
    pub target: Option<PathBuf>,
}

/// The text of a test set, its first reference only. Without a target side, all segments are sources.
#[derive(Debug, Default, Serialize)]
pub struct TestText {
    pub source: Vec<String>,
    pub target: Vec<String>,
}

/// A segment of a test set.
pub struct Segment<'a> {
    /// 0 source, 1 target; None if the file does not say it.
    pub side: Option<usize>,
    /// The number of the reference, for a document with several.
    pub reference: usize,
    pub text: &'a str,
}

/// Reads a test set whole.
pub fn read_test_set(set: &TestSet, progress: &Progress) -> Result<TestText> {
    let mut sides = TestText::default();
    for (side, path) in [Some(&set.source), set.target.as_ref()].into_iter().enumerate() {
        let Some(path) = path else { continue };
        read_segments(path, set.format, MARKUP_BYTES as usize, usize::MAX, progress, |segment| {
            // Two files name their sides; of an XML file that has both, only one is used.
            let wanted = set.target.is_none() || segment.side.is_none_or(|named| named == side);
            let side = if set.target.is_some() { side } else { segment.side.unwrap_or(0) };
            if wanted && segment.reference == 0 {
                [&mut sides.source, &mut sides.target][side].push(segment.text.to_owned());
            }
            Ok(())
        })?;
    }
    Ok(sides)
}

/// Passes the segments of a file to `take`, in order, and returns the number of its lines or segments.
///
/// Errors: a segment is not UTF-8 or longer than `max_line_bytes`, a line of TSV has one column, or markup has no `<seg>`.
pub fn read_segments(
    path: &Path,
    format: TestFormat,
    max_line_bytes: usize,
    memory: usize,
    progress: &Progress,
    mut take: impl FnMut(Segment<'_>) -> Result<()>,
) -> Result<(u64, FileRead)> {
    if format == TestFormat::Markup {
        return read_markup(path, max_line_bytes, memory, progress, take);
    }
    let mut reader = LineReader::open(path, max_line_bytes, memory, progress)?;
    loop {
        progress.check()?;
        let first = reader.lines;
        let lines = reader.chunk()?;
        if lines.is_empty() {
            return if first == 0 { Err(Error::empty(path)) } else { Ok((first, reader.finish()?)) };
        }
        for index in 0..lines.len() {
            let wrong = |what: &str| wrong(path, &format!("line {}", first + index as u64 + 1), what);
            if lines.is_too_long(index) {
                return Err(wrong("the segment is longer than max_line_bytes"));
            }
            let line = std::str::from_utf8(lines.line(index))
                .map_err(|_| wrong("the segment is not valid UTF-8"))?;
            if format == TestFormat::Lines {
                take(Segment { side: None, reference: 0, text: line })?;
                continue;
            }
            let found = columns(line.as_bytes(), Some(1), 2);
            for (side, column) in [found.source, found.target].into_iter().enumerate() {
                let text = column.and_then(|column| std::str::from_utf8(column).ok());
                let text = text.ok_or_else(|| wrong("there are no two columns"))?;
                take(Segment { side: Some(side), reference: 0, text })?;
            }
        }
    }
}

fn wrong(path: &Path, place: &str, what: &str) -> Error {
    Error::input(format!("{}, {place}: {what}: correct the test set", path.display()))
}

fn read_markup(
    path: &Path,
    max_line_bytes: usize,
    memory: usize,
    progress: &Progress,
    mut take: impl FnMut(Segment<'_>) -> Result<()>,
) -> Result<(u64, FileRead)> {
    let mut decoder = Decoder::open(path, memory, progress)?;
    let mut bytes = Vec::new();
    let read = (&mut decoder).take(MARKUP_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| decoder.explain(error, path, &format!("byte {}", bytes.len())))?;
    if bytes.len() as u64 > MARKUP_BYTES {
        return Err(wrong(path, "byte 268435456", "a test set in SGML or XML is smaller"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        wrong(path, &format!("byte {}", error.valid_up_to()), "the text is not valid UTF-8")
    })?;
    let mut count = 0;
    let mut markup = Markup { rest: text, side: None, reference: 0, references: 0 };
    let mut segment = String::new();
    while let Some(content) = markup.next_segment() {
        count += 1;
        if content.len() > max_line_bytes {
            return Err(wrong(
                path,
                &format!("segment {count}"),
                "the segment is longer than max_line_bytes",
            ));
        }
        decode(content, &mut segment);
        take(Segment { side: markup.side, reference: markup.reference, text: &segment })?;
    }
    if count == 0 {
        return Err(wrong(path, "the whole file", "there is no <seg>"));
    }
    let raw = decoder.raw();
    Ok((count, FileRead { path: path.to_owned(), bytes: raw.bytes, digest: raw.digest() }))
}

/// SGML or XML that is read from tag to tag. It need not be well-formed, since published test sets are not.
struct Markup<'a> {
    rest: &'a str,
    /// The side that the segments here belong to: inside `<src>` or `<ref>`.
    side: Option<usize>,
    /// The number of the reference around this place.
    reference: usize,
    /// References of the document so far.
    references: usize,
}

impl<'a> Markup<'a> {
    /// The content of the next `<seg>`, with its entities. Translations of systems (`<hyp>`) are skipped.
    fn next_segment(&mut self) -> Option<&'a str> {
        let mut skipped = false;
        loop {
            let tag = self.next_tag()?;
            let of_name = |character: &char| *character == '/' || character.is_ascii_alphanumeric();
            let name: String = tag.chars().take_while(of_name).collect();
            match name.to_ascii_lowercase().as_str() {
                "doc" => self.references = 0,
                "src" => (self.side, self.reference) = (Some(0), 0),
                "ref" => {
                    (self.side, self.reference) = (Some(1), self.references);
                    self.references += 1;
                }
                "/src" | "/ref" => (self.side, self.reference) = (None, 0),
                "hyp" => skipped = true,
                "/hyp" => skipped = false,
                "seg" if !tag.ends_with('/') => {
                    let content = self.up_to("</seg")?;
                    if !skipped {
                        return Some(content);
                    }
                }
                _ => {}
            }
        }
    }

    /// The next tag without its brackets; comments are skipped.
    fn next_tag(&mut self) -> Option<&'a str> {
        loop {
            self.up_to("<")?;
            if self.rest.starts_with("!--") {
                self.up_to("-->")?;
            } else {
                return self.up_to(">");
            }
        }
    }

    /// The text up to a delimiter, which may be in any case; the rest begins behind the delimiter.
    fn up_to(&mut self, delimiter: &str) -> Option<&'a str> {
        let bytes = self.rest.as_bytes();
        let at = memchr::memchr_iter(delimiter.as_bytes()[0], bytes).find(|&at| {
            bytes
                .get(at..at + delimiter.len())
                .is_some_and(|found| found.eq_ignore_ascii_case(delimiter.as_bytes()))
        })?;
        let before = &self.rest[..at];
        self.rest = &self.rest[at + delimiter.len()..];
        Some(before)
    }
}

/// Decodes entities, and makes white space around and inside the text single spaces. An unknown entity, or `&`, is text.
fn decode(content: &str, text: &mut String) {
    text.clear();
    for word in content.split_ascii_whitespace() {
        if !text.is_empty() {
            text.push(' ');
        }
        let mut rest = word;
        while let Some(at) = rest.find('&') {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            let end = rest.bytes().take(ENTITY_BYTES).position(|byte| byte == b';');
            let known = end.and_then(|end| Some((entity(&rest[1..end])?, end + 1)));
            let (decoded, length) = known.unwrap_or(('&', 1));
            text.push(decoded);
            rest = &rest[length..];
        }
        text.push_str(rest);
    }
}

/// The character of an entity without its `&` and `;`.
fn entity(name: &str) -> Option<char> {
    let Some(number) = name.strip_prefix('#') else {
        return resolve_xml_entity(name)?.chars().next();
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    code.ok().and_then(char::from_u32)
}
