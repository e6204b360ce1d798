//! The schema of a Parquet output: made for two sides, or the schema of the inputs whose rows are copied. Columns keep their types;
//! those that the Parquet library would change are refused.

use std::path::Path;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{Compression, ConvertedType, Type as Physical, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::{ColumnDescriptor, SchemaDescPtr, SchemaDescriptor, Type};

use crate::corpus::readers::parquet::parquet_schema;
use crate::corpus::readers::parquet_text::{as_bytes, with_views};
use crate::io::atomic_files::Draft;
use crate::writing::added::Added;
use crate::{Error, Result};

/// The most rows of a row group.
const GROUP_ROWS: usize = 1 << 17;

/// The schema of an output.
pub struct TableSchema {
    /// Of the rows that are written; text is bytes if it was copied.
    pub rows: SchemaRef,
    /// The same, in which text is text.
    pub text: SchemaRef,
    /// Of the file, for readers of Arrow: text need not be views.
    arrow: SchemaRef,
    parquet: SchemaDescriptor,
}

impl TableSchema {
    /// A schema made by catprune, and columns beside it.
    pub fn made(schema: &Schema, added: &[Added]) -> Result<Self> {
        let rows = with_added(schema, added)?;
        let parquet = convert(&rows)?;
        Ok(Self { arrow: Arc::clone(&rows), text: Arc::clone(&rows), rows, parquet })
    }

    /// The schema of files with the same columns, and columns beside it. Fails if a column of a file would change.
    pub fn copied(paths: &[&Path], added: &[Added]) -> Result<Self> {
        let schemas = paths.iter().map(|path| parquet_schema(path)).collect::<Result<Vec<_>>>()?;
        let [(arrow, first), ..] = &schemas[..] else {
            return Err(Error::input("no Parquet file to copy: this is a bug of catprune"));
        };
        let copied = with_views(arrow);
        let made = convert(&copied)?;
        let parquet = if is_writable(first, &made) { (**first).clone() } else { made };
        for (path, (_, schema)) in paths.iter().zip(&schemas) {
            check_types(path, schema, &parquet)?;
        }
        let beside = convert(&Schema::new(added.iter().map(|added| added.field()).collect::<Vec<_>>()))?;
        let root = parquet.root_schema();
        let columns = [root.get_fields(), beside.root_schema().get_fields()].concat();
        let root =
            Type::group_type_builder(root.name()).with_fields(columns).build().map_err(|e| failed(&e))?;
        Ok(Self {
            rows: with_added(&as_bytes(arrow), added)?,
            text: copied,
            arrow: with_added(arrow, added)?,
            parquet: SchemaDescriptor::new(Arc::new(root)),
        })
    }

    /// Begins a file.
    pub fn write_to(&self, draft: Draft, path: &Path) -> Result<ArrowWriter<Draft>> {
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        add_encoded_arrow_schema_to_metadata(&self.arrow, &mut properties);
        let options = ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true)
            .with_parquet_schema(self.parquet.clone());
        ArrowWriter::try_new_with_options(draft, Arc::clone(&self.rows), options)
            .map_err(|error| Error::parquet(path, error))
    }
}

/// Whether two files have the same columns.
pub fn are_alike(paths: &[&Path]) -> Result<bool> {
    let schemas =
        paths.iter().map(|path| Ok(with_views(&parquet_schema(path)?.0))).collect::<Result<Vec<_>>>()?;
    Ok(schemas.windows(2).all(|pair| pair[0].fields() == pair[1].fields()))
}

/// The columns that are copied or made of the sides, and those beside them.
fn with_added(copied: &Schema, added: &[Added]) -> Result<SchemaRef> {
    if let Some(clash) = added.iter().find(|added| copied.field_with_name(added.name()).is_ok()) {
        return Err(has_already("the output", clash.name()));
    }
    let fields = copied.fields().iter().cloned().chain(added.iter().map(|added| Arc::new(added.field())));
    Ok(Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), copied.metadata().clone())))
}

/// The error of a name that would come twice.
pub fn has_already(what: &str, name: &str) -> Error {
    Error::input(format!("{what} has a field {name} already: leave {name} out of with, or rename the field"))
}

fn convert(schema: &Schema) -> Result<SchemaDescriptor> {
    ArrowSchemaConverter::new().with_coerce_types(true).convert(schema).map_err(|error| failed(&error))
}

fn failed(error: &ParquetError) -> Error {
    Error::input(format!("the columns of the Parquet files cannot be copied ({error})"))
}

/// Whether rows can be written in the schema of a file, because the one made for them stores the same values.
fn is_writable(schema: &SchemaDescPtr, made: &SchemaDescriptor) -> bool {
    let stored = |column: &ColumnDescriptor| {
        let levels = (column.max_def_level(), column.max_rep_level());
        (column.physical_type(), column.type_length(), levels)
    };
    let columns = || schema.columns().iter().zip(made.columns());
    schema.num_columns() == made.num_columns()
        && columns().all(|(column, made)| stored(column) == stored(made))
}

/// Fails if the output would have another type for a column of a file.
fn check_types(path: &Path, schema: &SchemaDescPtr, output: &SchemaDescriptor) -> Result<()> {
    let pairs = schema.columns().iter().zip(output.columns());
    let changed = pairs.into_iter().find(|(column, output)| !is_same_type(column, output));
    match changed {
        None if schema.num_columns() == output.num_columns() => Ok(()),
        None => Err(Error::input(format!("{}: its columns cannot be copied", path.display()))),
        Some((column, _)) => Err(Error::input(format!(
            "{}: column {} is {}, which whole records cannot be copied with: convert the column, or write TSV or JSONL",
            path.display(),
            column.path().string(),
            type_name(column)
        ))),
    }
}

fn is_same_type(column: &ColumnDescriptor, output: &ColumnDescriptor) -> bool {
    let decimals = |column: &ColumnDescriptor| (column.type_precision(), column.type_scale());
    // The library reads intervals without their months.
    if column.converted_type() == ConvertedType::INTERVAL || decimals(column) != decimals(output) {
        return false;
    }
    match (column.logical_type_ref(), column.converted_type()) {
        (Some(logical), _) => output.logical_type_ref() == Some(logical),
        (None, ConvertedType::NONE) => {
            output.logical_type_ref().is_none() && column.physical_type() == output.physical_type()
        }
        (None, converted) => output.converted_type() == converted,
    }
}

fn type_name(column: &ColumnDescriptor) -> String {
    match (column.logical_type_ref(), column.converted_type()) {
        _ if column.physical_type() == Physical::INT96 => "INT96 (a timestamp of Spark)".to_owned(),
        (Some(logical), _) => format!("{logical:?}"),
        (None, ConvertedType::NONE) => column.physical_type().to_string(),
        (None, converted) => converted.to_string(),
    }
}
