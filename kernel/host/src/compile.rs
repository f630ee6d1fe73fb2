//! Responsible for turning a component into machine code, in this process or in a short-lived child that cannot take
//! more processor time, memory or wall time than its limits, and has no right but to compile. Keeping the result is `cache.rs`'s work.

mod confine;

use std::collections::HashMap;
use std::ffi::OsString;
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, setrlimit};
use sha2::{Digest, Sha256};
use wasmtime::Engine;

pub use self::confine::{CONFINES, confine};
use crate::engine::{Metering, engine};

/// Where components are compiled.
#[derive(Debug, Clone)]
pub enum CompileMode {
    /// On the calling thread, without limits: for trusted plugins and tests.
    InProcess,
    /// The same, but what one host has compiled the others that share this need not: for tests, of which each has a host.
    Shared(CompiledCode),
    /// In a child process that runs [`compile_child_main`] with limits.
    Child { command: PathBuf, args: Vec<OsString> },
}

/// Machine code by the name of its compilation, kept for as long as anybody shares it.
#[derive(Debug, Clone, Default)]
pub struct CompiledCode(Arc<Mutex<CodeByName>>);

type CodeByName = HashMap<[u8; 32], Arc<[u8]>>;

impl CompiledCode {
    /// The code of a component. Two who ask at once may both compile it.
    fn code(&self, engine: &Engine, component: &[u8]) -> Result<Artifact, CompileError> {
        let key = artifact_key(engine, component);
        let kept = self.0.lock().get(&key).cloned();
        if let Some(code) = kept {
            return Ok(Artifact(code.to_vec()));
        }
        let artifact = compile_here(engine, component)?;
        self.0.lock().insert(key, artifact.bytes().into());
        Ok(artifact)
    }
}

/// How a compiling child stands beside all other work of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildPriority {
    /// As whoever starts it: somebody sits and waits for it.
    Usual,
    /// It yields to others, as a server's compiling does to what the server answers.
    Yielding,
}

/// Four times what the largest plugin of ours takes.
const MAX_CHILD_CPU_SECONDS: u64 = 20;
/// Compiling takes about 0.6 GiB for each MiB of code; a plugin of 8 MiB is mostly data.
const MAX_CHILD_ADDRESS_BYTES: u64 = 1536 * 1024 * 1024;
/// How long a child may go on without any processor time: on a busy machine its bound of that may be minutes away, and the more
/// others compute, the longer.
const MAX_CHILD_STALL: Duration = Duration::from_secs(120);
/// How long it may take at all.
const MAX_CHILD_WALL: Duration = Duration::from_secs(600);
/// How often it is looked whether it comes on.
const LOOK: Duration = Duration::from_secs(1);
/// Machine code of the largest admitted component.
const MAX_ARTIFACT_BYTES: u64 = 256 * 1024 * 1024;
/// What is kept of a child's complaint.
const MAX_COMPLAINT_BYTES: u64 = 4096;

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("the component does not compile: {0}")]
    Refused(String),
    #[error("compiling took more than {MAX_CHILD_CPU_SECONDS} seconds of processor time; make the plugin smaller")]
    Cpu,
    #[error(
        "compiling got no processor time for {} seconds, or took more than {} in all; try again when the machine is less busy",
        MAX_CHILD_STALL.as_secs(),
        MAX_CHILD_WALL.as_secs()
    )]
    Wall,
    #[error("the compiling process ended with {0}; it may have passed its memory limit of 1.5 GiB")]
    Died(String),
    #[error("the compiling process `{command}` could not be run")]
    Child { command: PathBuf, source: std::io::Error },
}

/// Machine code that this process may load: only compiling and a verified MAC make one.
pub(crate) struct Artifact(Vec<u8>);

