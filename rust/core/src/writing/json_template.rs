//! Writes lines of JSON from a template around the texts of a record.

use crate::Result;
use crate::corpus::fields::{Fields, shared};

/// A line of JSON with one or two strings: the JSON before, between and after them.
pub struct Template {
    pieces: Vec<String>,
}

impl Template {
    pub fn new(fields: &Fields) -> Result<Self> {
        let paths = fields.paths()?;
        let common = shared(&paths);
        let open = |names: &[&str]| -> String {
            let inner: Vec<String> = names.iter().map(|name| format!("{}:", quoted(name))).collect();
            inner.join("{")
        };
        let outer: Vec<String> =
            paths[0][..common].iter().map(|name| format!("{{{}:", quoted(name))).collect();
        let (mut pieces, mut before) = (Vec::new(), format!("{}{{", outer.concat()));
        for path in &paths {
            pieces.push(format!("{before}{}", open(&path[common..])));
            before = format!("{},", "}".repeat(path.len() - common - 1));
        }
        pieces.push(format!("{}{}\n", before.trim_end_matches(','), "}".repeat(common + 1)));
        Ok(Self { pieces })
    }

    /// Appends one line; there is one side per field.
    pub fn push(&self, text: &mut Vec<u8>, sides: &[&str]) {
        for (index, piece) in self.pieces.iter().enumerate() {
            text.extend_from_slice(piece.as_bytes());
            if let Some(side) = sides.get(index) {
                text.extend_from_slice(quoted(side).as_bytes());
            }
        }
    }
}

/// Text as a string of JSON.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
