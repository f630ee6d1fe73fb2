//! Responsible for the host's side of the interfaces that plugins import, one file each. Which of them a kind gets is the
//! world's choice (`link.rs` links them); how much of each a call may use is in its [`crate::state::CallState`].

mod clock;
mod config;
mod dataset;
pub(crate) mod emitting;
mod http;
mod kv;
mod log;
mod mail;
pub(crate) mod secrets;
#[cfg(test)]
mod tests;
