//! The `kith` program in a process of its own: for the command line's tests, and for servers that are to be killed.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use crate::neighbour::Neighbour;
use crate::plugins::CARGO;
use crate::{ADMIN_KEY, Client, root, wait_for};

/// The program under test.
///
/// `cargo test` on the workspace has just built it, since its package has a test of its own that runs it. Where only this
/// package is tested it may be missing or older than its source, and is built here.
pub fn kith() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let own = std::env::current_exe().unwrap();
        let profile = own.ancestors().nth(2).expect("a test binary lies in target/PROFILE/deps");
        let program = profile.join(format!("kith{}", std::env::consts::EXE_SUFFIX));
        let sources = ["Cargo.toml", "Cargo.lock"].map(|file| modified(&root().join(file)));
        let newest = sources.into_iter().flatten().chain(newest(&root().join("kernel"))).max();
        let is_current = modified(&program).is_some_and(|built| newest <= Some(built));
        if !is_current {
            let mut build = Command::new(CARGO);
            build.args(["build", "--bin", "kith"]).current_dir(root());
            // What the outer cargo says of this package would make build scripts run again for another.
            let of_package = std::env::vars()
                .filter(|(name, _)| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
            of_package.for_each(|(name, _)| {
                build.env_remove(name);
            });
            if profile.ends_with("release") {
                build.arg("--release");
            }
            assert!(build.status().unwrap().success(), "`kith` does not build");
        }
        program
    });
    &PROGRAM
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}

/// When the newest file below `folder` was changed.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    entries
        .filter_map(|entry| if entry.path().is_dir() { newest(&entry.path()) } else { modified(&entry.path()) })
        .max()
}

/// A running `kith serve`.
pub struct Process {
    child: Killed,
    url: String,
    /// The tenant beside the story, until it is compared or the server is told to stop.
    neighbour: Option<Arc<Neighbour>>,
}

impl Process {
    /// Serve `data` on a free port, unless the arguments name one; returns when it listens.
    pub fn serve(data: &Path, arguments: &[&str]) -> Process {
        let mut command = Command::new(kith());
        command.arg("serve").arg("--data").arg(data);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(["--admin-key", ADMIN_KEY]).args(arguments);
        if !arguments.contains(&"--log") {
            command.args(["--log", "warn"]);
        }
        let mut child = Killed(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
        let lines = BufReader::new(child.0.stdout.take().expect("it was asked for"));
        let listening = lines
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listens on ").map(|(_, url)| url.trim().to_owned()));
        let Some(url) = listening else { panic!("`kith serve` ended with {}", child.0.wait().unwrap()) };
        Process { child, url, neighbour: None }
    }

    /// The same with another tenant at work, as every story of a server in this process has one: it moves in at the first
    /// start, works at each, and is compared before the server is let go or told to [`terminate`](Self::terminate). After a
    /// kill it is the next server that shows what it has.
    pub fn serve_beside(neighbour: &Arc<Neighbour>, data: &Path, arguments: &[&str]) -> Process {
        let mut process = Process::serve(data, arguments);
        neighbour.arrive(&process.url);
        process.neighbour = Some(Arc::clone(neighbour));
        process
    }

    /// A caller with the admin key.
    pub fn admin(&self) -> Client {
        Client::new(&self.url, Some(ADMIN_KEY))
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// SIGKILL: no chance to finish anything.
    pub fn kill(mut self) {
        self.neighbour = None;
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
    }

    /// SIGTERM, and the end of what is under way.
    pub fn terminate(mut self) -> ExitStatus {
        self.compare();
        self.ask_to_stop();
        self.wait()
    }

    /// SIGTERM alone: it may still be waiting for somebody.
    pub fn ask_to_stop(&self) {
        kill_process(Pid::from_child(&self.child.0), Signal::TERM).unwrap();
    }

    /// SIGHUP: to read again what was renewed.
    pub fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child.0), Signal::HUP).unwrap();
    }

    /// Have the tenant beside the story compared, where there is one.
    fn compare(&mut self) {
        if let Some(neighbour) = self.neighbour.take() {
            neighbour.check(&self.url);
        }
    }

    /// Wait until it has ended by itself.
    pub fn wait(mut self) -> ExitStatus {
        self.neighbour = None;
        wait_for("the server ends by itself", || self.child.0.try_wait().unwrap())
    }

    /// The processor time that it has used, its ended threads included, as the system counts it: in steps of 10 ms.
    pub fn processor_time(&self) -> Duration {
        /// `sysconf(_SC_CLK_TCK)`, which is 100 on every Linux that Rust supports.
        const TICK_MS: u64 = 10;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.0.id())).unwrap();
        // The program's name, in parentheses, may hold spaces; fields are counted behind it, from the third.
        let (_, fields) = stat.rsplit_once(')').expect("the name ends");
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * TICK_MS)
    }

    /// The memory that it holds.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The test's own failure is the one to see, not a second one from here.
        if !std::thread::panicking() {
            self.compare();
        }
    }
}

/// A program that is killed at the latest when nobody needs it any more.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Where it has ended there is nothing to kill.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
