//! Lines of JSON out: what is written around the texts of a record.

use crate::Result;
use crate::corpus::fields::{Fields, shared};

/// A line of JSON around two strings, or one: what stands before, between and after them.
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
        let way: Vec<String> = paths[0][..common].iter().map(|name| format!("{{{}:", quoted(name))).collect();
        let (mut pieces, mut before) = (Vec::new(), format!("{}{{", way.concat()));
        for path in &paths {
            pieces.push(format!("{before}{}", open(&path[common..])));
            before = format!("{},", "}".repeat(path.len() - common - 1));
        }
        pieces.push(format!("{}{}\n", before.trim_end_matches(','), "}".repeat(common + 1)));
        Ok(Self { pieces })
    }

    /// Appends one line; `sides` are as many as there are fields.
    pub fn push(&self, text: &mut Vec<u8>, sides: &[&str]) {
        for (place, piece) in self.pieces.iter().enumerate() {
            text.extend_from_slice(piece.as_bytes());
            if let Some(side) = sides.get(place) {
                text.extend_from_slice(quoted(side).as_bytes());
            }
        }
    }
}

/// Text as a string of JSON.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
