//! The data path under what comes: large units, bad neighbours, many people at once, changes in the middle, and messages that
//! never repeat. One module for each theme.

mod bounds;
mod causes;
mod changes;
mod consent;
mod dev;
mod devices;
mod fits;
mod limits;
mod mailboxes;
mod models;
mod proof;
mod questions;
mod sending;
pub(crate) mod stage;
mod time;
mod upgrades;
