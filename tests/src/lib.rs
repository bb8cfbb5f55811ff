//! The federation harness and the one integration binary.
