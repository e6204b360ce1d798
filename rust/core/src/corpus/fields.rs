//! The names of the one or two text fields of a record; a dot leads into an object or struct, as in `translation.en`.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Fields {
    /// None: the corpus is monolingual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_field: Option<String>,
    pub target_field: String,
}

/// The names of the objects or structs around a field, and its own.
pub type Path<'a> = Vec<&'a str>;

impl Fields {
    /// The names of the source and the target, or only of the target.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.source_field.iter().chain([&self.target_field]).map(String::as_str)
    }

    /// The paths of the source and the target, or only of the target.
    ///
    /// Errors: a name is empty, or one field is inside the other.
    pub fn paths(&self) -> Result<Vec<Path<'_>>> {
        let names: Vec<&str> = self.names().collect();
        let paths: Vec<Path<'_>> = names.iter().map(|name| name.split('.').collect()).collect();
        let nested = paths.windows(2).any(|sides| sides[0].iter().zip(&sides[1]).all(|(a, b)| a == b));
        if nested || paths.iter().flatten().any(|name| name.is_empty()) {
            return Err(Error::input(format!(
                "fields {}: a name is empty, or one field is inside the other: give two separate fields",
                names.join(",")
            )));
        }
        Ok(paths)
    }
}

/// The length of the common prefix of the two paths, in names; 0 for a single path.
pub fn shared(paths: &[Path<'_>]) -> usize {
    let [source, target] = paths else { return 0 };
    source.iter().zip(target).take_while(|(a, b)| a == b).count()
}
