//! The harness of the end-to-end tests: a real server, in this process or in one of its own, over a real store, with the
//! real plugins, and a client of its HTTP API.
//!
//! It stands outside of the product: what a test does to a server goes through HTTP or the command line. Nothing of ours is
//! replaced; the clock can be set, and the other ends of webhooks are receivers of the test's own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has to stop, and to say where")]

mod client;
mod kernel;
mod long;
mod neighbour;
mod plugins;
mod process;
mod random;
mod receiver;
mod registry;
mod relay;
mod wait;

use std::path::{Path, PathBuf};

pub use client::{Answer, Client, encode, gzip};
pub use kernel::{Occupied, Source, TestKernel, pages, settle};
pub use long::cases;
pub use neighbour::Neighbour;
pub use plugins::{bare, build, build_module, built, compile_bomb, component, newest_component, repacked};
pub use process::{Process, kith};
pub use random::Random;
pub use receiver::{Arrived, Receiver, SIGNING_SECRET};
pub use registry::Registry;
pub use relay::{Relay, RelayedMail, Verdict};
pub use wait::{wait_for, wait_until, wait_until_seen};

/// The admin key of every test server.
pub const ADMIN_KEY: &str = "end-to-end-admin-key-0123456789abcdef";

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_path_buf()
}

/// A file of `examples/data`.
pub fn data(name: &str) -> PathBuf {
    root().join("examples/data").join(name)
}
