//! Writes translation units: generated around two texts, or copied unchanged if every XML reader accepts them.

use quick_xml::escape::{escape, partial_escape};

use crate::text::xml::{DECLARATION, is_legal};

const FOOTER: &str = "</body>\n</tmx>\n";

/// A TMX document: its header and footer, and the markup around the two texts of a generated unit.
pub struct Units {
    /// The text before the first unit and after the last.
    pub frame: [Vec<u8>; 2],
    before: String,
    between: String,
}

impl Units {
    /// `opening` is the document of an input up to its first unit; None generates a header.
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

    /// Appends a unit: `whole` if it is valid in any document, otherwise a generated one. False if XML does not allow a
    /// character of the two texts.
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
