//! What is asked of every decoder that strangers reach: any bytes give a value or a refusal, and what is promised of a value holds.
//!
//! Each module is one target. libFuzzer plays them on demand; the workspace's tests play them over the corpus and what is near it.

pub mod headers;
pub mod requests;
pub mod sse;
pub mod tokens;
