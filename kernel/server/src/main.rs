//! The Kith command: reads the arguments, runs the command, and turns its end into an exit code.
//!
//! 0 is success, 1 a failure, 2 a request that makes no sense. Everything else is in `cli.rs`.

use std::process::ExitCode;

mod allocator;
mod cli;

fn main() -> ExitCode {
    allocator::keep_freed_pages();
    cli::main()
}
