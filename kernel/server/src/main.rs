//! The Kith command.
fn main() {}