impl Artifact {
    /// Take bytes whose MAC was verified.
    pub(crate) fn verified(bytes: Vec<u8>) -> Artifact {
        Artifact(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Make the code runnable.
    pub(crate) fn load(&self, engine: &Engine) -> wasmtime::Result<wasmtime::component::Component> {
        // SAFETY: `deserialize` runs what it is given. These bytes are the output of `Engine::precompile_component` for
        // this very process's settings, because an `Artifact` is made in two places only: (1) `compile` below, from this
        // process's own compiler, whose code `CompiledCode` keeps in memory that nobody else sees, or from the child that
        // it started itself, over a pipe that nobody else holds; (2)
        // `Cache::load`, after the HMAC-SHA256 of exactly this buffer was verified with the host's key, which is kept
        // outside the cache directory and made over (1) alone. The buffer is private and cannot change in between. Code
        // of another wasmtime version or other settings is refused by `deserialize` itself.
        #[allow(unsafe_code, reason = "the one place that loads compiled code; see the proof above")]
        unsafe {
            wasmtime::component::Component::deserialize(engine, &self.0)
        }
    }
}

/// Compile a component for an engine of the given metering.
pub(crate) fn compile(
    mode: &CompileMode,
    engine: &Engine,
    metering: Metering,
    component: &[u8],
) -> Result<Artifact, CompileError> {
    match mode {
        CompileMode::InProcess => compile_here(engine, component),
        CompileMode::Shared(code) => code.code(engine, component),
        CompileMode::Child { command, args } => {
            let failed = |source| CompileError::Child { command: command.clone(), source };
            let child = Command::new(command)
                .args(args)
                .env_clear()
                .current_dir("/")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(failed)?;
            attend(child, metering, component, failed).map(Artifact)
        }
    }
}

fn compile_here(engine: &Engine, component: &[u8]) -> Result<Artifact, CompileError> {
    let compiled = engine.precompile_component(component);
    compiled.map(Artifact).map_err(|error| CompileError::Refused(format!("{error:#}")))
}

/// Whether a child comes on.
struct Watch {
    began: Instant,
    /// When it was last seen to have taken more processor time than before.
    moved_at: Instant,
    used: Option<u64>,
}

impl Watch {
    fn begin(now: Instant) -> Watch {
        Watch { began: now, moved_at: now, used: None }
    }

    /// Whether it is waited for any longer, now that it has taken so much processor time; `None` where the system does not tell.
    fn goes_on(&mut self, used: Option<u64>, now: Instant) -> bool {
        if used > self.used {
            (self.used, self.moved_at) = (used, now);
        }
        now.duration_since(self.moved_at) < MAX_CHILD_STALL && now.duration_since(self.began) < MAX_CHILD_WALL
    }
}

/// What a process has taken of the processor, in the system's ticks.
fn processor_ticks(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program stands in parentheses and may hold anything; what comes behind it are numbers.
    let (_, numbers) = status.rsplit_once(')')?;
    let mut times = numbers.split_ascii_whitespace().skip(11).map(|number| number.parse::<u64>().ok());
    Some(times.next()?? + times.next()??)
}

/// Feed the child, collect what it writes, and end it when it takes too long.
fn attend(
    mut child: Child,
    metering: Metering,
    component: &[u8],
    failed: impl Fn(std::io::Error) -> CompileError,
) -> Result<Vec<u8>, CompileError> {
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        unreachable!("all three were asked to be pipes");
    };
    let (header, process) = ([u8::from(metering == Metering::On)], child.id());
    let (done, finished) = channel();
    let collected = std::thread::scope(|scope| {
        // A child that ends early closes its input; its own message tells why.
        scope.spawn(move || stdin.write_all(&header).and_then(|()| stdin.write_all(component)));
        let complaint = scope.spawn(move || read_at_most(stderr, MAX_COMPLAINT_BYTES));
        scope.spawn(move || drop(done.send(read_at_most(stdout, MAX_ARTIFACT_BYTES))));
        let mut watch = Watch::begin(Instant::now());
        let collected = loop {
            match finished.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) if watch.goes_on(processor_ticks(process), Instant::now()) => {}
                ended => break ended,
            }
        };
        if collected.is_err() {
            drop(child.kill());
        }
        let status = child.wait();
        let complaint = complaint.join().unwrap_or_default();
        (collected, status, without_advice(&String::from_utf8_lossy(&complaint)))
    });
    match collected {
        (Err(_), ..) => Err(CompileError::Wall),
        (_, Err(error), _) => Err(failed(error)),
        (Ok(artifact), Ok(status), _) if status.success() => Ok(artifact),
        (_, Ok(status), complaint) => Err(how_it_ended(status, complaint)),
    }
}

/// A complaint without what a panic says to whoever can start the program again.
fn without_advice(complaint: &str) -> String {
    let lines = complaint.lines().filter(|line| !line.contains("RUST_BACKTRACE") && !line.starts_with("thread '"));
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

fn how_it_ended(status: std::process::ExitStatus, complaint: String) -> CompileError {
    use std::os::unix::process::ExitStatusExt;
    let is = |signal: rustix::process::Signal| status.signal() == Some(signal.as_raw());
    if status.code() == Some(1) && !complaint.is_empty() {
        CompileError::Refused(complaint)
    } else if is(rustix::process::Signal::XCPU) || is(rustix::process::Signal::KILL) {
        CompileError::Cpu
    } else {
        CompileError::Died(format!("{status} {complaint}").trim().to_owned())
    }
}

fn read_at_most(from: impl Read, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What was read before an error is all there is; the exit status tells whether it counts.
    drop(from.take(limit).read_to_end(&mut bytes));
    bytes
}

/// The compiling child: reads one byte (whether to meter) and a component from the standard input, and writes the machine
/// code to the standard output. Gives up its rights and sets its own limits first. For a hidden subcommand of the `kith` binary.
pub fn compile_child_main(priority: ChildPriority) -> ExitCode {
    match compile_child(priority) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            drop(std::io::stderr().write_all(message.as_bytes()));
            ExitCode::from(1)
        }
    }
}

