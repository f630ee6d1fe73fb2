//! Every budget of the table, used up on purpose: by callers, by expressions, by plugins, by what a workspace keeps. Each
//! attack insists on the answer that whoever passes the budget gets; the walk insists that the refusal was counted under the
//! budget's name, by a server of its own.

mod callers;
mod calls;
mod expressions;
mod kept;
mod lists;
mod plugins;
mod requests;
mod state;
mod waits;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use kith_model::budget::table;
use kith_tests::{ADMIN_KEY, Answer, Client, Neighbour, Process, Receiver, TestKernel, root, wait_for, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A budget's name, and what uses it up.
type Attack = (&'static str, fn(&Ground));

/// All attacks, by the servers that they need.
const GROUPS: &[&[Attack]] = &[
    callers::CONNECTED,
    callers::KNOWN,
    callers::PROCESS,
    callers::SOURCE,
    callers::PROXIED,
    calls::ATTACKS,
    expressions::ATTACKS,
    kept::ATTACKS,
    lists::ATTACKS,
    plugins::ATTACKS,
    requests::ATTACKS,
    requests::SLOW,
    requests::LONG,
    state::ATTACKS,
    waits::MEMORY,
    waits::CALLS,
    waits::PLACES,
];

/// Budgets that no test of the whole product can reach in time, and the unit tests that use them up where they are enforced:
/// a minute of work at one question, hundreds of MiB that wait, hundreds of plugins.
const SHOWN_BY_UNIT_TESTS: &[(&str, &str, &str)] = &[
    ("request-processor", "kernel/server/src/processor.rs", "who_would_begin_too_late_is_refused"),
    ("question-time", "kernel/pipeline/src/turns.rs", "one_question_at_a_time_and_none_waits_for_ever"),
    ("guest-input-waiting", "kernel/pipeline/src/guests/tests.rs", "inputs_that_wait_have_a_budget_each_and_together"),
    (
        "host-guest-input-waiting",
        "kernel/pipeline/src/guests/tests.rs",
        "inputs_that_wait_have_a_budget_each_and_together",
    ),
    ("guest-handles", "kernel/host/src/hostile_tests.rs", "a_flood_of_handles_is_stopped"),
    ("guest-requests", "kernel/pipeline/src/intake/gather/tests.rs", "a_call_is_bounded_in_requests_and_in_bytes"),
    ("guest-requests-size", "kernel/pipeline/src/intake/gather/tests.rs", "a_call_is_bounded_in_requests_and_in_bytes"),
    ("shadow-calls", "kernel/pipeline/src/tests/shadows.rs", "what_has_no_room_is_skipped_and_counted"),
    ("shadow-memory", "kernel/pipeline/src/shadow/tests.rs", "a_place_is_given_within_the_budgets_and_comes_back"),
    ("shadow-input", "kernel/pipeline/src/shadow/tests.rs", "a_place_is_given_within_the_budgets_and_comes_back"),
    ("guest-events", "kernel/host/src/imports/emitting.rs", "a_call_emits_so_many_events_and_so_many_bytes"),
    ("guest-event-bytes", "kernel/host/src/imports/emitting.rs", "a_call_emits_so_many_events_and_so_many_bytes"),
    ("person-events", "kernel/pipeline/src/tests/emits.rs", "what_a_models_own_events_set_off_comes_to_an_end"),
    ("plugin-requests", "kernel/host/src/egress/tests.rs", "an_installation_sends_so_many_requests_in_a_minute"),
    ("mail-size", "kernel/host/src/egress/mail/tests.rs", "a_mail_has_so_many_bytes_with_everything_and_no_more"),
    ("poll-pages", "kernel/pipeline/src/tests/polls.rs", "a_turn_ends_after_so_many_pages_and_another_goes_on"),
    (
        "poll-requests",
        "kernel/pipeline/src/tests/polls.rs",
        "a_page_that_asks_for_too_many_requests_is_a_fault_of_its_plugin",
    ),
    (
        "poll-requests-at-once",
        "kernel/pipeline/src/tests/polls.rs",
        "a_page_for_whose_requests_there_is_no_place_is_put_off",
    ),
    ("poll-answers", "kernel/pipeline/src/poll/memory.rs", "answers_are_handed_over_up_to_the_budget_of_a_round"),
    ("poll-interval", "kernel/model/src/polling.rs", "a_time_between_polls_has_a_least_and_a_most"),
    ("source-waiting", "kernel/pipeline/src/accept/queue.rs", "a_refusal_names_the_budget_that_ended"),
    ("workspace-waiting", "kernel/pipeline/src/accept/queue.rs", "a_refusal_names_the_budget_that_ended"),
    ("host-waiting", "kernel/pipeline/src/accept/queue.rs", "a_refusal_names_the_budget_that_ended"),
    (
        "names-kept",
        "kernel/pipeline/src/react/seen/tests.rs",
        "a_workspace_keeps_so_many_names_and_counts_the_others_together",
    ),
    ("fits-kept", "kernel/server/src/fitting/kept.rs", "so_many_fits_are_kept_and_the_one_in_use"),
    (
        "plugins-kept",
        "kernel/server/src/api/plugins/uploaded.rs",
        "a_workspace_keeps_so_many_plugins_and_so_many_bytes",
    ),
    (
        "plugin-bytes-kept",
        "kernel/server/src/api/plugins/uploaded.rs",
        "a_workspace_keeps_so_many_plugins_and_so_many_bytes",
    ),
];

#[test]
fn every_budget_of_the_table_is_used_up_by_some_test() {
    let attacks: Vec<&str> = GROUPS.iter().flat_map(|group| group.iter().map(|(budget, _)| *budget)).collect();
    let by_unit_tests = SHOWN_BY_UNIT_TESTS.iter().map(|(budget, ..)| *budget);
    let shown: BTreeSet<&str> = attacks.iter().copied().chain(by_unit_tests).collect();
    assert_eq!(shown.len(), attacks.len() + SHOWN_BY_UNIT_TESTS.len(), "each once");
    for budget in table::ALL {
        assert!(shown.contains(budget.name), "no attack for budget {}", budget.name);
    }
    assert_eq!(shown.len(), table::ALL.len(), "none that is not in the table");
    for (budget, file, test) in SHOWN_BY_UNIT_TESTS {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let marked = [format!("#[test]\nfn {test}("), format!("#[test]\n    fn {test}(")];
        assert!(marked.iter().any(|marked| text.contains(marked)), "{budget}: {file} has no test {test}");
    }
}

/// Use each budget up, one after the other. After each the neighbour's work is taken, at the latest in the end.
fn walk(ground: &Ground, attacks: &[Attack]) {
    for (budget, attack) in attacks {
        let before = ground.refusals(budget);
        attack(ground);
        wait_until(&format!("a refusal is counted for {budget}"), || ground.refusals(budget) > before);
        ground.neighbour.work(&ground.url);
    }
}

/// A server of its own, and what the attacks on it share.
struct Ground {
    url: String,
    admin: Client,
    /// Reads the figures: a key that no attack spends anything of.
    watcher: Client,
    receiver: Receiver,
    neighbour: Arc<Neighbour>,
    _server: Server,
}

#[allow(dead_code, reason = "it is held until the end of the test")]
enum Server {
    Process(Process, TempDir),
    Kernel(TestKernel),
}

impl Ground {
    /// A process that is started with these flags.
    fn of_process(flags: &[&str]) -> Ground {
        let folder = tempfile::tempdir().unwrap();
        let flags = [&["--allow-loopback", "--allow-plain-http"], flags].concat();
        // Of the plugin that most attacks are made with.
        let neighbour = Arc::new(Neighbour::through("hostile/connector"));
        let process = Process::serve_beside(&neighbour, folder.path(), &flags);
        Ground::new(process.url().to_owned(), neighbour, Server::Process(process, folder))
    }

    /// A server whose settings are smaller than any flag makes them.
    fn of_kernel(kernel: TestKernel) -> Ground {
        Ground::new(kernel.url().to_owned(), Arc::clone(kernel.neighbour()), Server::Kernel(kernel))
    }

    fn new(url: String, neighbour: Arc<Neighbour>, server: Server) -> Ground {
        let admin = Client::new(&url, Some(ADMIN_KEY));
        let made = admin.post("/api/v1/keys", &json!({ "title": "watcher", "scopes": ["metrics:read"] })).is(201);
        let watcher = Client::new(&url, made["key"].as_str());
        Ground { url, admin, watcher, receiver: Receiver::start(), neighbour, _server: server }
    }

    /// How many refusals the server has counted for a budget.
    fn refusals(&self, budget: &str) -> u64 {
        let begin = format!("kith_budget_exhausted_total{{budget=\"{budget}\"}} ");
        // The attack before may still hold what the server has of connections.
        let figures = wait_for("the figures are shown", || {
            let answer = self.watcher.try_send("GET", "/metrics", &[], Vec::new()).ok()?;
            (answer.status == 200).then(|| answer.text())
        });
        figures.lines().find_map(|line| line.strip_prefix(begin.as_str())).map_or(0, |number| number.parse().unwrap())
    }

    /// Upload and install a built plugin; `body` is the installation's, without the plugin.
    fn install(&self, plugin: &str, mut body: Value) -> Answer {
        let component = kith_tests::component(plugin).component.clone();
        let uploaded = self.admin.send("POST", "/api/v1/plugins", &[], component);
        assert!(matches!(uploaded.status, 200 | 201), "{plugin}: {}", uploaded.text());
        body["plugin"] = json!(plugin);
        self.admin.post("/api/v1/installations", &body)
    }

    /// A sender of the installed source `segment`.
    fn sender(&self) -> Client {
        let made = self.admin.post("/api/v1/keys", &json!({ "title": "sender", "source": "segment" })).is(201);
        Client::with_write_key(&self.url, made["key"].as_str().unwrap())
    }

    /// Install the hostile connector under a name with these limits; what sends to it.
    fn hostile(&self, name: &str, limits: Value) -> impl Fn(&str) -> Answer + use<'_> {
        let grants = json!({ "http": [self.receiver.host()], "limits": limits });
        self.install("hostile/connector", json!({ "name": name, "grants": grants })).is(201);
        let path = format!("/api/v1/sources/{name}/records");
        move |body| self.admin.send("POST", &path, &[], body)
    }

    /// A connection that has sent this and waits.
    fn connection(&self, sent: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.url.trim_start_matches("http://")).unwrap();
        // One that the server has closed already is seen by its end.
        stream.write_all(sent).ok();
        stream
    }

    /// A request of the admin, of which the body is on its way.
    fn upload(&self, path: &str, announced: usize, headers: &str, sent: &[u8]) -> TcpStream {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
             content-type: application/json\r\ncontent-length: {announced}\r\n{headers}\r\n"
        );
        self.connection(&[head.as_bytes(), sent].concat())
    }
}

/// What has come on a connection by now; `None` while nothing has.
fn come(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = [0; 4_096];
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    match stream.read(&mut bytes) {
        Ok(read) => Some(String::from_utf8_lossy(&bytes[..read]).into_owned()),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => None,
        // Its end.
        Err(_) => Some(String::new()),
    }
}

/// Wait for the first of several connections on which something comes.
fn first(streams: &mut [TcpStream]) -> String {
    wait_for("somebody is answered", || streams.iter_mut().find_map(come))
}

/// Insist on the problem document of a budget that ended.
#[track_caller]
fn is_exhausted(answer: &Answer, status: u16, budget: &str) {
    let problem = answer.is_problem(status, "budget-exhausted");
    assert_eq!(problem["budget"], budget, "{problem}");
    assert_eq!(answer.header("retry-after").is_empty(), status != 429, "only what comes back invites again: {problem}");
}

/// The same of an answer as it came over a connection.
#[track_caller]
fn names(answer: &str, status: u16, budget: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(
        answer.contains("\"budget-exhausted\"") && answer.contains(&format!("\"budget\":\"{budget}\"")),
        "{answer}"
    );
}
