//! The gateway as its callers meet it: signed requests into the router, a scripted upstream behind it.

mod agreed;
mod bounds;
mod canaries;
mod cases;
mod credits;
mod evidence;
mod exports;
mod guarded;
mod matrix;
mod moderated;
mod money;
mod pace;
mod pieces;
mod planned;
mod postgres;
mod queue;
mod refusals;
mod responses;
mod routes;
mod service;
mod stopped;
mod text;
mod transcribed;
mod upstreams;
mod watched;
mod world;
