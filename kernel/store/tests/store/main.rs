//! The store through its seam: one conformance suite for all stores, recovery from damage, and processes killed at work.

mod conformance;
mod kill;
mod recovery;
mod support;
