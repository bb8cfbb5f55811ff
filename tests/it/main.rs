//! One integration binary: it links once. A file here that is not declared is found by `architecture::tidy`.

mod architecture;
mod conformance;
