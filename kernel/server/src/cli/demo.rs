//! `kith demo`: the whole way once, on real data: plugins built from source, a server in this process, and everything
//! else over its HTTP API.

mod checkout;
mod load;
mod receiver;
mod report;
mod series;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use kith::config::Config;
use kith::plugin_build::{self, BuiltPlugin, Toolchain};
use kith_host::ChildPriority;
use kith_model::time::{Clock, SystemClock, Timestamp};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::args::{DemoArgs, LogFormat};
use super::client::Client;
use super::output::AnswerFormat;
use super::plugin::BuildStep;
use super::serve::{self, StopSignals, server_failure};
use super::{Failure, output, print_json};
use checkout::Checkout;
use load::{Demo, Histories, Hook};
use receiver::Receiver;
use report::Report;
use series::{Layout, Series};

/// Where the demo listens unless told; another port where this one is taken.
const ADDRESS: &str = "127.0.0.1:7700";

/// The exit code of a program that a signal ended, as shells count.
const INTERRUPTED: i32 = 130;

pub(crate) fn run(args: DemoArgs, format: AnswerFormat) -> Result<(), Failure> {
    let begun = Instant::now();
    serve::start_log("warn", LogFormat::Text)?;
    let checkout = Checkout::find()?;
    let folder = Folder::choose(args.data.as_deref())?;
    let mut report = Report::default();
    let built = build(&checkout, &args, format, &mut report)?;
    let runtime = serve::runtime()?;
    let signals = || runtime.block_on(async { StopSignals::listen() });
    let interrupted = runtime.spawn(end_at_once(signals()?, folder.leftover()));
    let running = runtime.block_on(Running::start(folder.path(), args.listen))?;
    let receiver =
        runtime.block_on(Receiver::start(&running.secret)).map_err(server_failure("starting the receiver"))?;
    let now = SystemClock.now();
    let mut demo = Demo {
        client: Client::new(&running.url, Some(&running.key)),
        report,
        series: series(&checkout, now)?,
        hook: Hook { address: receiver.address, secret: &running.secret },
        format,
    };
    let done = steps(&mut demo, &built, &receiver, now);
    interrupted.abort();
    let shown = match done {
        Ok(()) if format.is_json() => print_json(&demo.report.json(begun.elapsed())),
        Ok(()) => output::say(format_args!("\n{}\n", demo.report.table(begun.elapsed()))),
        Err(_) => Ok(()),
    };
    if done.is_ok() && !args.once {
        let stop = signals()?;
        eprintln!("{}", three_commands(&running, folder.path()));
        runtime.block_on(stop.first());
    }
    // What went wrong first is what is told.
    let stopped = running.stop(&runtime);
    done.and(stopped).and(shown)
}

/// All that the demo does to the server, in order.
fn steps(demo: &mut Demo<'_>, built: &[BuiltPlugin], receiver: &Receiver, now: Timestamp) -> Result<(), Failure> {
    let write_key = demo.install(built)?;
    demo.load()?;
    demo.identify(&write_key, now)?;
    demo.fit()?;
    demo.wait_for("tags and scores")?;
    demo.define_audiences()?;
    let workspace = demo.wait_for("audiences and messages")?;
    demo.sum_up(&workspace, receiver)
}

/// Build the six plugins with one run of cargo.
fn build(
    checkout: &Checkout,
    args: &DemoArgs,
    format: AnswerFormat,
    report: &mut Report,
) -> Result<Vec<BuiltPlugin>, Failure> {
    let mut shown = BuildStep::begin("building six plugins", format);
    let toolchain = Toolchain::from(&args.tools);
    let built = plugin_build::build_all(&checkout.plugin_crates(), None, &toolchain, &mut shown)?;
    let names: Vec<&str> = built.iter().map(|plugin| plugin.manifest.id.name()).collect();
    let took = shown.end(&names.join(", "));
    report.step("plugins built", built.len() as u64, took, names.join(", "));
    Ok(built)
}

fn series(checkout: &Checkout, now: Timestamp) -> Result<Histories, Failure> {
    Ok(Histories {
        clickstream: Series::open(checkout.data("ecom.csv.gz"), Layout::Clickstream, now)?,
        orders: Series::open(checkout.data("CDNOW_sample.txt"), Layout::Orders, now)?,
    })
}

