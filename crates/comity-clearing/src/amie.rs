//! ACCESS AMIE, seen from the centre: what an answer of a site does, what is due there, what its usage records say.
//!
//! Pure. Here the house is the central side (docs/reference/amie.md): it requests, sites notify. Nothing here moves credits: a
//! site's usage is its own meter, receipts alone are paid (decision 0039). In [`central`] the house is itself a site.

pub mod central;
mod due;
mod flow;
mod packet;
mod person;
mod text;
mod usage;

pub use due::{Known, Standing, account_due, project_due};
pub use flow::{Flow, Refused, State, Step, step};
pub use packet::{Body, Kind, Said, complete, resource_list, success};
pub use person::told;
pub(crate) use text::label;
pub use text::{charge, iso, units};
pub use usage::{Record, UsageKind, record};
