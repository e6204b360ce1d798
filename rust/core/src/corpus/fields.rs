//! The names of the one or two text fields of a record; a dot leads into an object or struct, as in `translation.en`.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Fields {
    /// None: the target is all the text that a record has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_field: Option<String>,
    pub target_field: String,
}

/// The names that lead to a field.
pub type Path<'a> = Vec<&'a str>;

impl Fields {
    /// The paths of the source and of the target, or of the target alone.
    pub fn paths(&self) -> Result<Vec<Path<'_>>> {
        let names: Vec<&str> =
            self.source_field.iter().chain([&self.target_field]).map(String::as_str).collect();
        let paths: Vec<Path<'_>> = names.iter().map(|name| name.split('.').collect()).collect();
        let inside = paths.windows(2).any(|two| two[0].iter().zip(&two[1]).all(|(one, other)| one == other));
        if inside || paths.iter().flatten().any(|name| name.is_empty()) {
            return Err(Error::input(format!(
                "fields {}: no name may be empty, nor one inside another",
                names.join(",")
            )));
        }
        Ok(paths)
    }
}

/// How many names two paths share from the start; their fields stand side by side below. A path alone shares none.
pub fn shared(paths: &[Path<'_>]) -> usize {
    let [source, target] = paths else { return 0 };
    source.iter().zip(target).take_while(|(one, other)| one == other).count()
}
