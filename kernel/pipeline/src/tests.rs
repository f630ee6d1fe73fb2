//! The data path whole, over the in-memory store, with roles as closures and a clock that stands still.

mod accept;
mod by_hand;
mod costs;
mod counts;
mod delivery;
mod failures;
mod fits;
pub(crate) mod harness;
mod histories;
mod identity;
mod models;
mod profiling;
mod reaction;
mod repeats;
mod rules;
mod undoing;
mod who;
