//! `kith plugin dev`: whoever writes a plugin sees it run, is told what is wrong with it, and goes on.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use kith_tests::{ADMIN_KEY, TestKernel, kith, root, wait_until};
use serde_json::{Value, json};

/// A program that goes on until it is dropped, and what it has said on standard output and standard error.
struct Watching {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Watching {
    fn start(mut command: Command) -> Watching {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (shown, told) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let both: [Box<dyn Read + Send>; 2] = [Box::new(shown), Box::new(told)];
        for output in both {
            let (lines, kept) = (BufReader::new(output).lines(), Arc::clone(&said));
            std::thread::spawn(move || {
                lines.map_while(Result::ok).for_each(|line| *kept.lock().unwrap() += &(line + "\n"));
            });
        }
        Watching { child, said }
    }

    #[track_caller]
    fn says(&self, what: &str) {
        wait_until(what, || self.said.lock().unwrap().contains(what));
    }
}

/// `kith plugin`, building where the scaffolds of the other tests are built.
fn plugin(kernel: &TestKernel, arguments: &[&str]) -> Command {
    let mut command = Command::new(kith());
    command.args(["--url", kernel.url(), "--key", ADMIN_KEY, "plugin"]).args(arguments);
    command.env("CARGO_TARGET_DIR", root().join("target/scaffolded"));
    command
}

#[track_caller]
fn rewrite(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(file, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_plugin_that_is_being_written_runs_as_it_is() {
    let kernel = TestKernel::start();
    kernel.segment().batch(&[json!({ "type": "identify", "userId": "ada", "messageId": "m1", "traits": {} })]);
    kernel.settle();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("fresh");
    let path = dir.to_str().unwrap();
    let made = plugin(&kernel, &["new", "umbrella/fresh", "--kind", "tag-model", "--dir", path]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // The versions that the repository has, so that nobody is asked for newer ones.
    std::fs::copy(root().join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    let shown = || kernel.admin().get("/api/v1/installations/fresh");

    let once = || -> Value {
        let once = plugin(&kernel, &["dev", path, "--once", "--json"]).output().unwrap();
        assert!(once.status.success(), "{}", String::from_utf8_lossy(&once.stderr));
        serde_json::from_slice(&once.stdout).unwrap()
    };
    assert_eq!(once()["done"], "installed");
    let first = shown().is(200);
    assert_eq!((&first["version"], &first["dev"]), (&json!("0.1.0-dev"), &json!(true)));
    let watching = Watching::start(plugin(&kernel, &["dev", path]));
    watching.says("watching");
    let manifest = dir.join("plugin.toml");
    rewrite(&manifest, "description", "descripton");
    watching.says("plugin.toml:");
    assert_eq!(shown().is(200)["digest"], first["digest"], "what does not build changes nothing");
    rewrite(&manifest, "descripton", "description");
    rewrite(&manifest, "title = \"", "title = \"Very ");
    let asked = "kith_plugin_sdk::log::warn(\"asked about everybody again\");\n        let inputs =";
    rewrite(&dir.join("src/lib.rs"), "let inputs =", asked);
    wait_until("the change runs", || shown().is(200)["digest"] != first["digest"]);
    // The one line of the new bytes, which they log as soon as they are there.
    watching.says("warn  asked about everybody again");
    assert_eq!(shown().is(200)["activity"]["state"], "running");
    drop(watching);

    let again = once();
    assert_eq!((&again["done"], &again["installation"]), (&json!("nothing is new"), &json!("fresh")), "{again}");
    assert_eq!(again["digest"], shown().is(200)["digest"]);
}
