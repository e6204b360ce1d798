//! Translation units out: generated around two texts, or copied as they stood, if any reader of XML takes them so.

use std::sync::LazyLock;

use quick_xml::XmlVersion;
use quick_xml::escape::{escape, partial_escape, resolve_xml_entity};
use quick_xml::events::{BytesRef, BytesStart, Event};
use regex::Regex;

pub const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
const FOOTER: &str = "</body>\n</tmx>\n";

/// The name of an element and its attributes; the prefixes are those that need no declaration around it.
static TAG: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"^[A-Za-z_][A-Za-z0-9_.-]*",
        r"(?:[ \t\r\n]+(?:xml:|xmlns:)?[A-Za-z_][A-Za-z0-9_.-]*",
        r#"[ \t\r\n]*=[ \t\r\n]*(?:"[^<"]*"|'[^<']*'))*[ \t\r\n]*$"#,
    ))
    .ok()
});

/// A document of generated units: what stands around them, and around the two texts of each.
pub struct Units {
    /// What comes before the first unit and after the last.
    pub frame: [Vec<u8>; 2],
    before: String,
    between: String,
}

impl Units {
    /// `opening` is the document of an input up to its first unit; without one the header is generated.
    pub fn new(source_language: &str, target_language: &str, opening: Option<String>) -> Self {
        let [source, target] = [source_language, target_language].map(escape);
        let opening = opening.unwrap_or_else(|| {
            format!(
                concat!(
                    "{}<tmx version=\"1.4\">\n<header creationtool=\"catprune\" creationtoolversion=\"{}\" ",
                    "segtype=\"sentence\" o-tmf=\"catprune\" adminlang=\"en\" srclang=\"{}\" datatype=\"plaintext\"/>\n",
                    "<body>"
                ),
                DECLARATION,
                env!("CARGO_PKG_VERSION"),
                source
            )
        });
        Self {
            frame: [format!("{opening}\n").into_bytes(), FOOTER.as_bytes().to_vec()],
            before: format!("<tu><tuv xml:lang=\"{source}\"><seg>"),
            between: format!("</seg></tuv><tuv xml:lang=\"{target}\"><seg>"),
        }
    }

    /// Appends a unit, the one that is given if it can stand in any document; false if XML cannot hold the two texts.
    pub fn push(&self, text: &mut Vec<u8>, whole: Option<&[u8]>, source: &str, target: &str) -> bool {
        if !is_legal(source) || !is_legal(target) {
            return false;
        }
        if let Some(unit) = whole.filter(|unit| std::str::from_utf8(unit).is_ok_and(is_legal)) {
            text.extend_from_slice(unit);
        } else {
            let (source, target) = (partial_escape(source), partial_escape(target));
            for piece in [&self.before, &*source, &self.between, &*target, "</seg></tuv></tu>"] {
                text.extend_from_slice(piece.as_bytes());
            }
        }
        text.push(b'\n');
        true
    }
}

/// Whether XML 1.0 has all characters of a text.
pub fn is_legal(text: &str) -> bool {
    text.chars().all(|character| {
        matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
    })
}

/// Whether what was read inside a document is well-formed, and by itself: the reader lets through what others refuse.
pub fn is_sound(event: &Event<'_>) -> bool {
    match event {
        Event::Start(start) => is_tag(start),
        Event::Text(text) => !text.contains("]]>"),
        Event::Comment(comment) => !comment.contains("--") && !comment.ends_with('-'),
        Event::GeneralRef(reference) => is_reference(reference),
        Event::End(_) | Event::CData(_) | Event::Eof => true,
        Event::PI(_) | Event::Decl(_) | Event::DocType(_) | Event::Empty(_) => false,
    }
}

fn is_tag(start: &BytesStart<'_>) -> bool {
    let value_is_legal =
        |value: quick_xml::Result<std::borrow::Cow<'_, str>>| value.is_ok_and(|value| is_legal(&value));
    TAG.as_ref().is_some_and(|tag| tag.is_match(start))
        && start.attributes().all(|attribute| {
            attribute.is_ok_and(|one| value_is_legal(one.normalized_value(XmlVersion::Explicit1_0)))
        })
}

fn is_reference(reference: &BytesRef<'_>) -> bool {
    match reference.resolve_char_ref() {
        Ok(Some(character)) => is_legal(character.encode_utf8(&mut [0; 4])),
        Ok(None) => resolve_xml_entity(reference).is_some(),
        Err(_) => false,
    }
}
