//! The text of Parquet rows: finds its columns, perhaps inside structs or a map, reads text as views, which do not repeat
//! the values of a dictionary, and decodes pairs.

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, MapArray, OffsetSizeTrait, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef, Fields as Columns, Schema, SchemaRef};

use crate::corpus::fields::{self, Fields};
use crate::corpus::record::{Pairs, Record};
use crate::{Error, Result};

/// A schema in which text and bytes are views.
pub fn with_views(schema: &Schema) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(view).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn view(field: &FieldRef) -> FieldRef {
    let all = |fields: &Columns| fields.iter().map(view).collect();
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Dictionary(_, values) => {
            view(&Arc::new(Field::new("", (**values).clone(), true))).data_type().clone()
        }
        DataType::Struct(fields) => DataType::Struct(all(fields)),
        DataType::List(item) => DataType::List(view(item)),
        DataType::LargeList(item) => DataType::LargeList(view(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(view(item), *size),
        DataType::Map(entries, sorted) => DataType::Map(view(entries), *sorted),
        other => other.clone(),
    };
    let changed = Field::new(field.name(), data_type, field.is_nullable());
    Arc::new(changed.with_metadata(field.metadata().clone()))
}

/// The paths of the text columns. A column whose own name has dots is found before structs are.
pub fn paths<'a>(columns: &Columns, fields: &'a Fields) -> Result<Vec<fields::Path<'a>>> {
    let mut paths = fields.paths()?;
    for (path, name) in paths.iter_mut().zip(fields.names()) {
        if columns.find(name).is_some() {
            *path = vec![name];
        }
    }
    Ok(paths)
}

/// Checks that a path leads to text; returns how many of its names lead to the column of the file. The last name is a
/// key if the column is a map.
pub fn check_column(path: &Path, columns: &Columns, names: &[&str]) -> Result<usize> {
    let mut level = columns;
    for (depth, name) in names.iter().enumerate() {
        let Some((_, column)) = level.find(name) else {
            let present: Vec<&str> = level.iter().map(|column| column.name().as_str()).collect();
            let (path, wanted) = (path.display(), names[..=depth].join("."));
            let present = present.join(", ");
            return Err(Error::input(format!(
                "{path} has no column {wanted}, only {present}: give fields with the names of its text columns"
            )));
        };
        if level.iter().filter(|other| other.name() == column.name()).count() > 1 {
            let (path, name) = (path.display(), names[..=depth].join("."));
            return Err(Error::input(format!("{path} has two columns {name}: rename one of them")));
        }
        match column.data_type() {
            DataType::Struct(inner) if depth + 1 < names.len() => level = inner,
            DataType::Map(entries, _) if depth + 2 == names.len() && is_text_map(entries) => {
                return Ok(depth + 1);
            }
            other if depth + 1 == names.len() && is_text(other) => return Ok(names.len()),
            other => {
                let (path, wanted) = (path.display(), names.join("."));
                return Err(Error::input(format!(
                    "{path}: column {wanted} is {other}, not text: give fields with the names of its text columns"
                )));
            }
        }
    }
    Ok(names.len())
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8View | DataType::BinaryView)
}

/// Whether keys and values of a map are text.
fn is_text_map(entries: &Field) -> bool {
    matches!(entries.data_type(), DataType::Struct(entries) if entries.iter().all(|side| is_text(side.data_type())))
}

/// Bytes of the text in all columns of a batch, each value counted in every row that has it.
pub fn text_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(bytes).sum()
}

fn bytes(array: &ArrayRef) -> usize {
    // The lower half of a view is the length of its value.
    let lengths = |views: &[u128]| views.iter().map(|&view| view as u32 as usize).sum();
    match array.data_type() {
        DataType::Utf8View => lengths(array.as_string_view().views()),
        DataType::BinaryView => lengths(array.as_binary_view().views()),
        DataType::Struct(_) => array.as_struct().columns().iter().map(bytes).sum(),
        DataType::Map(..) => {
            let map = array.as_map();
            let span = span(map.offsets());
            map.entries().columns().iter().map(|column| bytes(&column.slice(span.0, span.1))).sum()
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let span = span(list.offsets());
            bytes(&list.values().slice(span.0, span.1))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let span = span(list.offsets());
            bytes(&list.values().slice(span.0, span.1))
        }
        _ => 0,
    }
}

