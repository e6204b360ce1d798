//! The one way for text into Python: a corpus as an Arrow C stream, for any library that reads one.

use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use catprune_core::corpus::open_corpus::OpenCorpusRequest;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::doorway;

/// A capsule `arrow_array_stream` over the batches of a corpus. Whoever takes the stream reads it without the interpreter;
/// if it is dropped before its end, the reading ends too.
#[pyfunction]
pub fn open_corpus<'py>(request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyCapsule>> {
    let py = request.py();
    let request: OpenCorpusRequest = doorway::receive(request)?;
    let batches = catprune_core::corpus::open_corpus::open_corpus(request);
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(batches)), c"arrow_array_stream")
}
