//! The whole product, story by story, through its public API and its command line: a real server over a real store, real
//! plugins in WebAssembly, real clients. One binary, so that the plugins are built once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to stop, and to say where")]

mod addresses;
mod api;
mod attacks;
mod audiences;
mod budgets;
mod cdnow;
mod cli;
mod commands;
mod conditions;
mod configuration;
mod crash;
mod datapath;
mod delivery;
mod dev;
mod dictionary;
mod field;
mod files;
mod grants;
mod guests;
mod hostile;
mod identity;
mod imports;
mod inputs;
mod isolation;
mod late;
mod letters;
mod mail;
mod outside;
mod people;
mod polling;
mod quality;
mod records;
mod registries;
mod restart;
mod room;
mod secrets;
mod segment;
mod shadows;
mod signed;
mod workspaces;
