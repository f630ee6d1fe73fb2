//! Responsible for the WebAssembly engine: what it accepts of the language, how it compiles, and the ticker that lets
//! deadlines interrupt guests. The reasons for each setting are in the comments beside it.

use std::num::NonZeroUsize;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, WasmBacktraceDetails};

/// How often running guests are checked against their deadlines. Compiled code has no other clock than the epoch, which a thread
/// counts up.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// The guest's share of the calling thread's stack. Threads have 2 MiB, so host functions keep more than 1 MiB: a host
/// frame that overflows the rest would abort the process.
const MAX_WASM_STACK_BYTES: usize = 512 * 1024;

/// Frames in a fault's backtrace.
const MAX_BACKTRACE_FRAMES: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not 0");

/// Whether the code counts fuel and makes every NaN the same. Both cost up to half the speed, so they are compiled in only
/// for installations that ask for reproducible budgets, and such code is a separate compilation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metering {
    Off,
    On,
}

/// The engine's settings. The compiling child uses the same, or its code would not be accepted.
fn config(metering: Metering) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(metering == Metering::On)
        // Loops and function entries check a counter that the ticker raises: about 10 % slower, and no guest runs on.
        .epoch_interruption(true)
        // Without relaxed SIMD the bits of a NaN are all that machines may differ in. No NaN is an input, and none becomes a
        // stored value; a guest would have to look at the bits of one that it made itself. To rule out even that costs up to
        // half of the speed of arithmetic, so it comes with metering, for who asks for reproducible runs.
        .cranelift_nan_canonicalization(metering == Metering::On)
        .wasm_relaxed_simd(false)
        // Nothing that a plugin built for wasm32-unknown-unknown needs; each is code that an attacker could reach.
        .wasm_tail_call(false)
        .wasm_memory64(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false)
        // What wasmtime itself writes between nested components copies from one memory to another; no module of a plugin's may
        // have two (`package/shape.rs`).
        .wasm_multi_memory(true)
        .wasm_extended_const(true)
        .wasm_component_model(true)
        .max_wasm_stack(MAX_WASM_STACK_BYTES)
        // Pooled memory has twice shown one instance's data to another (RUSTSEC-2022-0075, RUSTSEC-2026-0088).
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .memory_init_cow(true)
        .cranelift_opt_level(OptLevel::Speed)
        .wasm_backtrace_max_frames(Some(MAX_BACKTRACE_FRAMES))
        // Decided here, not by an environment variable.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .native_unwind_info(false);
    config
}

/// A new engine.
///
/// # Errors
/// When the machine cannot run what the settings ask for.
pub(crate) fn engine(metering: Metering) -> wasmtime::Result<Engine> {
    Engine::new(&config(metering))
}

/// The process's engines and their ticker, which stops with them. Components of one are never mixed with the other's:
/// each `Plugin` keeps its compilations apart.
pub(crate) struct Engines {
    shared: Arc<EnginePair>,
    stop: Option<Sender<()>>,
    ticker: Option<JoinHandle<()>>,
}

struct EnginePair {
    plain: Engine,
    metered: OnceLock<Engine>,
}

impl Engines {
    /// Start the engine without metering and the ticker. The metered one starts when it is first asked for.
    pub(crate) fn start() -> wasmtime::Result<Engines> {
        let shared = Arc::new(EnginePair { plain: engine(Metering::Off)?, metered: OnceLock::new() });
        let (stop, stopped) = channel();
        let ticked = shared.clone();
        let ticker = std::thread::Builder::new().name("kith-epoch".into()).spawn(move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                ticked.plain.increment_epoch();
                if let Some(metered) = ticked.metered.get() {
                    metered.increment_epoch();
                }
            }
        });
        Ok(Engines { shared, stop: Some(stop), ticker: Some(ticker.map_err(wasmtime::Error::new)?) })
    }

    pub(crate) fn get(&self, metering: Metering) -> wasmtime::Result<&Engine> {
        match metering {
            Metering::Off => Ok(&self.shared.plain),
            Metering::On => {
                if self.shared.metered.get().is_none() {
                    // Of two threads that come here together one engine is dropped unused.
                    drop(self.shared.metered.set(engine(Metering::On)?));
                }
                Ok(self.shared.metered.get().expect("it was set above"))
            }
        }
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(ticker) = self.ticker.take() {
            drop(ticker.join());
        }
    }
}
