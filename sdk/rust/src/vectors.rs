//! For tests: the vectors' federation, its keys and objects.

#[allow(dead_code)]
#[path = "../../../crates/comity-token/examples/vectors/chains.rs"]
pub(crate) mod chains;
#[allow(dead_code)]
#[path = "../../../crates/comity-token/examples/vectors/world.rs"]
pub(crate) mod world;
