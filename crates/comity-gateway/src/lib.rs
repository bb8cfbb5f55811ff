//! The door to a model: authenticate, authorise, hold, filter, forward, meter, charge.
