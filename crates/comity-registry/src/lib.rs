//! A replica of the federation's roster and feeds, as a state machine without I/O.