/// How much a server's compiling yields to all other work (a nice value): about a third of what an equal has, so that senders are
/// answered before, and whoever uploads what mends something is not kept waiting for minutes.
#[cfg(target_os = "linux")]
const YIELDS: i32 = 5;

/// Where the system refuses a lower priority, compiling goes on at the usual one.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, YIELDS);
}

fn compile_child(priority: ChildPriority) -> Result<(), String> {
    let limits = [
        (Resource::Cpu, MAX_CHILD_CPU_SECONDS),
        (Resource::As, MAX_CHILD_ADDRESS_BYTES),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        // What is open stays open; nothing more can be, on systems too for which `confine` knows no filter.
        (Resource::Nofile, 0),
    ];
    for (resource, limit) in limits {
        // The hard limit of processor time is a second later: the soft one's signal tells the parent what happened.
        let hard = if resource == Resource::Cpu { limit + 1 } else { limit };
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(hard) })
            .map_err(|error| format!("the limit {resource:?} cannot be set: {error}"))?;
    }
    if priority == ChildPriority::Yielding {
        yield_to_others();
    }
    // From here on the component decides what happens, and a mistake of the compiler's may be its to use.
    confine()?;
    let mut input = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut input)
        .map_err(|error| format!("the component cannot be read: {error}"))?;
    let (header, component) = input.split_first().ok_or("there is no input")?;
    let metering = if *header == 1 { Metering::On } else { Metering::Off };
    let artifact = engine(metering)
        .and_then(|engine| engine.precompile_component(component))
        .map_err(|error| format!("{error:#}"))?;
    std::io::stdout().lock().write_all(&artifact).map_err(|error| format!("the code cannot be written: {error}"))
}

/// Names a compilation: the component, the wasmtime version and every setting that the code depends on.
pub(crate) fn artifact_key(engine: &Engine, component: &[u8]) -> [u8; 32] {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = Sha(Sha256::new());
    hasher.0.update(Sha256::digest(component));
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plugin was refused on a busy machine after two minutes, though its compiler was at work.
    #[test]
    fn a_child_is_waited_for_while_it_comes_on_and_for_so_long_in_all() {
        let began = Instant::now();
        let after = |seconds: u64| began + Duration::from_secs(seconds);
        let mut watch = Watch::begin(began);
        for second in (0..600).step_by(100) {
            assert!(watch.goes_on(Some(second), after(second)), "a tick in each hundred seconds");
        }
        assert!(!watch.goes_on(Some(601), after(600)), "it has an end");
        let mut stalled = Watch::begin(began);
        assert!(stalled.goes_on(Some(7), after(100)) && stalled.goes_on(Some(7), after(219)));
        assert!(!stalled.goes_on(Some(7), after(220)));
        let mut untold = Watch::begin(began);
        assert!(untold.goes_on(None, after(119)) && !untold.goes_on(None, after(120)));
    }

    #[test]
    fn how_a_child_ended_tells_what_it_passed() {
        use std::os::unix::process::ExitStatusExt;

        use rustix::process::Signal;
        let ended = |raw, complaint: &str| how_it_ended(std::process::ExitStatus::from_raw(raw), complaint.to_owned());
        for signal in [Signal::XCPU, Signal::KILL] {
            assert!(matches!(ended(signal.as_raw(), ""), CompileError::Cpu));
        }
        let out_of_memory = ended(Signal::ABORT.as_raw(), "memory allocation of 8 bytes failed");
        assert!(matches!(&out_of_memory, CompileError::Died(why) if why.ends_with("8 bytes failed")));
        assert!(out_of_memory.to_string().contains("its memory limit of 1.5 GiB"), "{out_of_memory}");
        // A code stands above the signal.
        assert!(matches!(ended(1 << 8, "it is malformed"), CompileError::Refused(why) if why == "it is malformed"));
    }

    #[test]
    fn a_process_is_seen_to_come_on() {
        let ticks = || processor_ticks(std::process::id());
        if let Some(before) = ticks() {
            let began = Instant::now();
            while ticks() <= Some(before) {
                assert!(began.elapsed() < Duration::from_secs(60), "it has computed all the time");
            }
        }
        assert_eq!(processor_ticks(u32::MAX), None);
    }

    #[test]
    fn a_complaint_gives_no_advice_to_whoever_cannot_start_the_program() {
        let panic = "thread 'main' panicked at a.rs:1:1:\nout of memory\nnote: run with `RUST_BACKTRACE=1` environment variable";
        assert_eq!(without_advice(panic), "out of memory");
        assert_eq!(without_advice("the component is bad\n"), "the component is bad");
    }
}