/// Where the values of a list or map begin, and how many there are.
fn span<O: OffsetSizeTrait>(offsets: &[O]) -> (usize, usize) {
    let at = |offset: Option<&O>| offset.map_or(0, |offset| offset.as_usize());
    let (first, last) = (at(offsets.first()), at(offsets.last()));
    (first, last - first)
}

/// Decodes rows to pairs. A row is malformed if a side, or a struct or map around it, is null or missing. A row is too
/// long if a side has more than `max_line_bytes`.
pub fn decode(batch: &RecordBatch, fields: &Fields, max_line_bytes: usize) -> Result<Pairs> {
    let mut columns = Vec::with_capacity(2);
    for names in paths(batch.schema_ref().fields(), fields)? {
        columns.push(TextColumn::find(batch, &names)?);
    }
    let (sources, targets) = match &columns[..] {
        [sources, targets] => (Some(sources), targets),
        [targets, ..] => (None, targets),
        [] => return Ok(Pairs::default()),
    };
    let mut pairs = Pairs::default();
    for row in 0..batch.num_rows() {
        let source = sources.map_or(Some(&[][..]), |sources| sources.text(row));
        pairs.push(match (source, targets.text(row)) {
            (Some(source), Some(target)) if source.len().max(target.len()) > max_line_bytes => {
                Record::TooLong
            }
            (Some(source), Some(target)) => Record::Pair { source, target },
            _ => Record::Malformed,
        });
    }
    Ok(pairs)
}

/// A column of text and the structs around it.
struct TextColumn<'a> {
    structs: Vec<&'a ArrayRef>,
    /// The map that the text is in, and its key.
    map: Option<(&'a MapArray, Vec<u8>)>,
    values: &'a ArrayRef,
}

impl<'a> TextColumn<'a> {
    fn find(batch: &'a RecordBatch, names: &[&str]) -> Result<Self> {
        let missing = || {
            let name = names.join(".");
            Error::input(format!(
                "column {name} is missing: a Parquet file changed while it was read: run again"
            ))
        };
        let (first, rest) = names.split_first().ok_or_else(missing)?;
        let mut array = batch.column_by_name(first).ok_or_else(missing)?;
        let mut structs = Vec::new();
        for name in rest {
            if let Some(map) = array.as_map_opt() {
                return Ok(Self {
                    structs,
                    map: Some((map, name.as_bytes().to_vec())),
                    values: map.values(),
                });
            }
            structs.push(array);
            array = array.as_struct_opt().and_then(|inner| inner.column_by_name(name)).ok_or_else(missing)?;
        }
        Ok(Self { structs, map: None, values: array })
    }

    /// None for null. Of equal keys of a map, the last counts.
    fn text(&self, row: usize) -> Option<&'a [u8]> {
        if self.structs.iter().any(|outer| outer.is_null(row)) {
            return None;
        }
        let Some((map, key)) = &self.map else { return value(self.values, row) };
        if map.is_null(row) {
            return None;
        }
        let (first, end) = (map.offsets()[row] as usize, map.offsets()[row + 1] as usize);
        let entry = (first..end).rev().find(|&entry| value(map.keys(), entry) == Some(key));
        entry.and_then(|entry| value(self.values, entry))
    }
}

fn value(array: &ArrayRef, at: usize) -> Option<&[u8]> {
    if array.is_null(at) {
        return None;
    }
    match array.data_type() {
        DataType::Utf8View => Some(array.as_string_view().value(at).as_bytes()),
        DataType::BinaryView => Some(array.as_binary_view().value(at)),
        _ => None,
    }
}
