//! The gateway as its callers meet it.
