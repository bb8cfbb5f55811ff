//! Waiting for Rust from Python: Ctrl-C is heard, and other threads run meanwhile.

use std::future::Future;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3_async_runtimes::tokio::get_runtime;

/// Runs a future to its end. A signal whose handler raises (Ctrl-C) drops it.
pub(crate) fn wait<T: Send + 'static>(py: Python<'_>, future: impl Future<Output = T> + Send + 'static) -> PyResult<T> {
    let (sender, receiver) = sync_channel(1);
    // Python lets a closure run without it only where all that it uses may be shared.
    let receiver = Mutex::new(receiver);
    let task = get_runtime().spawn(async move {
        let _ = sender.send(future.await);
    });
    loop {
        let received = py
            .detach(|| receiver.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(Duration::from_millis(50)));
        match received {
            Ok(value) => return Ok(value),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(pyo3::exceptions::PyRuntimeError::new_err(
                    "the call broke off: this is a fault of comity's",
                ));
            }
        }
        if let Err(error) = py.check_signals() {
            task.abort();
            return Err(error);
        }
    }
}
