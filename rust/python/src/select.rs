//! The pass `select`.

use std::path::PathBuf;

use catprune_core::select::{self as core, Request};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::doorway;

/// Selects rows from score shards and writes the selection's shards into `out`, `plan` in their metadata.
#[pyfunction]
#[pyo3(signature = (request, out, plan, progress=None))]
pub fn select<'py>(
    py: Python<'py>,
    request: &Bound<'py, PyAny>,
    out: PathBuf,
    plan: &str,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let request: Request =
        pythonize::depythonize(request).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let selection = doorway::run(py, progress, |watch| core::select(&request, &out, plan, watch))?;
    pythonize::pythonize(py, &selection).map_err(|error| PyValueError::new_err(error.to_string()))
}
