//! The text of Parquet rows: finds its columns, perhaps inside structs or a map, and decodes pairs. Text is read as views of
//! bytes: they do not repeat the values of a dictionary, and text that is not UTF-8 is a matter of its record.

use std::path::Path;
use std::result::Result as StdResult;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryViewArray, MapArray, OffsetSizeTrait, RecordBatch, StructArray};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields as Columns, Schema, SchemaRef};

use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::schema::types::{BasicTypeInfo, Type, TypePtr};

use crate::corpus::fields::{self, Fields};
use crate::corpus::record::{Pairs, Record};
use crate::{Error, Result};

/// A schema in which text and bytes are views.
pub fn with_views(schema: &Schema) -> SchemaRef {
    views(schema, &DataType::Utf8View)
}

/// A schema in which text is views of bytes.
pub fn as_bytes(schema: &Schema) -> SchemaRef {
    views(schema, &DataType::BinaryView)
}

fn views(schema: &Schema, text: &DataType) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(|field| view(field, text)).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn view(field: &FieldRef, text: &DataType) -> FieldRef {
    let view = |field: &FieldRef| view(field, text);
    let all = |fields: &Columns| fields.iter().map(view).collect();
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => text.clone(),
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

/// A file's schema without the notes that columns are text: the library refuses files with text that is not UTF-8.
pub fn without_text(schema: &Type) -> TypePtr {
    Arc::new(match schema {
        Type::GroupType { basic_info, fields } => Type::GroupType {
            basic_info: basic_info.clone(),
            fields: fields.iter().map(|field| without_text(field)).collect(),
        },
        Type::PrimitiveType { basic_info, physical_type: Physical::BYTE_ARRAY, .. }
            if is_noted(basic_info) =>
        {
            let builder = Type::primitive_type_builder(basic_info.name(), Physical::BYTE_ARRAY);
            let id = basic_info.has_id().then(|| basic_info.id());
            let plain = builder.with_repetition(basic_info.repetition()).with_id(id).build();
            plain.unwrap_or_else(|_| schema.clone())
        }
        other @ Type::PrimitiveType { .. } => other.clone(),
    })
}

fn is_noted(column: &BasicTypeInfo) -> bool {
    match column.logical_type_ref() {
        Some(logical) => matches!(logical, LogicalType::String | LogicalType::Json | LogicalType::Enum),
        None => {
            matches!(column.converted_type(), ConvertedType::UTF8 | ConvertedType::JSON | ConvertedType::ENUM)
        }
    }
}

/// Which rows of a batch have text that is not UTF-8; `schema` says which bytes are text.
pub fn invalid_rows(batch: &RecordBatch, schema: &Schema) -> Vec<bool> {
    let mut invalid = vec![false; batch.num_rows()];
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        mark_invalid(column, field, &mut invalid);
    }
    invalid
}

fn mark_invalid(array: &ArrayRef, field: &Field, invalid: &mut [bool]) {
    // Of the values that each row of a list or map has.
    let mut mark_spans = |inner: Vec<(&ArrayRef, &Field)>, offsets: Vec<usize>| {
        let mut values = vec![false; offsets.last().copied().unwrap_or(0)];
        for (array, field) in inner {
            mark_invalid(&array.slice(0, values.len()), field, &mut values);
        }
        for (row, span) in offsets.windows(2).enumerate() {
            invalid[row] |= values[span[0]..span[1]].contains(&true);
        }
    };
    let wide = |offsets: &[i32]| offsets.iter().map(|&offset| offset as usize).collect();
    match (field.data_type(), array.data_type()) {
        (DataType::Utf8View, DataType::BinaryView) => {
            for (row, text) in array.as_binary_view().iter().enumerate() {
                invalid[row] |= text.is_some_and(|text| simdutf8::basic::from_utf8(text).is_err());
            }
        }
        (DataType::Struct(fields), DataType::Struct(_)) => {
            for (column, field) in array.as_struct().columns().iter().zip(fields) {
                mark_invalid(column, field, invalid);
            }
        }
        (DataType::List(item), DataType::List(_)) => {
            let list = array.as_list::<i32>();
            mark_spans(vec![(list.values(), item)], wide(list.offsets()));
        }
        (DataType::LargeList(item), DataType::LargeList(_)) => {
            let list = array.as_list::<i64>();
            let offsets = list.offsets().iter().map(|&offset| offset as usize).collect();
            mark_spans(vec![(list.values(), item)], offsets);
        }
        (DataType::Map(entries, _), DataType::Map(..)) => {
            if let DataType::Struct(sides) = entries.data_type() {
                let map = array.as_map();
                let columns = map.entries().columns().iter();
                let sides = columns.zip(sides).map(|(column, side)| (column, &**side)).collect();
                mark_spans(sides, wide(map.offsets()));
            }
        }
        _ => {}
    }
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
    matches!(data_type, DataType::BinaryView)
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
    array.as_binary_view_opt().map(|array| array.value(at))
}

