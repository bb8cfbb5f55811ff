//! The one binary: node, clearing house, hub, demo and every command.
