//! Digests, and columns of arrays from Python.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float32Array, Int64Array, UInt32Array};
use arrow_buffer::NullBuffer;
use catprune_core::columns::shards::write_shard;
use catprune_core::io::digests;
use numpy::PyReadonlyArray1;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::boundary;

/// xxh3-128 of bytes, 32 hexadecimal digits.
#[pyfunction]
pub fn digest_bytes(data: &[u8]) -> String {
    digests::digest_bytes(data)
}

/// xxh3-128 of a file, 32 hexadecimal digits.
#[pyfunction]
#[pyo3(signature = (path, progress=None))]
pub fn digest_file(py: Python<'_>, path: PathBuf, progress: Option<&Bound<'_, PyAny>>) -> PyResult<String> {
    boundary::run(py, progress, |progress| digests::digest_file(&path, progress))
}

/// The digests of files, in their order, computed on several threads.
#[pyfunction]
#[pyo3(signature = (paths, *, threads))]
pub fn digest_files(py: Python<'_>, paths: Vec<PathBuf>, threads: usize) -> PyResult<Vec<String>> {
    boundary::run(py, None, |progress| digests::digest_files(&paths, threads, progress))
}

/// Writes one Parquet shard from arrays of equal length, and returns its digest. Where `valid` is False, all columns
/// except `row` are null.
#[pyfunction]
#[pyo3(signature = (path, columns, *, valid=None, metadata))]
pub fn write_columns(
    py: Python<'_>,
    path: PathBuf,
    columns: &Bound<'_, PyDict>,
    valid: Option<PyReadonlyArray1<'_, bool>>,
    metadata: BTreeMap<String, String>,
) -> PyResult<String> {
    let nulls = match valid {
        Some(valid) => Some(NullBuffer::from(valid.as_slice()?.to_vec())),
        None => None,
    };
    let mut arrays = Vec::with_capacity(columns.len());
    for (name, values) in columns {
        let name: String = name.extract()?;
        let nulls = if name == "row" { None } else { nulls.clone() };
        let array = to_arrow(&name, &values, nulls)?;
        arrays.push((name, array));
    }
    let lengths: Vec<usize> = arrays.iter().map(|(_, array)| array.len()).collect();
    if arrays.first().is_none_or(|(name, _)| name != "row")
        || lengths.iter().any(|&length| length != lengths[0])
    {
        return Err(PyValueError::new_err(
            "the first column must be `row`, and all columns must have equal length",
        ));
    }
    boundary::run(py, None, |_| write_shard(&path, arrays, &metadata))
}

fn to_arrow(name: &str, values: &Bound<'_, PyAny>, nulls: Option<NullBuffer>) -> PyResult<ArrayRef> {
    if nulls.as_ref().is_some_and(|nulls| values.len().is_ok_and(|length| length != nulls.len())) {
        return Err(PyValueError::new_err(format!("column {name} and `valid` differ in length")));
    }
    if let Ok(values) = values.extract::<PyReadonlyArray1<'_, i64>>() {
        return Ok(Arc::new(Int64Array::new(values.as_slice()?.to_vec().into(), nulls)));
    }
    if let Ok(values) = values.extract::<PyReadonlyArray1<'_, u32>>() {
        return Ok(Arc::new(UInt32Array::new(values.as_slice()?.to_vec().into(), nulls)));
    }
    if let Ok(values) = values.extract::<PyReadonlyArray1<'_, f32>>() {
        return Ok(Arc::new(Float32Array::new(values.as_slice()?.to_vec().into(), nulls)));
    }
    if let Ok(values) = values.extract::<PyReadonlyArray1<'_, bool>>() {
        return Ok(Arc::new(BooleanArray::new(values.as_slice()?.to_vec().into(), nulls)));
    }
    Err(PyTypeError::new_err(format!(
        "column {name} must be a one-dimensional int64, uint32, float32 or bool array"
    )))
}
