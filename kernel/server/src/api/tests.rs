//! The API through its router, over a store in memory: every documented route × every scope, the contract of the client
//! routes, streams, and that one workspace's key reaches nothing of another's.

mod audiences;
mod audit;
mod contract;
mod described;
mod dev;
pub(crate) mod installations;
mod keys;
mod letters;
mod life;
mod routes;
mod settings;
mod sight;
mod steered;
mod trust;
mod uploads;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use kith_features::Zone;
use kith_model::event::{DraftEvent, EventKind, RejectedRecord};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::identity::{Identifier, IdentityRules};
use kith_model::plugin::{
    Answer, Connector, Grants, InstallationMode, PluginFault, PluginKind, ReceiveError, Received, Refusal,
    SourceRequest,
};
use kith_model::sending::SendingLimits;
use kith_model::time::Timestamp;
use kith_pipeline::{Activity, Idempotence, Installed, Role, Setup};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::api::router;
use crate::auth::{self, KeyKind, Scope};
use crate::catalogue::{Actor, CredentialRow, FittingRow, InstallationRow, UnshownRow, WorkspaceRow};
use crate::serve::host_key::HostKey;
use crate::serve::tests::{ADMIN_KEY, TestServer};

pub(crate) const FIRST: WorkspaceId = WorkspaceId(1);

/// A whole answer.
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

/// A request in the making.
pub(super) struct Question {
    router: Router,
    method: String,
    path: String,
    request: axum::http::request::Builder,
}

pub(super) fn ask(server: &TestServer, method: &str, path: &str) -> Question {
    let request = Request::builder().method(method).uri(path);
    let (method, path) = (method.to_owned(), path.to_owned());
    Question { router: router(Arc::clone(server.app())), method, path, request }
}

impl Question {
    pub(super) fn header(mut self, name: &str, value: &str) -> Question {
        self.request = self.request.header(name, value);
        self
    }

    pub(super) fn key(self, key: &str) -> Question {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub(super) fn admin(self) -> Question {
        self.key(ADMIN_KEY)
    }

    pub(super) async fn json(self, body: Value) -> Response {
        self.header("content-type", "application/json").send(body.to_string()).await
    }

    pub(super) async fn empty(self) -> Response {
        self.send(Body::empty()).await
    }

    /// Send it, and hold the answer against the description, whatever the test looks at.
    pub(super) async fn send(self, body: impl Into<Body>) -> Response {
        let mut request = self.request.body(body.into()).unwrap();
        request.headers_mut().entry("host").or_insert(axum::http::HeaderValue::from_static("localhost"));
        let response = self.router.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        described::hold(&self.method, &self.path, parts.status, &parts.headers, &body);
        Response { status: parts.status, headers: parts.headers, body }
    }
}

impl Response {
    /// Insist on a status; the body.
    #[track_caller]
    pub(super) fn with(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }

    /// Insist on a problem document.
    #[track_caller]
    pub(super) fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        let body = self.with(status);
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status);
        for text in ["type", "title", "detail", "message", "request_id"] {
            assert!(body[text].as_str().is_some_and(|text| !text.is_empty()), "{text} in {body}");
        }
        body
    }
}

/// A key with these scopes, put straight into the catalogue.
pub(super) fn key_with(
    server: &TestServer,
    workspace: WorkspaceId,
    scopes: &[Scope],
    source: Option<InstallationId>,
) -> String {
    let key = auth::generate(if source.is_some() { KeyKind::Write } else { KeyKind::Api }).unwrap();
    let row = CredentialRow {
        id: key.id,
        workspace,
        title: "test".to_owned(),
        hash: key.hash,
        scopes: scopes.iter().copied().collect(),
        source,
        created_at: Timestamp(0),
        expires_at: None,
        revoked_at: None,
    };
    let mut draft = server.app().catalogue.begin(workspace, Actor::kernel()).unwrap();
    draft.put_credential(row);
    drop(draft.commit().unwrap());
    key.text
}

/// A second workspace with a key that may do everything in it.
pub(super) fn second_workspace(server: &TestServer) -> (WorkspaceId, String) {
    let id = WorkspaceId(2);
    let key = auth::generate(KeyKind::Api).unwrap();
    let row = WorkspaceRow::new(id, "other".parse().unwrap(), "UTC".to_owned(), Timestamp(0));
    let credential = CredentialRow {
        id: key.id,
        workspace: id,
        title: "other".to_owned(),
        hash: key.hash,
        scopes: [Scope::All].into(),
        source: None,
        created_at: Timestamp(0),
        expires_at: None,
        revoked_at: None,
    };
    server.app().catalogue.create_workspace(row, credential).unwrap();
    server.app().kernel.configure(setup(id, Vec::new())).unwrap();
    (id, key.text)
}

pub(super) fn setup(workspace: WorkspaceId, installations: Vec<Installed>) -> Setup {
    Setup {
        workspace,
        realm_key: HostKey::fixed().realms().of(workspace),
        zone: Zone::utc(),
        identity_rules: IdentityRules::default(),
        tracking: Default::default(),
        dictionary: Default::default(),
        record_rules: Default::default(),
        source_names: installations.iter().map(|installed| (installed.id, installed.name.to_string())).collect(),
        installations,
        audiences: Vec::new(),
        removed_channels: Default::default(),
        undos: Vec::new(),
    }
}

