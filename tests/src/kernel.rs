//! A server in this process: the real one, over a folder of its own, under a clock that the test sets.

use std::path::Path;
use std::sync::{Arc, LazyLock, mpsc};

use kith::config::Config;
use kith::serve::{self, ServeError};
use kith_host::{CompileMode, CompiledCode};
use kith_model::time::ManualClock;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::neighbour::Neighbour;
use crate::{ADMIN_KEY, Answer, Client, component, encode, newest_component, wait_for, wait_until};

/// When every test begins.
const BEGIN: &str = "2026-11-21T10:00:00Z";

/// Threads of the runtime that serves requests.
const SERVING_THREADS: usize = 2;

/// What the servers of all tests have compiled.
static COMPILED: LazyLock<CompiledCode> = LazyLock::new(CompiledCode::default);

/// Keeps the threads that serve requests busy until it is dropped.
pub struct Occupied {
    _release: Vec<mpsc::Sender<()>>,
}

/// A server under test.
pub struct TestKernel {
    pub clock: ManualClock,
    folder: TempDir,
    adjust: Box<dyn Fn(&mut Config) + Send + Sync>,
    /// Present while it runs.
    running: Option<Running>,
    /// Another tenant at work in every story.
    neighbour: Arc<Neighbour>,
}

struct Running {
    url: String,
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl TestKernel {
    /// A server with a fresh data directory.
    pub fn start() -> TestKernel {
        TestKernel::start_with(|_| {})
    }

    /// The same with settings of the test's own.
    pub fn start_with(adjust: impl Fn(&mut Config) + Send + Sync + 'static) -> TestKernel {
        let mut kernel = TestKernel {
            clock: ManualClock::new(BEGIN.parse().unwrap()),
            folder: tempfile::tempdir().unwrap(),
            adjust: Box::new(adjust),
            running: None,
            neighbour: Arc::default(),
        };
        kernel.open();
        kernel.neighbour.arrive(kernel.url());
        kernel
    }

    fn config(&self) -> Config {
        let mut config = Config {
            admin_key: Some(ADMIN_KEY.into()),
            clock: Arc::new(self.clock.clone()),
            // The receivers of webhooks are here, without TLS.
            allow_loopback: true,
            allow_plain_http: true,
            compile: CompileMode::Shared(COMPILED.clone()),
            ..Config::new(self.folder.path())
        };
        (self.adjust)(&mut config);
        config
    }

    fn open(&mut self) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(SERVING_THREADS).enable_all().build().unwrap();
        let server = serve::open(self.config()).unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopping) = oneshot::channel();
        let serving = runtime.spawn(server.run(listener, async { drop(stopping.await) }));
        self.running = Some(Running { url, runtime, stop, serving });
    }

    /// Stop as `kith serve` does on SIGTERM: what is under way is finished.
    fn close(&mut self) {
        let Some(Running { runtime, stop, serving, .. }) = self.running.take() else { return };
        // Nobody listens only where the server ended by itself; its result says why.
        stop.send(()).ok();
        runtime.block_on(serving).unwrap().unwrap();
    }

    /// Stop and start again on the same data directory.
    pub fn restart(&mut self) {
        self.close();
        self.open();
        self.neighbour.work(self.url());
    }

    /// Keep every thread that serves requests busy, as handlers do that compute; nobody is answered meanwhile.
    pub fn occupy(&self) -> Occupied {
        let runtime = &self.running.as_ref().expect("the server runs").runtime;
        let (began, beginning) = mpsc::channel();
        let keep_busy = |_| {
            let (release, released) = mpsc::channel::<()>();
            let began = began.clone();
            runtime.spawn(async move {
                began.send(()).ok();
                // An error is the release: the other end was dropped.
                released.recv().ok();
            });
            release
        };
        let _release = (0..SERVING_THREADS).map(keep_busy).collect();
        (0..SERVING_THREADS).for_each(|_| beginning.recv().unwrap());
        Occupied { _release }
    }

    /// The data directory.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        &self.running.as_ref().expect("the server runs").url
    }

    /// The tenant beside the story, which works at each start and whenever the story waits for what is computed.
    pub fn neighbour(&self) -> &Arc<Neighbour> {
        &self.neighbour
    }

    /// A caller with the admin key.
    pub fn admin(&self) -> Client {
        Client::new(self.url(), Some(ADMIN_KEY))
    }

    /// A caller with another key.
    pub fn caller(&self, key: &str) -> Client {
        Client::new(self.url(), Some(key))
    }

    /// A key with these scopes, made through the API.
    pub fn key(&self, scopes: &[&str]) -> String {
        let made = self.admin().post("/api/v1/keys", &json!({ "title": "test", "scopes": scopes })).is(201);
        made["key"].as_str().unwrap().to_owned()
    }

    /// A second workspace, made through the API; its first key, which may do everything in it.
    pub fn second_workspace(&self) -> String {
        self.workspace("other")["key"].as_str().unwrap().to_owned()
    }

    /// Another workspace, with its first key as `key`.
    #[track_caller]
    pub fn workspace(&self, name: &str) -> Value {
        self.admin().post("/api/v1/workspaces", &json!({ "name": name, "time_zone": "UTC" })).is(201)
    }

    /// Upload a built plugin with a caller of any workspace.
    #[track_caller]
    pub fn upload(&self, caller: &Client, plugin: &str) {
        let answer = caller.send("POST", "/api/v1/plugins", &[], component(plugin).component.clone());
        assert!(matches!(answer.status, 200 | 201), "{plugin}: {}", answer.text());
    }

    /// Upload the newest built version of a plugin, for an upgrade; the version.
    #[track_caller]
    pub fn upload_newest(&self, plugin: &str) -> String {
        let built = newest_component(plugin);
        let answer = self.admin().send("POST", "/api/v1/plugins", &[], built.component.clone());
        assert!(matches!(answer.status, 200 | 201), "{plugin}: {}", answer.text());
        built.manifest.version.to_string()
    }

    /// Upload and install a plugin in the first workspace; `body` is the installation's, without the plugin.
    #[track_caller]
    pub fn install(&self, plugin: &str, body: Value) -> Value {
        self.install_as(&self.admin(), plugin, body)
    }

    /// The same with a caller of any workspace.
    #[track_caller]
    pub fn install_as(&self, caller: &Client, plugin: &str, mut body: Value) -> Value {
        self.upload(caller, plugin);
        body["plugin"] = json!(plugin);
        caller.post("/api/v1/installations", &body).is(201)
    }

    /// Install the `segment` connector; its sender.
    #[track_caller]
    pub fn segment(&self) -> Source {
        let installed = self.install("kith/segment", json!({ "grants": { "consent": "give" } }));
        self.source(&installed)
    }

    /// The sender of an installed connector.
    pub fn source(&self, installed: &Value) -> Source {
        let write_key = installed["write_key"].as_str().unwrap().to_owned();
        Source { client: Client::with_write_key(self.url(), &write_key), write_key }
    }

    /// Wait until features, tags, scores and audiences are computed for all that was sent.
    #[track_caller]
    pub fn settle(&self) {
        self.neighbour.work(self.url());
        settle(&self.admin());
    }

    /// A person, if there is one of this identifier, e.g. `user_id:ada`.
    #[track_caller]
    pub fn find(&self, identifier: &str) -> Option<Value> {
        let answer = self.admin().get(&format!("/api/v1/profiles?identifier={}", encode(identifier)));
        if answer.status == 404 { None } else { Some(answer.is(200)) }
    }

    /// A person who is there.
    #[track_caller]
    pub fn profile(&self, identifier: &str) -> Value {
        self.find(identifier).unwrap_or_else(|| panic!("nobody is `{identifier}`"))
    }

    /// All events of a person, newest first.
    #[track_caller]
    pub fn events(&self, identifier: &str) -> Vec<Value> {
        let id = self.profile(identifier)["id"].as_str().unwrap().to_owned();
        pages(&self.admin(), &format!("/api/v1/profiles/{id}/events"), 500)
    }

    /// How many people meet a condition.
    #[track_caller]
    pub fn count(&self, condition: &str) -> u64 {
        // A pass of the reactor that ends while people are read makes the count inexact.
        wait_for("the count is exact", || {
            let body = self.admin().post("/api/v1/audiences/count", &json!({ "condition": condition })).is(200);
            (body["exact"] == true).then(|| body["count"].as_u64().unwrap())
        })
    }

    /// Fit an installation and wait for the end; the fit.
    #[track_caller]
    pub fn fit(&self, installation: &str) -> Value {
        let admin = self.admin();
        let begun = admin.post(&format!("/api/v1/installations/{installation}/fit"), &json!({})).is(202);
        let fit = self.ended(installation, &begun);
        assert_eq!(fit["status"], "succeeded", "{fit}");
        fit
    }

    /// A fit that was begun, once it has ended.
    #[track_caller]
    fn ended(&self, installation: &str, begun: &Value) -> Value {
        let admin = self.admin();
        wait_for("the fit ends", || {
            let fits = admin.get(&format!("/api/v1/installations/{installation}/fits")).is(200);
            let fits = fits["items"].as_array().unwrap().clone();
            fits.into_iter().find(|fit| fit["version"] == begun["version"] && fit["status"] != "running")
        })
    }
}

