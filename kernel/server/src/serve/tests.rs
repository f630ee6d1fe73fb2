//! Servers for tests, and tests of connections.

mod callers;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use kith_model::id::WorkspaceId;
use kith_model::time::{Clock as _, ManualClock, Timestamp};
use kith_store::{OpenError, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::host_key::HostKey;
use super::{KeySource, MasterKeys, ServeError, Server, make_host_key, open, rotate_master_key, start};
use crate::app::App;
use crate::auth::{self, KeyKind, Scope};
use crate::catalogue::draft::host::Act;
use crate::catalogue::sealed::{KeyRing, MasterKey};
use crate::catalogue::{Actor, AuditFilter, CredentialRow, WorkspaceRow, WorkspaceState};
use crate::config::Config;
use crate::error::ApiError;

/// The first admin key of every test server.
pub(crate) const ADMIN_KEY: &str = "test-admin-key-0123456789abcdefgh";

/// A server over a store in memory; the folder holds its components.
pub(crate) struct TestServer {
    pub(crate) server: Server,
    pub(crate) clock: ManualClock,
    _folder: tempfile::TempDir,
}

impl TestServer {
    pub(crate) fn app(&self) -> &Arc<App> {
        self.server.app()
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.server.store.as_ref()
    }

    /// The store, for a catalogue that is opened over it again.
    pub(crate) fn shared_store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.server.store) as Arc<dyn Store>
    }
}

fn config(folder: &tempfile::TempDir, clock: &ManualClock) -> Config {
    Config { admin_key: Some(ADMIN_KEY.into()), clock: Arc::new(clock.clone()), ..Config::new(folder.path()) }
}

/// A server with settings of the test's own.
pub(crate) fn server_with(adjust: impl FnOnce(&mut Config)) -> TestServer {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(Timestamp(1_790_000_000_000));
    let mut config = config(&folder, &clock);
    adjust(&mut config);
    let store = Arc::new(kith_store::memory());
    let server = start(config, store, KeyRing::fixed(), &HostKey::fixed()).unwrap();
    TestServer { server, clock, _folder: folder }
}

pub(crate) fn server() -> TestServer {
    server_with(|_| {})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_key_is_made_once_and_a_weak_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(Timestamp(1_790_000_000_000));
    let weak = Config { admin_key: Some("weak".into()), ..config(&folder, &clock) };
    let opened = start(weak, Arc::new(kith_store::memory()), KeyRing::fixed(), &HostKey::fixed());
    assert!(matches!(opened, Err(ServeError::AdminKey(_))));

    let fresh = Config { admin_key: None, ..config(&folder, &clock) };
    let store = Arc::new(kith_store::memory());
    let first = start(fresh.clone(), Arc::clone(&store), KeyRing::fixed(), &HostKey::fixed()).unwrap();
    let key = first.first_admin_key().unwrap().to_owned();
    assert!(first.app().authenticate(&key).is_ok());
    first.app().kernel.stop();

    let again = start(fresh, store, KeyRing::fixed(), &HostKey::fixed()).unwrap();
    assert_eq!(again.first_admin_key(), None);
    assert!(again.app().authenticate(&key).is_ok(), "the key outlives a restart");
    again.app().kernel.stop();
}

#[test]
fn a_chosen_admin_key_is_taken_or_refused_and_never_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(Timestamp(1_790_000_000_000));
    let chosen = Config { data_directory: folder.path().join("data"), ..config(&folder, &clock) };
    // What a new directory cannot be made with leaves nothing of it.
    for spoilt in [
        Config { admin_key: Some("weak".into()), ..chosen.clone() },
        Config { admin_key: Some("has a blank in it and is long enough".into()), ..chosen.clone() },
        Config { time_zone: Some("Nowhere/Land".to_owned()), ..chosen.clone() },
    ] {
        assert!(matches!(super::open(spoilt), Err(ServeError::AdminKey(_) | ServeError::TimeZone(_))));
        assert!(!chosen.data_directory.exists(), "half a directory is there");
    }
    let open = |admin_key: Option<&str>| {
        let server = super::open(Config { admin_key: admin_key.map(Into::into), ..chosen.clone() })?;
        server.app().kernel.stop();
        server.store.close();
        Ok::<_, ServeError>(())
    };
    open(Some(ADMIN_KEY)).unwrap();
    for good in [Some(ADMIN_KEY), None, Some("")] {
        open(good).unwrap();
    }
    for other in ["another-admin-key-0123456789abcdefgh", "weak"] {
        let refused = open(Some(other)).unwrap_err();
        assert!(matches!(&refused, ServeError::ForeignAdminKey { .. }), "{refused:?}");
        assert!(refused.to_string().contains("kith key reset --data"), "{refused}");
    }
    open(None).unwrap();
}

