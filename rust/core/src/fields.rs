//! The two fields of a record by name; a dot leads into an object or struct, as in `translation.en`.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Fields {
    pub source_field: String,
    pub target_field: String,
}

/// The names that lead to a field.
pub type Path<'a> = Vec<&'a str>;

impl Fields {
    /// The paths of the two fields.
    pub fn paths(&self) -> Result<[Path<'_>; 2]> {
        let paths =
            [&self.source_field, &self.target_field].map(|name| name.split('.').collect::<Path<'_>>());
        let [source, target] = &paths;
        let inside = source.iter().zip(target).all(|(one, other)| one == other);
        if inside || paths.iter().flatten().any(|name| name.is_empty()) {
            return Err(Error::input(format!(
                "fields {},{}: give two names, neither empty nor inside the other",
                self.source_field, self.target_field
            )));
        }
        Ok(paths)
    }
}

/// How many names two paths share from the start; their fields stand side by side below.
pub fn shared([source, target]: &[Path<'_>; 2]) -> usize {
    source.iter().zip(target).take_while(|(one, other)| one == other).count()
}
