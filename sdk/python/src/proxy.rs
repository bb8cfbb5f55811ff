//! The proxy beside a notebook.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use comity_cli::command::proxy::{Options, Serving};
use comity_sdk::Client;
use pyo3::prelude::*;

use crate::failure::Raised;
use crate::wait::wait;

/// A proxy that runs until it is stopped.
#[pyclass(frozen, module = "comity._comity")]
pub(crate) struct Served {
    serving: Mutex<Option<Serving>>,
    process: u32,
    #[pyo3(get)]
    base_url: String,
}

#[pymethods]
impl Served {
    /// Lets calls that are under way end. A second time does nothing.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        // A child that was forked has the handle, and none of what runs behind it.
        if std::process::id() != self.process {
            return Ok(());
        }
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
        serving.map_or(Ok(()), |serving| wait(py, serving.stop()))
    }
}

impl Served {
    pub(crate) async fn start(client: Arc<Client>, home: PathBuf, options: Options) -> Result<Self, Raised> {
        let serving = Serving::start(client, &home, options).await?;
        Ok(Self { base_url: serving.base_url(), serving: Mutex::new(Some(serving)), process: std::process::id() })
    }
}
