//! This house as a resource of a central site of AMIE: what is asked of it is written down and decided in one SQL transaction
//! with what it changes here, and answered from there (docs/reference/amie.md, decision 0052).
//!
//! No packet moves credits. A grant becomes the body of an act; once officers have done the act, its answer is written in the
//! transaction of the credits.

mod decide;
mod grants;
mod operator;
mod persons;
mod turn;
mod usage;

pub(super) use grants::{act_begins_in_tx, act_done_in_tx};
pub use operator::{AccountView, Bind, PacketAt, PacketRefuse, PacketView};
pub(super) use operator::{bind_check, bind_in_tx};
pub use turn::{Turned, Wire, WireError};
pub use usage::{Reported, UsageRefusal, UsageView};
