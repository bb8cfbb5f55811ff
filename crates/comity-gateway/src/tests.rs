//! The gateway as its callers meet it: signed requests into the router, a scripted upstream behind it.

mod bounds;
mod evidence;
mod money;
mod refusals;
mod service;
mod world;