/// One event for each line: the line names the user. `bad` lines are rejected; `refuse` refuses all, `trap` traps, and
/// `answer` makes an answer of its own.
struct Lines;

impl Connector for Lines {
    fn receive(&self, request: &SourceRequest) -> Result<Received, ReceiveError> {
        assert!(request.headers.iter().all(|(name, _)| name != "authorization"), "no plugin sees a credential");
        let mut line = request.resume.as_ref().map_or(0, |resume| resume.len() as u64);
        let consumed = match request.complete {
            true => request.body.len(),
            false => request.body.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1),
        };
        let text = String::from_utf8_lossy(&request.body[..consumed]).into_owned();
        let (events, places, rejected) = (Vec::new(), Vec::new(), Vec::new());
        let mut received = Received { events, places, rejected, consumed, resume: None, answer: None, notes: vec![] };
        for user in text.lines() {
            line += 1;
            match user {
                "refuse" => {
                    let (code, message) = ("no".to_owned(), "refused".to_owned());
                    return Err(ReceiveError::Refused(Refusal { status: 400, code, message }));
                }
                "trap" => {
                    let (message, backtrace) = ("secret text of the guest".to_owned(), Vec::new());
                    return Err(ReceiveError::Fault(PluginFault::Trapped { message, backtrace }));
                }
                "answer" => {
                    let (content_type, body) = ("text/plain".to_owned(), b"\"own\"".to_vec());
                    received.answer = Some(Answer { status: 202, content_type, body });
                }
                "bad" => received.rejected.push(RejectedRecord {
                    place: line,
                    code: "bad-line".to_owned(),
                    message: "the line says so".to_owned(),
                    raw: user.to_owned(),
                }),
                user => received.events.push(event(user)),
            }
        }
        received.resume = Some(vec![0; usize::try_from(line).unwrap()]);
        Ok(received)
    }
}

fn event(user: &str) -> DraftEvent {
    DraftEvent {
        kind: EventKind::Track,
        message_id: Some(format!("message of {user}")),
        name: "Seen".to_owned(),
        time: None,
        sent_at: None,
        identifiers: vec![Identifier::new("user_id", user)],
        properties: String::new(),
        traits: String::new(),
        ..DraftEvent::default()
    }
}

/// An installation of `test/NAME`, as the catalogue has it.
pub(crate) fn installation_row(id: u32, name: &str) -> InstallationRow {
    InstallationRow {
        id: InstallationId(id),
        name: name.parse().unwrap(),
        plugin: format!("test/{name}").parse().unwrap(),
        version: semver::Version::new(1, 0, 0),
        config: Value::Null,
        unshown: UnshownRow::default(),
        grants: Grants::default(),
        mode: InstallationMode::Live,
        mode_reason: None,
        mode_since: Timestamp(0),
        left_quarantined: BTreeMap::new(),
        falls_back_to: None,
        fit: None,
        fit_is_chosen: false,
        waits_for_fit: None,
        poll_interval_ms: None,
        fitting: FittingRow::default(),
        shadow: None,
        backtest: None,
        write_key: None,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        removed_at: None,
        is_cleared: false,
    }
}

/// The same, as it runs.
pub(super) fn running(row: &InstallationRow, kind: PluginKind, role: Role) -> Installed {
    Installed {
        id: row.id,
        name: row.name.clone(),
        plugin: row.plugin.clone(),
        plugin_version: row.version.clone(),
        kind,
        digest: "test".to_owned(),
        activity: Activity::Running,
        config_hash: 0,
        inputs: Vec::new(),
        outputs: Vec::new(),
        training: None,
        fitted: None,
        recipients: None,
        purposes: Default::default(),
        call_memory_bytes: 1 << 20,
        idempotence: Idempotence::Idempotent,
        giver: kith_model::consent::Giver::RefusesOnly,
        emits: None,
        sending: SendingLimits::default(),
        corrects: false,
        poll: None,
        role,
        shadow: None,
        backtest: None,
    }
}

/// The source `lines`.
pub(super) fn lines() -> (InstallationRow, Installed) {
    let row = installation_row(900, "lines");
    let installed = running(&row, PluginKind::Connector, Role::Connector(Arc::new(Lines)));
    (row, installed)
}

/// Put the source `lines` into the workspace; its write key.
pub(super) fn source(server: &TestServer, workspace: WorkspaceId) -> String {
    let (row, installed) = lines();
    let id = row.id;
    let mut draft = server.app().catalogue.begin(workspace, Actor::kernel()).unwrap();
    draft.put_installation(row);
    drop(draft.commit().unwrap());
    // No plugin of the catalogue stands behind the source, so the kernel is told of it directly.
    let tables = server.app().catalogue.workspace(workspace).unwrap();
    let audiences = tables.audiences.values().map(|audience| audience.as_ref().clone()).collect();
    server.app().kernel.configure(Setup { audiences, ..setup(workspace, vec![installed]) }).unwrap();
    key_with(server, workspace, &[Scope::Ingest], Some(id))
}
