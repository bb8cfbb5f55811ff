//! The client's handle in Python.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comity_cli::keys::Source;
use comity_sdk::Client;
use pyo3::prelude::*;
use pyo3_async_runtimes::tokio::future_into_py;
use tokio_util::sync::CancellationToken;

use crate::act::{Act, Call};
use crate::failure::Raised;
use crate::fingerprint;
use crate::many;
use crate::proxy::Served;
use crate::stream::Stream;
use crate::wait::wait;

/// A notebook stands open for hours: what was not spent goes home meanwhile.
const IDLE: Duration = Duration::from_secs(60);

/// A wallet that is open, or one that is only looked at.
#[pyclass(frozen, module = "comity._comity")]
pub(crate) struct Core {
    /// `None` once it is closed: the wallet is free for another program.
    client: Mutex<Option<Arc<Client>>>,
    home: PathBuf,
    /// Ends streams that nobody ended.
    streams: CancellationToken,
    /// A process that was forked from the one that opened it has none of its threads.
    process: u32,
}

#[pymethods]
impl Core {
    /// Opens the home folder's wallet. `look`: signs nothing, and runs beside another program that uses the wallet. `passphrase`: of
    /// sealed keys; left out, `COMITY_PASSPHRASE_FILE` has it, or the terminal is asked.
    #[new]
    #[pyo3(signature = (home, look, passphrase = None))]
    fn open(py: Python<'_>, home: Option<PathBuf>, look: bool, passphrase: Option<String>) -> PyResult<Self> {
        let source = passphrase.map_or_else(|| Source::new(None), |text| Source::Given(text.into()));
        let opened = py.detach(|| comity_cli::open(home, source, look));
        let (home, client) = opened.map_err(|error| Raised::of("wallet", error).raise(py))?;
        Ok(Self {
            client: Mutex::new(Some(Arc::new(client))),
            home,
            streams: CancellationToken::new(),
            process: std::process::id(),
        })
    }

    #[getter]
    fn home(&self) -> PathBuf {
        self.home.clone()
    }

    /// Lets the wallet go, once what is under way has ended. A second time does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        /// What was left early is settled within this time, or by the next program that opens the wallet.
        const PATIENCE: Duration = Duration::from_secs(10);
        const STEP: Duration = Duration::from_millis(20);
        // What another process opened is that process's to close.
        if std::process::id() != self.process {
            return Ok(());
        }
        self.streams.cancel();
        let Some(client) = self.client.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        wait(py, async move {
            let mut waited = Duration::ZERO;
            while Arc::strong_count(&client) > 1 && waited < PATIENCE {
                tokio::time::sleep(STEP).await;
                waited += STEP;
            }
        })
    }

    /// Does one thing, and waits for it.
    fn act(&self, py: Python<'_>, act: &str) -> PyResult<String> {
        let client = self.client(py)?;
        let act = Act::read(act).map_err(|raised| raised.raise(py))?;
        let done = wait(py, act.done(client, self.home.clone()))?;
        done.map(|value| value.to_string()).map_err(|raised| raised.raise(py))
    }

    /// The same, as an awaitable.
    fn act_async<'py>(&self, py: Python<'py>, act: &str) -> PyResult<Bound<'py, PyAny>> {
        let client = self.client(py)?;
        let act = Act::read(act).map_err(|raised| raised.raise(py))?;
        let home = self.home.clone();
        future_into_py(py, async move {
            let done = act.done(client, home).await;
            done.map(|value| value.to_string()).map_err(|raised| Python::attach(|py| raised.raise(py)))
        })
    }

    /// Asks for a stream; the first byte is not waited for.
    fn stream(&self, py: Python<'_>, call: &str) -> PyResult<Stream> {
        let client = self.client(py)?;
        let call: Call = serde_json::from_str(call).map_err(|error| Raised::form(&error).raise(py))?;
        let query = call.query(&client).map_err(|raised| raised.raise(py))?;
        Ok(Stream::start(client, query, &self.streams))
    }

    /// A proxy on this wallet, on loopback unless it is told otherwise.
    fn proxy(&self, py: Python<'_>, listen: &str, key: Option<String>) -> PyResult<Served> {
        let client = self.client(py)?;
        let listen = listen.parse().map_err(|_| Raised::input("an address is IP:PORT").raise(py))?;
        let (home, options) =
            (self.home.clone(), comity_cli::command::proxy::Options { listen, key, model: None, idle: Some(IDLE) });
        wait(py, Served::start(client, home, options))?.map_err(|raised| raised.raise(py))
    }

    /// Asks a comparison to its end. `told` hears `(row, progress)` as JSON.
    fn compare(&self, py: Python<'_>, asked: &str, told: Option<Py<PyAny>>) -> PyResult<String> {
        let client = self.client(py)?;
        let comparing = many::Comparing::read(asked).map_err(|raised| raised.raise(py))?;
        many::run(py, told, move |told, wanted| comparing.run(client, told, wanted))
    }

    /// Asks a file of lines to its end. `told` hears the counts as JSON.
    fn batch(&self, py: Python<'_>, asked: &str, told: Option<Py<PyAny>>) -> PyResult<String> {
        let client = self.client(py)?;
        let batch = many::Batch::read(asked).map_err(|raised| raised.raise(py))?;
        many::run(py, told, move |told, wanted| batch.run(client, told, wanted))
    }

    /// Takes a fingerprint. `told` hears the counts as JSON; the first say what it would cost.
    fn take(&self, py: Python<'_>, asked: &str, told: Option<Py<PyAny>>) -> PyResult<String> {
        let client = self.client(py)?;
        let taking = fingerprint::Taking::read(asked).map_err(|raised| raised.raise(py))?;
        let home = self.home.clone();
        many::run(py, told, move |told, wanted| taking.run(client, home, told, wanted))
    }

    /// Checks a model by a fingerprint. `told` as in taking.
    fn check(&self, py: Python<'_>, asked: &str, told: Option<Py<PyAny>>) -> PyResult<String> {
        let client = self.client(py)?;
        let checking = fingerprint::Checking::read(asked).map_err(|raised| raised.raise(py))?;
        many::run(py, told, move |told, wanted| checking.run(client, told, wanted))
    }
}

impl Core {
    fn client(&self, py: Python<'_>) -> PyResult<Arc<Client>> {
        if std::process::id() == self.process {
            let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
            return client.clone().ok_or_else(|| Raised::input("this client is closed: open another").raise(py));
        }
        let message = "this client was opened before the process was forked: open one in the child, on a home of its own, or \
                       give workers a proxy's address";
        Err(Raised::input(message).raise(py))
    }
}
