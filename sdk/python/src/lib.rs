//! The extension module `comity._comity`: the client and the commands, for the Python beside it.
//!
//! Everything here is thin: what is asked and what comes back are JSON, and the Python package gives them their shapes. No
//! rule of the protocol and no rule of money is written a second time.

mod act;
mod client;
mod failure;
mod fingerprint;
mod many;
mod proof;
mod proxy;
mod stream;
mod wait;

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs `comity` with these arguments, the program's name first; gives the exit code.
#[pyfunction]
fn command(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| comity_cli::program::main(arguments))
}

#[pymodule]
fn _comity(module: &Bound<'_, PyModule>) -> PyResult<()> {
    comity_http::tls::install();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(command, module)?)?;
    proof::add(module)?;
    module.add_class::<client::Core>()?;
    module.add_class::<stream::Stream>()?;
    module.add_class::<proxy::Served>()?;
    Ok(())
}
