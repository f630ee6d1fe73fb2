//! `kith serve`: the server in this process until it is told to stop; and the hidden child that compiles a plugin.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use kith::config::Config;
use kith::serve::Server;
use kith_host::{ChildPriority, CompileMode, Limits};
use kith_model::time::{Clock, ManualClock, SystemClock};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::args::{LogFormat, ServeArgs};
use super::output::AnswerFormat;
use super::{Failure, output, print_json};

/// The hidden subcommand that compiles one component.
pub(crate) const COMPILE_CHILD: &str = "compile-child";

/// How long a server that has stopped waits for work that nobody waits for any more, such as a compiler's on a busy machine. What was
/// answered is durable before.
const STOP_WAITS: Duration = Duration::from_secs(60);

/// The flag of that which has it leave the processor to others.
const YIELDING: &str = "--yielding";

pub(crate) fn run(args: ServeArgs, format: AnswerFormat) -> Result<(), Failure> {
    // Whatever the server and its engines write is people's data; no other user of the machine reads it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    start_log(&args.log, args.log_format)?;
    let config = config(&args)?;
    kith::serve::check_listen(&config, args.listen).map_err(|error| Failure::Usage(error.to_string()))?;
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let listener = bind(args.listen).await?;
        let server = open(config).await?;
        let stop = StopSignals::listen()?;
        let _hangup = args.exposure.tls().map(|_| listen(SignalKind::hangup())).transpose()?;
        match announce(&args, &listener, server.first_admin_key(), format) {
            // The server is wanted, whether or not somebody reads where it listens.
            Ok(()) | Err(Failure::Unread) => {}
            Err(failure) => return Err(failure),
        }
        server.run(listener, stop.first()).await.map_err(server_failure("serving"))
    });
    runtime.shutdown_timeout(STOP_WAITS);
    ended
}

fn config(args: &ServeArgs) -> Result<Config, Failure> {
    let clock: Arc<dyn Clock> = match args.clock {
        Some(now) => Arc::new(ManualClock::new(now)),
        None => Arc::new(SystemClock),
    };
    let defaults = Config::new(&args.data);
    Ok(Config {
        guest_memory_bytes: args.guest_memory.map_or(defaults.guest_memory_bytes, |mib| mib << 20),
        disk_reserve_bytes: args.disk_reserve << 20,
        source_bytes: args.budgets.source_bytes,
        import_memory_bytes: args.budgets.import_memory,
        plugin_bytes: args.budgets.plugin_bytes,
        memory_bytes: args.memory.map_or(defaults.memory_bytes, |mib| mib << 20),
        engine: args.engine.kind(),
        clock,
        admin_key: args.admin_key.clone(),
        master_keys: args.master_key.keys().map_err(Failure::Usage)?,
        time_zone: args.time_zone.clone(),
        compile: compile_in_child(ChildPriority::Yielding)?,
        signatures: args.signatures,
        no_dev_versions: args.no_dev_versions,
        allow_loopback: args.allow_loopback,
        allow_plain_http: args.allow_plain_http,
        shared_data_directory: args.shared_data_dir,
        http: args.budgets.http(&args.exposure),
        ceiling: Limits {
            messages_at_once: args.messages_per_channel,
            requests_per_host: args.requests_per_host,
            networks: args.allow_network.clone(),
            log_level: args.plugin_log,
            ..Limits::default()
        },
        max_workspaces: args.max_workspaces,
        keep_dead_letters: Duration::from_secs(args.keep_dead_letters * 86_400),
        ..defaults
    })
}

/// Plugins come from strangers, so this program compiles them in a child of its own with limits.
pub(crate) fn compile_in_child(priority: ChildPriority) -> Result<CompileMode, Failure> {
    let command = std::env::current_exe()
        .map_err(|source| Failure::Failed(format!("this program cannot find itself: {source}")))?;
    let yielding = (priority == ChildPriority::Yielding).then_some(YIELDING);
    Ok(CompileMode::Child { command, args: [COMPILE_CHILD].into_iter().chain(yielding).map(OsString::from).collect() })
}

pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(server_failure("starting threads"))
}

pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|source| Failure::Listen { address, source })
}

/// Open the data directory, which takes a while where much is in it.
pub(crate) async fn open(config: Config) -> Result<Server, Failure> {
    let opened = kith_pipeline::offload::run(move || kith::serve::open(config)).await;
    opened.map_err(server_failure("starting the server"))
}

pub(crate) fn server_failure<E: std::error::Error + Send + Sync + 'static>(
    what: &'static str,
) -> impl FnOnce(E) -> Failure {
    move |source| Failure::Server { what, source: Box::new(source) }
}

/// Where it listens, and the first admin key in a frame of its own: it is shown once and kept nowhere.
fn announce(
    args: &ServeArgs,
    listener: &TcpListener,
    first_admin_key: Option<&str>,
    format: AnswerFormat,
) -> Result<(), Failure> {
    let address = listener.local_addr().unwrap_or(args.listen);
    let scheme = if args.exposure.tls().is_some() { "https" } else { "http" };
    if format.is_json() {
        let mut told = json!({ "version": env!("CARGO_PKG_VERSION"), "url": format!("{scheme}://{address}") });
        if let Some(key) = first_admin_key {
            told["admin_key"] = json!(key);
        }
        return print_json(&told);
    }
    if let Some(key) = first_admin_key {
        output::say(format_args!("\nA new data directory was made in {}.", args.data.display()))?;
        output::say("This is its admin key. It is shown this once and kept nowhere; write it down:\n")?;
        output::say(format_args!("    {key}\n"))?;
        output::say(format_args!("Try it:  KITH_URL={scheme}://{address} KITH_KEY={key} kith status\n"))?;
    }
    output::say(format_args!("Kith {} listens on {scheme}://{address}", env!("CARGO_PKG_VERSION")))
}

/// SIGINT and SIGTERM, heard from the moment this exists. Made before anybody is told that the server runs: a supervisor
/// that reads that line and stops the server at once would otherwise end it by the system's own handler, mid-way.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// Begin to listen. To be called inside a runtime.
    pub(crate) fn listen() -> Result<StopSignals, Failure> {
        Ok(StopSignals { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Ends with the first of them, also with one that came since [`StopSignals::listen`].
    pub(crate) async fn first(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        tracing::info!("told to stop");
    }
}

/// Hear a signal, which otherwise ends the process, from now on.
fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(server_failure("listening for signals"))
}

/// Send the process's log to standard error.
pub(crate) fn start_log(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::Usage(format!("--log `{filter}` is no filter: {error}; write e.g. kith=debug,warn"))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|source| Failure::Server { what: "starting the log", source })
}

/// Compile one component from standard input and end the process.
pub(crate) fn compile_child(is_yielding: bool) -> Result<(), Failure> {
    let priority = if is_yielding { ChildPriority::Yielding } else { ChildPriority::Usual };
    if priority == ChildPriority::Yielding {
        kith_pipeline::leave_a_processor_to_others();
    }
    if kith_host::compile_child_main(priority) == ExitCode::SUCCESS {
        return Ok(());
    }
    // The child has said why; its parent reads exactly that, and exit code 1.
    Err(Failure::Said)
}