/// Whatever zone a data directory was made with, another one is refused with the way to it, and its own is taken.
#[test]
fn a_chosen_time_zone_is_taken_or_refused_and_never_ignored() {
    let zones = [None, Some("UTC"), Some("Europe/Berlin"), Some("America/Sao_Paulo")];
    for made in zones {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(Timestamp(1_790_000_000_000));
        let open = |zone: Option<&str>| {
            let time_zone = zone.map(str::to_owned);
            let server = super::open(Config { time_zone, ..config(&folder, &clock) })?;
            let held = server.app().catalogue.tables().workspaces[&super::FIRST_WORKSPACE].row.time_zone.clone();
            server.app().kernel.stop();
            server.store.close();
            Ok::<_, ServeError>(held)
        };
        let held = made.unwrap_or("UTC");
        assert_eq!(open(made).unwrap(), held);
        for wanted in zones {
            let opened = open(wanted);
            if wanted.is_none_or(|wanted| wanted == held) {
                assert_eq!(opened.unwrap(), held, "{wanted:?}");
            } else {
                let refused = opened.unwrap_err().to_string();
                let wanted = wanted.unwrap();
                assert!(refused.contains(&format!("--time-zone {wanted} cannot take effect")), "{refused}");
                assert!(refused.contains(held) && refused.contains("kith workspace create"), "{refused}");
            }
        }
    }
}

#[test]
fn a_lost_key_is_replaced_where_the_data_lies() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(Timestamp(1_790_000_000_000));
    let config = config(&folder, &clock);
    let name = "default".parse().unwrap();
    let nothing = Config { data_directory: folder.path().join("none"), ..config.clone() };
    assert!(matches!(super::reset_key(&nothing, &name), Err(ServeError::DataDirectory { .. })));
    assert!(!nothing.data_directory.exists());

    let server = super::open(config.clone()).unwrap();
    assert!(matches!(super::reset_key(&config, &name), Err(ServeError::Store(_))), "a server uses it");
    server.app().kernel.stop();
    server.store.close();
    drop(server);

    assert!(matches!(super::reset_key(&config, &"other".parse().unwrap()), Err(ServeError::NoWorkspace { .. })));
    let key = super::reset_key(&config, &name).unwrap();
    let server = super::open(config).unwrap();
    let app = server.app();
    assert!(app.authenticate(&key).unwrap().may(crate::auth::Scope::PluginsAdmin));
    assert!(app.authenticate(ADMIN_KEY).is_ok());
    let (audit, _) = app.catalogue.audit(super::FIRST_WORKSPACE, &AuditFilter::default(), None, 10).unwrap();
    let actions: Vec<&str> = audit.iter().map(|row| row.action.as_str()).collect();
    assert_eq!(actions, ["key.reset"]);
    app.kernel.stop();
    server.store.close();
}

/// What a crash between the commit and what follows from it leaves behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_was_stopped_on_paper_does_not_run_after_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(Timestamp(1_790_000_000_000));
    let store = Arc::new(kith_store::memory());
    let open = || start(config(&folder, &clock), Arc::clone(&store), KeyRing::fixed(), &HostKey::fixed()).unwrap();
    let row = |id: u32, state| WorkspaceRow {
        state,
        ..WorkspaceRow::new(WorkspaceId(id), format!("w{id}").parse().unwrap(), "UTC".to_owned(), clock.now())
    };
    let states = [
        (2, WorkspaceState::Active),
        (3, WorkspaceState::Suspended { since: clock.now() }),
        (4, WorkspaceState::Deleted { at: clock.now() }),
    ];
    let first = open();
    let keys = states.map(|(id, state)| {
        let key = auth::generate(KeyKind::Api).unwrap();
        let mut change = first.app().catalogue.begin_host(Actor::kernel());
        let credential = CredentialRow {
            id: key.id,
            workspace: WorkspaceId(id),
            title: String::new(),
            hash: key.hash,
            scopes: [Scope::All].into(),
            source: None,
            created_at: clock.now(),
            expires_at: None,
            revoked_at: None,
        };
        change.put_credential(credential);
        change.put_workspace(row(id, state), Act { action: "workspace.test", before: None, after: None }).unwrap();
        drop(change.commit().unwrap());
        key.text
    });
    // Nothing has told the kernel.
    first.app().kernel.stop();

    let again = open();
    let app = again.app();
    let answers = keys.map(|key| app.authenticate(&key).map(|caller| caller.workspace));
    assert_eq!(states.map(|(id, _)| app.kernel.runs(WorkspaceId(id))), [true, false, false]);
    let [active, suspended, deleted] = answers;
    assert_eq!(active.unwrap(), WorkspaceId(2));
    assert!(matches!(suspended, Err(ApiError::Suspended)), "{suspended:?}");
    assert!(matches!(deleted, Err(ApiError::Unauthenticated { .. })), "{deleted:?}");
    // The id of the deleted one is not given again.
    assert_eq!(app.catalogue.begin_host(Actor::kernel()).next_workspace(), WorkspaceId(5));
    app.kernel.stop();
}

