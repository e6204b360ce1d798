//! Checks whether text and markup are valid XML for every reader.

use std::sync::LazyLock;

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};
use regex::Regex;

use crate::text::pattern::pattern;

/// The declaration of an XML document in UTF-8.
pub const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// An element name and its attributes; only prefixes that need no declaration are allowed.
static TAG: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"^[A-Za-z_][A-Za-z0-9_.-]*",
        r"(?:[ \t\r\n]+(?:xml:|xmlns:)?[A-Za-z_][A-Za-z0-9_.-]*",
        r#"[ \t\r\n]*=[ \t\r\n]*(?:"[^<"]*"|'[^<']*'))*[ \t\r\n]*$"#,
    ))
});

/// Whether XML 1.0 allows all characters of a text.
pub fn is_legal(text: &str) -> bool {
    text.chars().all(|character| {
        matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
    })
}

/// Whether an event inside a document is well-formed on its own: our reader accepts markup that others reject.
pub fn is_sound(event: &Event<'_>) -> bool {
    match event {
        Event::Start(start) => is_tag(start),
        Event::Text(text) => !text.contains("]]>") && !text.contains('&'),
        Event::Comment(comment) => !comment.contains("--") && !comment.ends_with('-'),
        Event::GeneralRef(reference) => is_reference(reference),
        Event::End(_) | Event::CData(_) | Event::Eof => true,
        Event::PI(_) | Event::Decl(_) | Event::DocType(_) | Event::Empty(_) => false,
    }
}

/// The longest tag that is checked: the check for two attributes of one name compares them all.
const TAG_BYTES: usize = 1 << 16;

fn is_tag(start: &BytesStart<'_>) -> bool {
    let value_is_legal =
        |value: quick_xml::Result<std::borrow::Cow<'_, str>>| value.is_ok_and(|value| is_legal(&value));
    start.len() <= TAG_BYTES
        && TAG.is_match(start)
        && start.attributes().all(|attribute| {
            attribute
                .is_ok_and(|attribute| value_is_legal(attribute.normalized_value(XmlVersion::Explicit1_0)))
        })
}

fn is_reference(reference: &BytesRef<'_>) -> bool {
    match reference.resolve_char_ref() {
        Ok(Some(character)) => is_legal(character.encode_utf8(&mut [0; 4])),
        Ok(None) => resolve_xml_entity(reference).is_some(),
        Err(_) => false,
    }
}
