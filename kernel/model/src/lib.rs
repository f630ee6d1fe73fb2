//! The nouns of Kith, the state machines over them, and the roles that plugins play.
//!
//! Everything here is plain data and pure functions: no I/O, no async runtime, no clock but the [`time::Clock`] that is
//! handed in. What is stored, sent or run is other crates' work; they all speak in these types.

pub mod audience;
pub mod budget;
pub mod change;
pub mod consent;
pub mod delivery;
pub mod dictionary;
pub mod event;
pub mod flag;
pub mod id;
pub mod identity;
pub mod network;
pub mod objects;
pub mod plugin;
pub mod polling;
pub mod profile;
pub mod rules;
pub mod secret;
pub mod sending;
pub mod slot;
pub mod spent;
pub mod table;
pub mod time;
pub mod tracking;