/// A data directory that is older than host keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_everything_becomes_no_host_key_by_itself_and_one_is_made_beside_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { admin_key: Some("x".repeat(40).into()), ..Config::new(folder.path().join("data")) };
    assert!(matches!(make_host_key(&config), Err(ServeError::DataDirectory { .. })), "it makes no directory");
    let server = open(config.clone()).unwrap();
    let first = server.app().authenticate(&"x".repeat(40)).unwrap();
    assert!(first.may(Scope::WorkspacesAdmin) && first.may(Scope::KeysAdmin), "whoever starts a server is its host");
    let row = server.app().catalogue.tables().credentials[&first.key].clone();
    let mut change = server.app().catalogue.begin_host(Actor::kernel());
    change.put_credential(CredentialRow { scopes: [Scope::All].into(), ..CredentialRow::clone(&row) });
    drop(change.commit().unwrap());
    server.app().kernel.stop();
    server.store.close();
    drop(server);

    let key = make_host_key(&config).unwrap();
    let server = open(config).unwrap();
    let older = server.app().authenticate(&"x".repeat(40)).unwrap();
    assert!(!older.may(Scope::WorkspacesAdmin) && older.may(Scope::KeysAdmin));
    let host = server.app().authenticate(&key).unwrap();
    assert!(host.may(Scope::WorkspacesAdmin) && !host.may(Scope::ProfilesRead));
    server.app().kernel.stop();
    server.store.close();
}

/// Reads are written down a second later, and the server may stop before.
#[tokio::test(flavor = "multi_thread")]
async fn reads_of_people_are_in_the_audit_log_of_a_server_that_was_stopped() {
    let TestServer { server, _folder, .. } = server_with(|_| {});
    let (app, store) = (Arc::clone(server.app()), Arc::clone(&server.store));
    let caller = app.authenticate(ADMIN_KEY).unwrap();
    app.reads.note(&caller, "profile.read", ["profile:somebody".to_owned()]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    server.run(listener, async {}).await.unwrap();
    let rows = store.scan(&kith_store::Key::audit(super::FIRST_WORKSPACE, None).range(), 10).unwrap().rows;
    let text: String = rows.iter().map(|(_, row)| String::from_utf8_lossy(row)).collect();
    assert!(text.contains("profile:somebody"), "{text}");
}

struct Listening {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    stopped: tokio::task::JoinHandle<Result<(), ServeError>>,
}

async fn listening(adjust: impl FnOnce(&mut Config)) -> Listening {
    let TestServer { server, _folder, .. } = server_with(adjust);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = oneshot::channel();
    let stopped = tokio::spawn(async move {
        let _folder = _folder;
        server.run(listener, async { drop(stopping.await) }).await
    });
    Listening { address, stop, stopped }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut text));
    reading.await.expect("the server ends the connection").ok();
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_or_half_a_head_are_ended() {
    let server = listening(|config| config.http.head_timeout = Duration::from_millis(100)).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read_all(&mut silent).await, "");
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let answer = read_all(&mut slow).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    server.stop.send(()).unwrap();
    server.stopped.await.unwrap().unwrap();
}

