//! The JSON that two sides share: requests and replies of the clearing house and of a node.

pub mod access;
pub mod advisory;
pub mod case;
pub mod challenge;
pub mod clearing;
pub mod count;
pub mod credit;
pub mod decisions;
pub mod login;
pub mod node;
pub mod person;
pub mod proposal;
