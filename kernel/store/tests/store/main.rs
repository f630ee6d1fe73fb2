//! The store through its seam: one conformance suite for all stores, recovery from damage, and processes killed at work.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod changes;
mod commit_all;
mod conformance;
mod damage;
mod kill;
mod queues;
mod read_sets;
mod recovery;
mod support;