/// Read one answer with a body of a known length from a connection that goes on.
async fn read_one(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    loop {
        let mut byte = [0_u8; 1];
        let reading = tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut byte));
        reading.await.expect("the server answers").expect("the connection goes on");
        text.push(byte[0]);
        if text.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let head = String::from_utf8_lossy(&text).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    head
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_who_is_still_sending() {
    let server = listening(|_| {}).await;
    let post = |length: &str| format!("POST /api/v1/audiences HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n");
    let mut client = TcpStream::connect(server.address).await.unwrap();
    for length in ["content-length: 6", "transfer-encoding: chunked"] {
        client.write_all(post(length).as_bytes()).await.unwrap();
        // The refusal is known by now, and the connection has to outlive it.
        let early = tokio::time::timeout(Duration::from_millis(50), client.peek(&mut [0])).await;
        assert!(early.is_err(), "{length}: the answer or the end came before the body did");
        let body: &[u8] = if length.ends_with('6') { b"abcdef" } else { b"3\r\nabc\r\n0\r\n\r\n" };
        client.write_all(body).await.unwrap();
        let answer = read_one(&mut client).await;
        assert!(answer.starts_with("http/1.1 401") && !answer.contains("connection: close"), "{answer}");
    }
    client.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(read_one(&mut client).await.starts_with("http/1.1 200"));

    for head in ["content-length: 6\r\nexpect: 100-continue", "content-length: 99999999"] {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(post(head).as_bytes()).await.unwrap();
        let answer = read_all(&mut client).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 401") && answer.contains("connection: close"), "{head}: {answer}");
    }
    server.stop.send(()).unwrap();
    server.stopped.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_what_is_idle_and_the_server_closes() {
    let server = listening(|_| {}).await;
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut start = [0_u8; 15];
    kept.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 OK");
    server.stop.send(()).unwrap();
    server.stopped.await.unwrap().unwrap();
    read_all(&mut kept).await;
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_trickles_or_never_reads_gives_the_place_back() {
    let slow = |config: &mut Config| {
        (config.http.max_connections, config.http.body_timeout) = (1, Duration::from_millis(100));
    };
    let server = listening(slow).await;
    let mut trickling = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /api/v1/audiences HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    trickling.write_all(head.as_bytes()).await.unwrap();
    let answer = read_all(&mut trickling).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    // A place is free once its connection has ended.
    let mut silent = loop {
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        silent.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        if silent.read_exact(&mut [0; 15]).await.is_ok() {
            break silent;
        }
    };
    // Answers that nobody reads fill what the system keeps of them, and then the server waits.
    let asked = b"GET /api/v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200);
    while silent.write_all(&asked).await.is_ok() {}
    server.stop.send(()).unwrap();
    server.stopped.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_the_cap_are_closed() {
    let server = listening(|config| config.http.max_connections = 1).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut start = [0_u8; 15];
    first.read_exact(&mut start).await.unwrap();
    let mut second = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read_all(&mut second).await, "");
    server.stop.send(()).unwrap();
    server.stopped.await.unwrap().unwrap();
}

/// Another process may put other keys in the place of those that were read before the store is locked.
#[test]
fn keys_are_read_by_whoever_has_the_store_open() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder, &ManualClock::new(Timestamp(1_790_000_000_000)));
    let server = open(config.clone()).unwrap();
    let path = folder.path().join("host.key");
    let key = std::fs::read(&path).unwrap();
    std::fs::write(&path, "no key").unwrap();
    let locked = |error: Option<ServeError>| matches!(error, Some(ServeError::Store(OpenError::Locked { .. })));
    assert!(locked(open(config.clone()).err()));
    assert!(locked(rotate_master_key(&config, None).err()));
    server.app().kernel.stop();
    server.store.close();
    drop(server);
    assert!(matches!(open(config.clone()).err(), Some(ServeError::KeyFile { .. })));
    assert!(matches!(rotate_master_key(&config, None).err(), Some(ServeError::KeyFile { .. })));
    std::fs::write(&path, key).unwrap();
    assert!(rotate_master_key(&config, None).is_ok());
}

/// Nothing is lost of a data directory that is started with another key, or with none.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_the_right_key_says_which_is_missing_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder, &ManualClock::new(Timestamp(1_790_000_000_000)));
    let stop = |server: Server| {
        server.app().kernel.stop();
        server.store.close();
    };
    stop(open(config.clone()).unwrap());
    let path = folder.path().join("host.key");
    let key: [u8; 32] = std::fs::read(&path).unwrap().try_into().unwrap();
    let id = MasterKey::new(&key).id().to_string();

    std::fs::rename(&path, folder.path().join("kept")).unwrap();
    let refused = open(config.clone()).err().unwrap().to_string();
    assert!(refused.contains(&id) && refused.contains("no key was given") && !path.exists(), "{refused}");
    let other = MasterKeys { current: Some(KeySource::Text("0f".repeat(32).as_str().into())), old: Vec::new() };
    let refused = open(Config { master_keys: other.clone(), ..config.clone() }).err().unwrap().to_string();
    assert!(refused.contains(&id) && refused.contains("--old-master-key-file"), "{refused}");

    // As an old key it opens what it sealed, and a rotation makes the other one enough.
    let given = MasterKeys { old: vec![folder.path().join("kept")], ..other.clone() };
    let given = Config { master_keys: given, ..config.clone() };
    stop(open(given.clone()).unwrap());
    let to = folder.path().join("next.key");
    assert!(matches!(rotate_master_key(&given, None), Err(ServeError::NoPlaceForKey)));
    let rotated = rotate_master_key(&given, Some(&to)).unwrap();
    assert_eq!((rotated.records, rotated.retired), (1, None));
    assert_eq!(rotate_master_key(&given, Some(&to)).unwrap().records, 0, "it is done");
    assert!(open(given).err().unwrap().to_string().contains(&rotated.key));
    let current = Some(KeySource::File(to.clone()));
    let given = Config { master_keys: MasterKeys { current, old: Vec::new() }, ..config };
    assert_eq!(rotate_master_key(&given, Some(&to)).unwrap().records, 0);
    let server = open(given).unwrap();
    assert!(server.app().authenticate(ADMIN_KEY).is_ok());
    stop(server);
}
