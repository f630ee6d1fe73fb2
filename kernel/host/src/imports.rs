//! Responsible for the host's side of the interfaces that plugins import, one file each. Which of them a kind gets is the
//! world's choice (`roles.rs` links them); how much of each a call may use is in its [`crate::state::CallState`].

mod address;
mod clock;
mod config;
mod dataset;
pub(crate) mod http;
mod kv;
mod log;
mod mail;
mod request;
pub(crate) mod secrets;
mod send;
mod webhook;

use crate::bindings::shared;
use crate::state::CallState;

// Interfaces that only define types have nothing to call.
impl shared::types::Host for CallState {}
impl shared::columns::Host for CallState {}
impl shared::fitting::Host for CallState {}
