//! The rules of the house that a machine can check: the layers and who may know which foreign world, how files begin, how
//! long they are, what lies where, and that no end-to-end story is without a second tenant.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to stop, and to say where")]

mod budgets;
mod contract;
mod files;
mod hostile;
mod layers;
mod licences;
mod tenants;
