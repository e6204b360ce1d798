//! Calls a pass from Python: releases the interpreter, handles Ctrl-C, reports progress to the caller, and turns errors
//! into exceptions.

use std::thread;
use std::time::Duration;

use catprune_core::{Error, Progress, Result};
use crossbeam_channel::{RecvTimeoutError, bounded};
use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyRuntimeError, PyUnicodeEncodeError, PyValueError};
use pyo3::prelude::*;
use pythonize::depythonize;
use serde::de::DeserializeOwned;

/// The interval at which signals are checked and progress is reported.
const PULSE: Duration = Duration::from_millis(100);

/// Converts a request to the structure of the core.
pub fn receive<R: DeserializeOwned>(request: &Bound<'_, PyAny>) -> PyResult<R> {
    let py = request.py();
    depythonize(request).map_err(|error| {
        let error = PyErr::from(error);
        if !error.is_instance_of::<PyUnicodeEncodeError>(py) {
            return PyValueError::new_err(error.to_string());
        }
        // Only file names can be invalid UTF-8 in a request.
        let name =
            error.value(py).getattr("object").and_then(|name| name.repr()).map(|name| name.to_string());
        catprune_error(py, format!("a name is not UTF-8 ({}): rename it", name.unwrap_or_default()))
    })
}

/// Runs `pass` on its own thread. The calling thread waits, because only this thread can run Python's signal handlers.
/// `callback` is called as `callback(bytes, rows)`.
pub fn run<T: Send>(
    py: Python<'_>,
    callback: Option<&Bound<'_, PyAny>>,
    pass: impl FnOnce(&Progress) -> Result<T> + Send,
) -> PyResult<T> {
    let progress = &Progress::default();
    thread::scope(|scope| {
        let (done, finished) = bounded(1);
        let worker = scope.spawn(move || {
            let result = pass(progress);
            let _ = done.send(());
            result
        });
        let mut outcome = Ok(());
        loop {
            let signal = py.detach(|| finished.recv_timeout(PULSE));
            if !matches!(signal, Err(RecvTimeoutError::Timeout)) || worker.is_finished() {
                break;
            }
            if outcome.is_ok() {
                outcome = pulse(py, callback, progress);
                if outcome.is_err() {
                    progress.stop();
                }
            }
        }
        let result = py.detach(|| worker.join());
        outcome?;
        let result =
            result.map_err(|_| PyRuntimeError::new_err("a pass panicked: this is a bug of catprune"))?;
        if let (Ok(_), Some(callback)) = (&result, callback) {
            callback.call1(progress.done())?;
        }
        result.map_err(|error| to_exception(py, error))
    })
}

fn pulse(py: Python<'_>, callback: Option<&Bound<'_, PyAny>>, progress: &Progress) -> PyResult<()> {
    py.check_signals()?;
    if let Some(callback) = callback {
        callback.call1(progress.done())?;
    }
    Ok(())
}

/// I/O errors become the `OSError` subclass of their number, with the path; other errors become `CatpruneError`.
pub fn to_exception(py: Python<'_>, error: Error) -> PyErr {
    match error {
        Error::Io { path, source } => match source.raw_os_error() {
            Some(number) => {
                let text = os_error_text(py, number).unwrap_or_else(|| source.to_string());
                PyOSError::new_err((number, text, path))
            }
            None => catprune_error(py, format!("{}: {source}", path.display())),
        },
        Error::Input(message) => catprune_error(py, message),
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
    }
}

fn os_error_text(py: Python<'_>, number: i32) -> Option<String> {
    py.import("os").ok()?.call_method1("strerror", (number,)).ok()?.extract().ok()
}

fn catprune_error(py: Python<'_>, message: String) -> PyErr {
    match py.import("catprune.errors").and_then(|module| module.getattr("CatpruneError")) {
        Ok(class) => match class.call1((message,)) {
            Ok(value) => PyErr::from_value(value),
            Err(error) => error,
        },
        Err(error) => error,
    }
}
