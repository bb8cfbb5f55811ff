//! The researcher's commands.
