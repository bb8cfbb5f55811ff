//! The book against an oracle, and against interruptions.
