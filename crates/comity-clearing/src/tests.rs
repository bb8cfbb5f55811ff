//! The house, tried as its callers use it.
