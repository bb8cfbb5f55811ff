//! TLS with raw-key trust, the accept loop, the dialler, signed requests over HTTP, error bodies.
//!
//! Everything that listens or dials HTTP in Comity does it through here: one TLS provider ([`tls::provider`]), one
//! accept loop with all its limits ([`serve`]), one dialler that trusts keys and not certificate authorities
//! ([`dial`]), one form for saying no ([`problem`]) and one way of knowing who calls ([`signed`]). Services bring an
//! axum `Router`. Leaves to others: money, models, SQL, libp2p, and whether a caller may do what it asks.
#![forbid(unsafe_code)]

pub mod body;
pub mod dial;
pub mod problem;
mod quic;
pub mod relay;
pub mod serve;
pub mod signed;
pub mod tls;

pub use dial::{Client, DialError, Endpoint};
pub use problem::{Refusal, RemoteError};
pub use relay::{BoxDuplex, Duplex};
pub use serve::{Drained, QuicServer, Server};
pub use signed::{Caller, Signed};
pub use tls::{Identity, TrustedKeys};
