//! The passes; requests and results are the structures of the core as dictionaries.

use std::path::PathBuf;

use catprune_core::cleaning::request::CleanRequest;
use catprune_core::cleaning::rules::Rules;
use catprune_core::corpus::read_pairs::ReadPairsRequest;
use catprune_core::corpus::segments::TestSet;
use catprune_core::selection::request::SelectRequest;
use catprune_core::stats::rare_words::RareWordsRequest;
use catprune_core::stats::stats::StatsRequest;
use catprune_core::tokens::encoder::Encoder;
use catprune_core::tokens::request::TokenizeRequest;
use catprune_core::tokens::sample::SampleRequest;
use catprune_core::writing::write::WriteRequest;
use catprune_core::{Progress, Result};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pythonize::pythonize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::boundary;

/// Runs a pass on a request dictionary; returns the result as a dictionary.
fn run_request<'py, R, T>(
    request: &Bound<'py, PyAny>,
    progress: Option<&Bound<'py, PyAny>>,
    pass: impl FnOnce(&R, &Progress) -> Result<T> + Send,
) -> PyResult<Bound<'py, PyAny>>
where
    R: DeserializeOwned + Send + Sync,
    T: Serialize + Send,
{
    let py = request.py();
    let request: R = boundary::receive(request)?;
    let result = boundary::run(py, progress, |progress| pass(&request, progress))?;
    pythonize(py, &result).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Applies the rules to every pair, finds duplicates, and writes the columns of `clean/`.
#[pyfunction]
#[pyo3(signature = (request, progress=None))]
pub fn clean<'py>(
    request: &Bound<'py, PyAny>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    run_request::<CleanRequest, _>(request, progress, catprune_core::cleaning::clean::clean)
}

/// The default thresholds of the rules.
#[pyfunction]
pub fn default_rules(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pythonize(py, &Rules::default()).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Encodes texts as `tokenize` does: the ids of each, with the special tokens at its ends.
#[pyfunction]
pub fn encode(py: Python<'_>, tokenizer: PathBuf, texts: Vec<String>) -> PyResult<Vec<Vec<u32>>> {
    boundary::run(py, None, |_| Encoder::open(&tokenizer)?.encode_all(&texts))
}

/// Writes a seeded sample of the kept pairs as text.
#[pyfunction]
#[pyo3(signature = (request, progress=None))]
pub fn sample<'py>(
    request: &Bound<'py, PyAny>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    run_request::<SampleRequest, _>(request, progress, catprune_core::tokens::sample::sample)
}

/// Writes the kept pairs as token blocks into `tokens/`.
#[pyfunction]
#[pyo3(signature = (request, progress=None))]
pub fn tokenize<'py>(
    request: &Bound<'py, PyAny>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    run_request::<TokenizeRequest, _>(request, progress, catprune_core::tokens::tokenize::tokenize)
}

/// Ranks the records and writes the shards of `selection/`.
#[pyfunction]
#[pyo3(signature = (request, progress=None))]
pub fn select<'py>(
    request: &Bound<'py, PyAny>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    run_request::<SelectRequest, _>(request, progress, catprune_core::selection::select::select)
}

/// Writes the kept pairs as text.
#[pyfunction]
#[pyo3(signature = (request, progress=None))]
pub fn write<'py>(
    request: &Bound<'py, PyAny>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    run_request::<WriteRequest, _>(request, progress, catprune_core::writing::write::write)
}

/// Computes the statistics of a corpus.
#[pyfunction]
#[pyo3(signature = (request, progress=None))]
pub fn stats<'py>(
    request: &Bound<'py, PyAny>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    run_request::<StatsRequest, _>(request, progress, catprune_core::stats::stats::stats)
}

/// Counts the rare words that selections keep.
#[pyfunction]
#[pyo3(signature = (request, progress=None))]
pub fn rare_words<'py>(
    request: &Bound<'py, PyAny>,
    progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    run_request::<RareWordsRequest, _>(request, progress, catprune_core::stats::rare_words::rare_words)
}

/// The text of a few rows.
#[pyfunction]
pub fn read_pairs<'py>(request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    run_request::<ReadPairsRequest, _>(request, None, catprune_core::corpus::read_pairs::read_pairs)
}

/// The text of a test set.
#[pyfunction]
pub fn read_test_set<'py>(request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    run_request::<TestSet, _>(request, None, catprune_core::corpus::segments::read_test_set)
}

/// The start of the text of a file, decompressed. On this thread: a corpus may have many thousand files.
#[pyfunction]
pub fn read_start(py: Python<'_>, path: PathBuf, most: usize) -> PyResult<Bound<'_, PyBytes>> {
    let start = py.detach(|| catprune_core::io::compression::read_start(&path, most));
    let start = start.map_err(|error| boundary::to_exception(py, error))?;
    Ok(PyBytes::new(py, &start))
}

/// The version of Unicode that decides what a letter, a space or a script is.
#[pyfunction]
pub fn unicode_version() -> String {
    catprune_core::text::characters::unicode_version()
}