/// The batch with other texts in the rows and sides for which `sides` gives them.
pub fn replace<'a>(
    batch: &RecordBatch,
    fields: &Fields,
    sides: impl Fn(usize) -> Option<[Option<&'a [u8]>; 2]>,
) -> Result<RecordBatch> {
    let failed = |error| Error::input(format!("repaired text cannot be put into its column ({error})"));
    let mut replaced = batch.clone();
    let paths = paths(batch.schema_ref().fields(), fields)?;
    let first = 2 - paths.len();
    for (side, names) in (first..).zip(paths) {
        let mut columns = replaced.columns().to_vec();
        if let Some((at, _)) = batch.schema_ref().fields().find(names[0]) {
            let text = |row: usize| sides(row).and_then(|sides| sides[side]);
            columns[at] = replace_in(&columns[at], &names[1..], &text).map_err(failed)?;
        }
        replaced = RecordBatch::try_new(replaced.schema(), columns).map_err(failed)?;
    }
    Ok(replaced)
}

/// The array with other texts at a path inside it.
fn replace_in<'a>(
    array: &ArrayRef,
    names: &[&str],
    text: &dyn Fn(usize) -> Option<&'a [u8]>,
) -> StdResult<ArrayRef, ArrowError> {
    if let (Some(map), [key]) = (array.as_map_opt(), names) {
        let mut texts: Vec<Option<&[u8]>> = vec![None; map.values().len()];
        for row in 0..map.len() {
            let (first, end) = (map.offsets()[row] as usize, map.offsets()[row + 1] as usize);
            let of_key = |&entry: &usize| value(map.keys(), entry) == Some(key.as_bytes());
            if let (Some(text), Some(entry)) = (text(row), (first..end).rev().find(of_key)) {
                texts[entry] = Some(text);
            }
        }
        let values = replace_in(map.values(), &[], &|entry| texts[entry])?;
        let DataType::Map(field, sorted) = map.data_type() else { return Ok(Arc::clone(array)) };
        let entries = map.entries();
        let columns = vec![Arc::clone(map.keys()), values];
        let entries = StructArray::try_new(entries.fields().clone(), columns, entries.nulls().cloned())?;
        let nulls = map.nulls().cloned();
        return Ok(Arc::new(MapArray::try_new(
            Arc::clone(field),
            map.offsets().clone(),
            entries,
            nulls,
            *sorted,
        )?));
    }
    if let (Some(outer), [name, names @ ..]) = (array.as_struct_opt(), names) {
        let mut columns = outer.columns().to_vec();
        if let Some((at, _)) = outer.fields().find(name) {
            columns[at] = replace_in(&columns[at], names, text)?;
        }
        return Ok(Arc::new(StructArray::try_new(outer.fields().clone(), columns, outer.nulls().cloned())?));
    }
    let texts = (0..array.len()).map(|row| text(row).or_else(|| value(array, row)));
    Ok(Arc::new(texts.collect::<BinaryViewArray>()))
}
