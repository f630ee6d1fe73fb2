//! The Kith command: reads the arguments, runs the command, and turns its end into an exit code.
//!
//! 0 is success, 1 a failure, 2 a request that makes no sense. Everything else is in `cli.rs`.

use std::process::ExitCode;

mod cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kith::allocator::use_small_pages();
    kith::allocator::keep_freed_pages();
    cli::main()
}

#[cfg(test)]
mod tests {
    /// Pages that another thread has freed are given back, too.
    #[test]
    fn what_is_freed_elsewhere_is_given_back() {
        kith::allocator::keep_freed_pages();
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
            text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
        };
        let blocks = || (0..4_096).map(|_| vec![1_u8; 64 << 10]).collect::<Vec<_>>();
        let (freed, is_freed) = std::sync::mpsc::channel();
        let (end, is_ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            drop(blocks());
            freed.send(()).unwrap();
            is_ended.recv().unwrap();
        });
        is_freed.recv().unwrap();
        let before = resident();
        kith::allocator::give_back();
        let after = resident();
        end.send(()).unwrap();
        thread.join().unwrap();
        // Other tests take memory at the same time, but not so much.
        assert!(before == 0 || after + (128 << 20) < before, "{before} to {after}");
    }
}
