//! The Kith server: configuration, credentials, the catalogue of what is installed, the HTTP API, and the wiring of plugins
//! into the kernel. [`serve::open`] and [`serve::Server::run`] are the way in.
//!
//! The data path is `kith-pipeline`'s, running plugins is `kith-host`'s, keeping state is `kith-store`'s. The command line
//! is the binary's; it knows this crate's HTTP API and no more.

pub mod allocator;
pub mod api;
pub mod app;
pub mod audit;
pub mod auth;
pub mod catalogue;
pub mod config;
pub mod declared;
pub mod error;
mod fitting;
pub mod front;
mod machine;
mod memory;
pub mod metrics;
mod pace;
pub mod plugin_build;
mod processor;
pub mod public;
mod reads;
mod retention;
pub mod serve;
mod shares;
pub mod signatures;
mod watch;
pub mod wiring;