/// Where the demo's data lies. A temporary folder is removed at the end.
struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    fn choose(wanted: Option<&Path>) -> Result<Folder, Failure> {
        let Some(path) = wanted else {
            let path = std::env::temp_dir().join(format!("kith-demo-{}", std::process::id()));
            return Ok(Folder { path, temporary: true });
        };
        let is_used = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        if is_used {
            return Err(Failure::Usage(format!(
                "the demo needs a fresh folder, and {} is not empty; name another one, or use `kith serve --data {0}`",
                path.display()
            )));
        }
        Ok(Folder { path: path.to_path_buf(), temporary: false })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// What has to be removed when the process ends without dropping this.
    fn leftover(&self) -> Option<PathBuf> {
        self.temporary.then(|| self.path.clone())
    }
}

/// While the steps run, an interrupt ends the process at once: there is nothing to finish, only a folder to remove.
async fn end_at_once(stop: StopSignals, leftover: Option<PathBuf>) {
    stop.first().await;
    if let Some(path) = leftover {
        // Where it cannot be removed the system's temporary files are cleared some day; the process is told to end now.
        std::fs::remove_dir_all(path).ok();
    }
    std::process::exit(INTERRUPTED);
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            eprintln!("could not remove {}: {error}", self.path.display());
        }
    }
}

/// The server in this process.
struct Running {
    url: String,
    /// The admin key.
    key: String,
    /// What the webhook's messages are signed with.
    secret: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), Failure>>,
}

impl Running {
    async fn start(data: &Path, listen: Option<SocketAddr>) -> Result<Running, Failure> {
        let listener = listen_somewhere(listen).await?;
        let address = listener.local_addr().map_err(server_failure("listening"))?;
        let config = Config {
            clock: Arc::new(SystemClock),
            compile: serve::compile_in_child(ChildPriority::Yielding)?,
            // The receiver of the messages is on this machine, without TLS.
            allow_loopback: true,
            allow_plain_http: true,
            ..Config::new(data)
        };
        kith::serve::check_listen(&config, address).map_err(|_| {
            Failure::Usage(format!("{address} is reached from other machines; the demo is for this one alone"))
        })?;
        let server = serve::open(config).await?;
        let key = server
            .first_admin_key()
            .ok_or_else(|| Failure::Failed(format!("{} holds data already", data.display())))?
            .to_owned();
        let secret = receiver::new_secret().map_err(server_failure("making a secret"))?;
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { drop(stopped.await) };
        let serving =
            tokio::spawn(async move { server.run(listener, shutdown).await.map_err(server_failure("serving")) });
        Ok(Running { url: format!("http://{address}"), key, secret, stop, serving })
    }

    /// Finish what is under way and close.
    fn stop(self, runtime: &Runtime) -> Result<(), Failure> {
        // Nobody listens only where the server ended by itself; its own result says why.
        self.stop.send(()).ok();
        runtime.block_on(self.serving).map_err(server_failure("stopping the server"))?
    }
}

async fn listen_somewhere(wanted: Option<SocketAddr>) -> Result<TcpListener, Failure> {
    if let Some(address) = wanted {
        return serve::bind(address).await;
    }
    match TcpListener::bind(ADDRESS).await {
        Ok(listener) => Ok(listener),
        Err(_) => serve::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await,
    }
}

fn three_commands(running: &Running, data: &Path) -> String {
    let program = std::env::current_exe().map_or_else(|_| "kith".to_owned(), |path| path.display().to_string());
    let first = load::AUDIENCES[0].name;
    let newline = "\n  ";
    format!(
        "Still serving on {url}, data in {data}. In another terminal:\n\
         {newline}export KITH_URL={url} KITH_KEY={key}\
         {newline}{program} profile get user_id:user_0000\
         {newline}{program} audience members {first} --limit 5\
         {newline}{program} audience count \"events('Order Completed', '90d').size() >= 2 && scores.p_alive > 0.5\"\n\n\
         Ctrl-C ends it.",
        url = running.url,
        key = running.key,
        data = data.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_folder_is_refused_and_a_temporary_one_removed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Folder::choose(Some(folder.path())).is_ok());
        std::fs::write(folder.path().join("x"), "").unwrap();
        let Err(refused) = Folder::choose(Some(folder.path())) else { panic!("it was taken") };
        assert_eq!(refused.exit_code(), 2);
        let temporary = Folder::choose(None).unwrap();
        let path = temporary.path().to_path_buf();
        std::fs::create_dir_all(&path).unwrap();
        drop(temporary);
        assert!(!path.exists());
    }
}
