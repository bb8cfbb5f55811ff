//! What runs: the member of the federation that every service is, its doors, and the three kinds of service.

pub mod access;
pub mod admin;
pub mod cases;
mod central;
pub mod credits;
pub mod decisions;
pub(crate) mod doors;
pub mod exports;
mod findings;
mod follow;
pub mod homes;
pub mod house;
pub mod house_client;
mod issuers;
pub(crate) mod measured;
mod member;
mod offers;
pub mod owner;
pub mod register;
mod replicas;
pub mod stops;
pub mod turn;
pub(crate) mod upstreams;

pub use doors::Doors;
pub(crate) use doors::stopped;
pub use member::Member;
