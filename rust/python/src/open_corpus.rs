//! Passes the text of a corpus to Python as an Arrow C stream, for any library that reads such streams.

use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use catprune_core::corpus::open_corpus::OpenCorpusRequest;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::boundary;

/// A capsule `arrow_array_stream` over the batches of a corpus. The stream is read without the interpreter; reading
/// ends when the stream is dropped.
#[pyfunction]
pub fn open_corpus<'py>(request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyCapsule>> {
    let py = request.py();
    let request: OpenCorpusRequest = boundary::receive(request)?;
    let batches = catprune_core::corpus::open_corpus::open_corpus(request);
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(batches)), c"arrow_array_stream")
}
