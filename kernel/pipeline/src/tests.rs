//! The data path whole, over the in-memory store, with roles as closures and a clock that stands still.

mod accept;
mod harness;
mod identity;
mod reaction;