impl Drop for TestKernel {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test's own failure is the one to see, not a second one from here.
            return;
        }
        if let Some(running) = &self.running {
            self.neighbour.check(&running.url);
        }
        self.close();
    }
}

/// Wait until a server has computed everything for all that it was sent.
#[track_caller]
pub fn settle(admin: &Client) {
    wait_until("everything is computed", || {
        let ready = admin.get("/readyz").json();
        let audiences = || admin.get("/api/v1/audiences").is(200);
        let is_computed = |audience: &Value| audience["size"].is_u64();
        ready["behind"] == 0
            && ready["backlog"] == 0
            && audiences()["items"].as_array().unwrap().iter().all(is_computed)
    });
}

/// All items of a list, page by page.
#[track_caller]
pub fn pages(caller: &Client, path: &str, limit: usize) -> Vec<Value> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = caller.get(&format!("{path}?limit={limit}{cursor}")).is(200);
        items.extend_from_slice(page["items"].as_array().unwrap());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={}", encode(next)),
            None => return items,
        }
    }
}

/// Somebody who sends to a source.
pub struct Source {
    pub client: Client,
    pub write_key: String,
}

impl Source {
    /// Send messages as one batch, which must be taken; the counts. Like the official clients it comes back when it is told
    /// that too much is waiting.
    #[track_caller]
    pub fn batch(&self, messages: &[Value]) -> Value {
        let body = json!({ "batch": messages });
        let send = || {
            let answer: Answer = self.client.post("/v1/batch", &body);
            (answer.status != 429).then_some(answer)
        };
        wait_for("the batch is taken", send).is(200)
    }
}
