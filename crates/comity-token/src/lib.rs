//! Capability tokens: mint, delegate, verify; request signatures; the access decision.
