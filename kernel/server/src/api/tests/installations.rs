//! Installations over the API: what is held stays, and what a removal touches is said before it is done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kith_host::{Expected, KeyValue as _, Setting};
use kith_model::audience::Audience;
use kith_model::id::{AudienceId, InstallationId};
use kith_model::plugin::{
    Cancellation, Capabilities, ComputeModel, Dataset, Fitted, InstallationMode, LimitRequest, Manifest, OutputSpec,
    PluginFault, PluginId, PluginKind, Training,
};
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};
use kith_model::time::Timestamp;
use kith_pipeline::{Activity, Installed, Measure, Patience, Role, Setup, ShadowVersion};
use kith_store::Key;
use serde_json::json;

use super::{FIRST, ask, installation_row, key_with, lines, running, second_workspace, setup, source};
use crate::auth::{KeyId, Scope};
use crate::catalogue::{
    Actor, BacktestRow, ChampionRow, FitInputRow, FitRow, HeldOutRow, InstallationRow, JudgedRow, PluginRow, WaitRow,
};
use crate::error::ApiError;
use crate::fitting::tests::succeeded;
use crate::serve::tests::{TestServer, server};
use crate::wiring::{Loading, Source};

const CONNECTOR: &[u8] = include_bytes!("../../../../host/tests/fixtures/0.1/connector.wasm");

/// A tag model that says this of everybody.
struct Level(Option<&'static str>);

impl ComputeModel for Level {
    fn fit(&self, _: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        Ok(Fitted { state: Vec::new(), metrics: Vec::new() })
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        let mut level = ColumnBuilder::new("level", &ColumnType::Text);
        for _ in 0..rows.rows {
            level.push(self.0.map_or(Cell::Null, |text| Cell::Text(text.into()))).unwrap();
        }
        Ok(Table { rows: rows.rows, columns: vec![level.finish()] })
    }
}

/// A plugin version whose component is nowhere.
pub(crate) fn plugin_row(name: &str, kind: PluginKind) -> PluginRow {
    let outputs = match kind {
        PluginKind::TagModel => vec![OutputSpec {
            name: "level".to_owned(),
            column_type: ColumnType::Text,
            values: Vec::new(),
            description: String::new(),
            category: String::new(),
        }],
        PluginKind::Connector | PluginKind::Scorer | PluginKind::Channel => Vec::new(),
    };
    let manifest = Manifest {
        id: format!("test/{name}").parse().unwrap(),
        version: semver::Version::new(1, 0, 0),
        kind,
        abi: "0.1".to_owned(),
        kernel: semver::VersionReq::STAR,
        title: String::new(),
        description: String::new(),
        license: String::new(),
        inputs: Vec::new(),
        outputs,
        config_schema: None,
        capabilities: Capabilities::default(),
        idempotent: true,
        state_version: None,
        poll: None,
        training: None,
        limits: LimitRequest::default(),
    };
    PluginRow {
        manifest,
        manifest_toml: String::new(),
        digest: "00".repeat(32),
        size_bytes: 0,
        imports: Vec::new(),
        exports: Vec::new(),
        uploaded_at: Timestamp(0),
        uploaded_by: KeyId::kernel(),
        yanked: None,
        signature: None,
    }
}

/// Put an installation with its plugin into the catalogue, past the API, which would have to load a component.
pub(crate) fn keep(server: &TestServer, row: &InstallationRow, kind: PluginKind, audiences: &[Audience]) {
    let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
    change.put_plugin(plugin_row(row.name.as_str(), kind));
    change.put_installation(row.clone());
    for audience in audiences {
        change.put_audience(audience.clone());
    }
    drop(change.commit().unwrap());
}

fn audience(condition: &str) -> Audience {
    Audience {
        id: AudienceId(5),
        name: "fews".parse().unwrap(),
        title: String::new(),
        condition: condition.to_owned(),
        on_enter: None,
        on_exit: None,
        has_acted: false,
        created_at: Timestamp(0),
        waves: 0,
    }
}

/// Two people who hold a tag of `level`, which an audience reads.
async fn with_tags(server: &TestServer) {
    with_level_of(server, Some("few"), "ada\nbob").await;
}

/// People of whom `level` says one thing or nothing, which an audience reads.
pub(super) async fn with_level_of(server: &TestServer, says: Option<&'static str>, people: &'static str) {
    drop(with_model(server, Arc::new(Level(says)), people).await);
}

/// People of whom a model of the test's own, `level`, is asked, as it runs; an audience reads what it says.
pub(super) async fn with_model(server: &TestServer, model: Arc<dyn ComputeModel>, people: &'static str) -> Installed {
    let write_key = source(server, FIRST);
    let row = installation_row(901, "level");
    let audiences = [audience("tags.level == 'few'")];
    keep(server, &row, PluginKind::TagModel, &audiences);
    let mut level = running(&row, PluginKind::TagModel, Role::TagModel(model));
    level.outputs = plugin_row("level", PluginKind::TagModel).manifest.outputs;
    let kernel = &server.app().kernel;
    let running = vec![lines().1, level.clone()];
    kernel.configure(Setup { audiences: audiences.to_vec(), ..setup(FIRST, running) }).unwrap();
    ask(server, "POST", "/v1/batch").key(&write_key).send(people).await.with(200);
    let head = kernel.progress(FIRST).head;
    assert!(kernel.wait_until_reacted(FIRST, head, Duration::from_secs(20)), "not computed in time");
    level
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_takes_values_from_people_needs_the_token_of_what_is_there_now() {
    let server = server();
    with_tags(&server).await;
    let path = "/api/v1/installations/level";
    let first = ask(&server, "DELETE", path).admin().empty().await.problem(409, "confirmation-required");
    assert_eq!((&first["people"], &first["audiences"]), (&json!(2), &json!(["fews"])));
    let token = first["token"].as_str().unwrap();
    assert!(first["message"].as_str().unwrap().contains(token), "{first}");
    let wrong = format!("{path}?confirm=0123456789abcdef");
    ask(&server, "DELETE", &wrong).admin().empty().await.problem(409, "confirmation-required");
    ask(&server, "GET", path).admin().empty().await.with(200);

    // Another version is another thing to be sure of.
    let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
    let next = InstallationRow { version: semver::Version::new(1, 1, 0), ..installation_row(901, "level") };
    let mut plugin = plugin_row("level", PluginKind::TagModel);
    plugin.manifest.version = next.version.clone();
    change.put_plugin(plugin);
    change.put_installation(next);
    drop(change.commit().unwrap());
    let confirmed = format!("{path}?confirm={token}");
    let second = ask(&server, "DELETE", &confirmed).admin().empty().await.problem(409, "confirmation-required");
    assert_ne!(second["token"], first["token"]);

    let confirmed = format!("{path}?confirm={}", second["token"].as_str().unwrap());
    ask(&server, "DELETE", &confirmed).admin().empty().await.with(204);
    ask(&server, "GET", path).admin().empty().await.problem(404, "not-found");
    let audit = ask(&server, "GET", "/api/v1/audit").admin().empty().await.with(200);
    assert_eq!(audit["items"][0]["action"], "installation.remove");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_touches_nobody_needs_no_token() {
    let server = server();
    keep(&server, &installation_row(901, "level"), PluginKind::TagModel, &[]);
    ask(&server, "DELETE", "/api/v1/installations/level").admin().empty().await.with(204);
    let write_key = source(&server, FIRST);
    ask(&server, "POST", "/v1/batch").key(&write_key).send("ada").await.with(200);
    ask(&server, "DELETE", "/api/v1/installations/lines").admin().empty().await.with(204);
}

/// Have an installation keep so many keys of its own.
pub(crate) fn keep_state(server: &TestServer, id: InstallationId, keys: usize) {
    let state = server.app().wiring.states().of(FIRST, id);
    for number in 0..keys {
        let (key, value) = (format!("{number:03}"), b"kept".to_vec());
        let setting =
            Setting { key: &key, value, expires_at: None, expected: Expected::Anything, quota_bytes: 1 << 20 };
        assert_eq!(state.set(setting, Timestamp(0)), Ok(true));
    }
}

/// How many keys the store has of an installation.
pub(crate) fn keys_kept(server: &TestServer, id: InstallationId) -> usize {
    server.store().scan(&Key::plugin_state(FIRST, id, "").range(), 1_000).unwrap().rows.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_keeps_goes_with_its_installation_however_much_it_is() {
    let server = server();
    let row = installation_row(901, "level");
    keep(&server, &row, PluginKind::TagModel, &[]);
    // One commit takes 64 of them out.
    keep_state(&server, row.id, 200);
    ask(&server, "DELETE", "/api/v1/installations/level").admin().empty().await.with(204);
    assert_eq!(keys_kept(&server, row.id), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_plugin_keeps_is_cleared_of_which_no_line_of_the_audit_log_tells() {
    let server = server();
    let row = installation_row(901, "level");
    keep(&server, &row, PluginKind::TagModel, &[]);
    keep_state(&server, row.id, 3);
    let clear = || ask(&server, "DELETE", "/api/v1/installations/level/kv").admin().empty();
    // The line cannot be written.
    server.app().catalogue.count_as_written(FIRST, 2 << 30);
    clear().await.problem(429, "budget-exhausted");
    assert_eq!(keys_kept(&server, row.id), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_installations_name_stays_with_its_events() {
    let server = server();
    source(&server, FIRST);
    ask(&server, "DELETE", "/api/v1/installations/lines").admin().empty().await.with(204);
    let app = server.app();
    let tables = app.catalogue.workspace(FIRST).unwrap();
    let sealer = app.catalogue.sealer();
    let source = Source { tables: &tables, must_run: &Default::default(), sealer, now: Timestamp(0) };
    let setup = app.wiring.setup(source, Loading::Done).unwrap();
    assert!(setup.installations.is_empty());
    assert_eq!(setup.source_names[&lines().0.id], "lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_run_is_held_with_its_reason_and_stays_in_the_setup() {
    let server = server();
    let switched_off = InstallationRow {
        mode: InstallationMode::Disabled,
        mode_since: Timestamp(60_000),
        ..installation_row(902, "off")
    };
    let quarantined = InstallationRow {
        mode: InstallationMode::Quarantined,
        mode_reason: Some("3 faults in a row".to_owned()),
        mode_since: Timestamp(120_000),
        ..installation_row(903, "faulty")
    };
    keep(&server, &installation_row(901, "level"), PluginKind::TagModel, &[]);
    keep(&server, &switched_off, PluginKind::TagModel, &[]);
    keep(&server, &quarantined, PluginKind::Channel, &[]);
    // It is loaded for fits, and what cannot be loaded is no reason to refuse a change.
    let stopped = InstallationRow { mode: InstallationMode::Quarantined, ..installation_row(904, "stopped") };
    keep(&server, &stopped, PluginKind::TagModel, &[]);
    // Any change makes the setup anew; the components of `level` and `stopped` are nowhere.
    ask(&server, "POST", "/api/v1/audiences")
        .admin()
        .json(json!({ "name": "all", "condition": "true" }))
        .await
        .with(201);

    let app = server.app();
    let tables = app.catalogue.workspace(FIRST).unwrap();
    let sealer = app.catalogue.sealer();
    let source = Source { tables: &tables, must_run: &Default::default(), sealer, now: Timestamp(7) };
    let setup = app.wiring.setup(source, Loading::Done).unwrap();
    let held: Vec<_> =
        setup.installations.iter().map(|installed| (&installed.activity, installed.outputs.len())).collect();
    let [
        (Activity::Held { why, .. }, 1),
        (Activity::Held { since, .. }, 1),
        (Activity::Quarantined { .. }, 0),
        (Activity::Quarantined { .. }, 1),
    ] = held[..]
    else {
        panic!("{held:?}");
    };
    assert!(why.starts_with("could not be made to run: "), "{why}");
    assert_eq!(*since, Timestamp(60_000));

    let shown = ask(&server, "GET", "/api/v1/installations").admin().empty().await.with(200);
    let activity = |name: &str| {
        let all = shown["items"].as_array().unwrap();
        all.iter().find(|installed| installed["name"] == name).unwrap()["activity"].clone()
    };
    assert_eq!(activity("level")["state"], "held");
    assert_eq!(activity("level")["since"], "2026-09-21T14:13:20.000Z", "since the change that found it out");
    let why = "an admin switched it off";
    assert_eq!(activity("off"), json!({ "state": "held", "since": "1970-01-01T00:01:00.000Z", "why": why }));
    let since = "1970-01-01T00:02:00.000Z";
    assert_eq!(activity("faulty"), json!({ "state": "held", "since": since, "why": "3 faults in a row" }));
}

/// A dry run took the place of what an installation was made into, so that one that was held showed as running after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_leaves_an_installation_held() {
    let server = server();
    ask(&server, "POST", "/api/v1/plugins").admin().send(CONNECTOR).await.with(201);
    let id: PluginId = "fixture/connector".parse().unwrap();
    let uploaded = server.app().catalogue.workspace(FIRST).unwrap().versions(&id).next_back().cloned().unwrap();
    // An earlier version whose component is nowhere.
    let mut earlier = PluginRow { digest: "00".repeat(32), ..PluginRow::clone(&uploaded) };
    earlier.manifest.version = semver::Version::new(0, 0, 1);
    let version = earlier.manifest.version.clone();
    let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
    change.put_plugin(earlier);
    change.put_installation(InstallationRow { plugin: id, version, ..installation_row(901, "held") });
    drop(change.commit().unwrap());
    let all = json!({ "name": "all", "condition": "true" });
    ask(&server, "POST", "/api/v1/audiences").admin().json(all).await.with(201);
    let path = "/api/v1/installations/held";
    let shown = || ask(&server, "GET", path).admin().empty();
    let before = shown().await.with(200)["activity"].clone();
    assert_eq!(before["state"], "held", "{before}");
    let mended = json!({ "version": "0.1.0", "config": {}, "consent": true, "dry_run": true });
    let answer = ask(&server, "PATCH", path).admin().json(mended).await.with(200);
    assert_ne!(answer["changed"], json!([]), "{answer}");
    assert_eq!((&answer["activity"], &shown().await.with(200)["activity"]), (&before, &before));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_workspace_runs_stays_loaded_until_it_is_suspended_and_again_when_it_is_resumed() {
    let server = server();
    let (workspace, key) = second_workspace(&server);
    ask(&server, "POST", "/api/v1/plugins").key(&key).send(CONNECTOR).await.with(201);
    let wanted = json!({ "plugin": "fixture/connector", "name": "lines" });
    ask(&server, "POST", "/api/v1/installations").key(&key).json(wanted).await.with(201);
    let kept = || server.app().wiring.kept_loaded(workspace);
    assert_eq!(kept(), Some(1));
    for (state, loaded) in [("suspended", None), ("active", Some(1))] {
        let patch = json!({ "state": state });
        ask(&server, "PATCH", "/api/v1/workspaces/other").admin().json(patch).await.with(200);
        assert_eq!(kept(), loaded, "{state}");
    }
}

/// What was tried over what is stored stayed loaded until it was forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_which_a_backtest_tells_all_is_loaded_no_more() {
    let server = server();
    with_tags(&server).await;
    let (app, since) = (server.app(), Timestamp(1));
    let backtest = BacktestRow { version: semver::Version::new(1, 0, 0), config: json!(null), since };
    let row = InstallationRow { backtest: Some(backtest), ..installation_row(901, "level") };
    let mut change = app.catalogue.begin(FIRST, Actor::kernel()).unwrap();
    change.put_installation(row.clone());
    drop(change.commit().unwrap());
    let tables = app.catalogue.workspace(FIRST).unwrap();
    let sealer = app.catalogue.sealer();
    let wired = || {
        let source = Source { tables: &tables, must_run: &Default::default(), sealer, now: Timestamp(2) };
        let setup = app.wiring.setup(source, Loading::Done).unwrap();
        setup.installations.into_iter().find(|installed| installed.id == row.id).unwrap()
    };
    let before = wired();
    assert!(before.backtest.is_none(), "its component is nowhere, and it is not known that none is needed");
    let role = || Role::TagModel(Arc::new(Level(Some("few"))));
    let mut level = running(&row, PluginKind::TagModel, role());
    level.outputs = plugin_row("level", PluginKind::TagModel).manifest.outputs;
    level.backtest = Some(Arc::new(ShadowVersion {
        plugin_version: row.version.clone(),
        digest: tables.backtest_of(&row).unwrap().digest.clone(),
        config_hash: before.config_hash,
        since,
        inputs: Vec::new(),
        outputs: level.outputs.clone(),
        call_memory_bytes: 1 << 20,
        role: role(),
    }));
    let audiences = vec![audience("tags.level == 'few'")];
    app.kernel.configure(Setup { audiences, ..setup(FIRST, vec![lines().1, level]) }).unwrap();
    let is_wired = async {
        while wired().backtest.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), is_wired).await.expect("nothing is loaded for what has ended");

    // A fit that came since and that it cannot read is nothing to warn of with each change: it is asked nothing more.
    let waits_for_fit = Some(WaitRow { since, why: String::new(), serves: row.version.clone() });
    let mut change = app.catalogue.begin(FIRST, Actor::kernel()).unwrap();
    change.put_fit(succeeded(1, "0.9.0", Some(7)));
    change.put_installation(InstallationRow { fit: Some(1), waits_for_fit, ..row.clone() });
    drop(change.commit().unwrap());
    let tables = app.catalogue.workspace(FIRST).unwrap();
    let source = Source { tables: &tables, must_run: &Default::default(), sealer, now: Timestamp(3) };
    let setup = app.wiring.setup(source, Loading::Done).unwrap();
    let level = setup.installations.iter().find(|installed| installed.id == row.id).unwrap();
    assert!(level.backtest.is_some(), "its report is there");
}

/// A dry run said yes to what the change itself is refused for.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_is_held_to_what_a_workspace_may_write_and_compute() {
    let server = server();
    ask(&server, "POST", "/api/v1/plugins").admin().send(CONNECTOR).await.with(201);
    let wanted = json!({ "plugin": "fixture/connector", "name": "lines" });
    ask(&server, "POST", "/api/v1/installations").admin().json(wanted).await.with(201);
    let small = json!({ "budgets": { "aggregates-kept": 1 } });
    ask(&server, "PATCH", "/api/v1/workspaces/default").admin().json(small).await.with(200);
    let mut draft = server.app().catalogue.rehearse(FIRST, Actor::kernel()).unwrap();
    draft.put_audience(audience("events('A').size() > 0 && events('B').size() > 0"));
    let refused = server.app().tried_on_paper(&draft, &Patience::default()).unwrap_err();
    assert!(matches!(&refused, ApiError::Exhausted(spent) if spent.budget.name == "aggregates-kept"), "{refused:?}");
    drop(draft);

    server.app().catalogue.count_as_written(FIRST, 2 << 30);
    for dry_run in [true, false] {
        let off = json!({ "mode": "disabled", "dry_run": dry_run });
        let refused = ask(&server, "PATCH", "/api/v1/installations/lines").admin().json(off).await;
        assert_eq!(refused.problem(429, "budget-exhausted")["budget"], "settings-written", "{dry_run}");
    }
    // What changes nothing writes nothing.
    let as_it_is = json!({ "mode": "live", "dry_run": true });
    ask(&server, "PATCH", "/api/v1/installations/lines").admin().json(as_it_is).await.with(200);
}

/// Three components that took half a minute each to be refused kept another workspace from revoking a key for a minute and
/// a half: they were compiled under the one lock that every change takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_loaded_before_the_catalogue_is_locked() {
    let server = server();
    keep(&server, &installation_row(901, "level"), PluginKind::Channel, &[]);
    let under_way = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
    for (method, path, body) in [
        ("POST", "/api/v1/installations", json!({ "plugin": "test/level", "name": "second" })),
        ("PATCH", "/api/v1/installations/level", json!({ "grants": { "limits": { "fuel": 1000 } } })),
    ] {
        // The component is nowhere, so that loading it fails; before the lock, or it would wait for the change above.
        let asked = ask(&server, method, path).admin().json(body);
        let answered = tokio::time::timeout(Duration::from_secs(20), asked).await;
        answered.expect("nothing waits for the lock before it has loaded").problem(500, "internal");
    }
    drop(under_way);
    let listed = ask(&server, "GET", "/api/v1/installations").admin().empty().await.with(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mode_that_cannot_be_set_is_refused_with_those_that_can() {
    let server = server();
    keep(&server, &installation_row(901, "level"), PluginKind::TagModel, &[]);
    let shadow = json!({ "mode": "shadow" });
    let refused = ask(&server, "PATCH", "/api/v1/installations/level").admin().json(shadow).await;
    let body = refused.problem(400, "bad-input");
    assert_eq!(body["errors"][0]["path"], "mode");
    assert!(body["message"].as_str().unwrap().contains("`PUT …/shadow`"), "{body}");
    let nonsense = json!({ "mode": "nonsense" });
    let refused = ask(&server, "PATCH", "/api/v1/installations/level").admin().json(nonsense).await;
    let body = refused.problem(400, "bad-input");
    assert_eq!(body["errors"], json!([{ "path": "mode", "message": "write `live` or `disabled`" }]));
    let shadow = json!({ "plugin": "test/level", "mode": "shadow" });
    ask(&server, "POST", "/api/v1/installations").admin().json(shadow).await.problem(400, "bad-input");
    let off = json!({ "mode": "disabled" });
    let body = ask(&server, "PATCH", "/api/v1/installations/level").admin().json(off).await.with(200);
    assert_eq!((&body["mode"], &body["activity"]["state"]), (&json!("disabled"), &json!("held")));
    assert_eq!(body["activity"]["since"], "2026-09-21T14:13:20.000Z");
}

/// A version that loses data is taken back before others install it, and without stopping those who run it.
#[tokio::test(flavor = "multi_thread")]
async fn a_yanked_version_runs_where_it_runs_and_is_given_to_nobody_else() {
    let server = server();
    keep(&server, &installation_row(901, "level"), PluginKind::TagModel, &[]);
    let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
    let mut next = plugin_row("level", PluginKind::TagModel);
    next.manifest.version = semver::Version::new(1, 1, 0);
    change.put_plugin(next);
    drop(change.commit().unwrap());
    let version = |version: &str, action: &str| format!("/api/v1/plugins/test/level/{version}/{action}");
    let say = |path: String, reason: &str| ask(&server, "POST", &path).admin().json(json!({ "reason": reason }));
    let install = |body: serde_json::Value| ask(&server, "POST", "/api/v1/installations").admin().json(body);
    let installed = || ask(&server, "GET", "/api/v1/installations/level").admin().empty();

    let yanked = say(version("1.1.0", "yank"), "it loses tags").await.with(200);
    assert_eq!(yanked["yanked"]["reason"], "it loses tags");
    let refusals = [
        install(json!({ "plugin": "test/level", "version": "1.1.0", "name": "second" })).await,
        ask(&server, "PATCH", "/api/v1/installations/level").admin().json(json!({ "version": "1.1.0" })).await,
    ];
    for refused in refusals {
        let message = refused.problem(409, "version-yanked")["message"].clone();
        assert_eq!(message, "test/level 1.1.0 was yanked: it loses tags; take 1.0.0");
    }
    assert_eq!(installed().await.with(200)["yanked"], json!(null), "it runs the other one");

    say(version("1.0.0", "yank"), "this one, too").await.with(200);
    let (shown, second) = (installed().await.with(200), json!({ "plugin": "test/level", "name": "second" }));
    assert_eq!((&shown["mode"], &shown["yanked"]["instead"]), (&json!("live"), &json!(null)), "{shown}");
    let refused = install(second).await.problem(409, "version-yanked");
    assert!(refused["message"].as_str().unwrap().ends_with("there is no other version here; upload one"), "{refused}");
    assert_eq!(say(version("1.1.0", "unyank"), "mended").await.with(200)["yanked"], json!(null));
    assert_eq!(installed().await.with(200)["yanked"]["instead"], "1.1.0");

    say(version("1.1.0", "unyank"), "nothing is new").await.with(200);
    say(version("1.0.0", "yank"), " ").await.problem(400, "bad-input");
    say(version("9.0.0", "yank"), "x").await.problem(404, "not-found");
    let audit = ask(&server, "GET", "/api/v1/audit?action=plugin.").admin().empty().await.with(200);
    let deeds = audit["items"].as_array().unwrap().iter();
    let deeds: Vec<_> =
        deeds.map(|deed| (deed["action"].as_str().unwrap(), deed["target"].as_str().unwrap())).collect();
    let (old, new) = ("test/level@1.0.0", "test/level@1.1.0");
    assert_eq!(deeds, [("plugin.yank", new), ("plugin.yank", old), ("plugin.unyank", new)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_and_bounds_are_set_shown_and_taken_out() {
    let server = server();
    keep(&server, &installation_row(901, "level"), PluginKind::TagModel, &[]);
    keep(&server, &installation_row(902, "mail"), PluginKind::Channel, &[]);
    let path = "/api/v1/installations/level";
    for (fitting, place) in [
        (json!({ "every": "30m" }), "fitting.every"),
        (json!({ "every": "soon" }), "fitting.every"),
        (json!({ "every": "4000d" }), "fitting.every"),
        (json!({ "often": "7d" }), "fitting.often"),
        (json!({ "guard": { "auc": {} } }), "fitting.guard.auc"),
        (json!({ "guard": { "auc": { "min": 1, "max": 0 } } }), "fitting.guard.auc"),
        (json!({ "guard": { "auc": { "max_change": -1 } } }), "fitting.guard.auc"),
        (json!({ "drift": {} }), "fitting.drift"),
        (json!({ "drift": { "max_shift": -0.5 } }), "fitting.drift"),
        (json!({ "drift": { "max_absent_change": 1.5 } }), "fitting.drift"),
        (json!({ "use": "sometimes" }), "fitting.use"),
        (json!({ "measure": "f1" }), "fitting.measure"),
        (json!({ "use": "better" }), "fitting.use"),
        (json!({ "measure": "auc" }), "fitting.measure"),
    ] {
        let refused = ask(&server, "PATCH", path).admin().json(json!({ "fitting": fitting })).await;
        assert_eq!(refused.problem(400, "bad-input")["errors"][0]["path"], place, "{fitting}");
    }
    let wanted = json!({ "every": "7d", "guard": { "auc": { "min": 0.7 } }, "drift": { "max_shift": 0.5 } });
    let of_channel = json!({ "mode": "disabled", "fitting": wanted });
    let refused = ask(&server, "PATCH", "/api/v1/installations/mail").admin().json(of_channel.clone()).await;
    assert_eq!(refused.problem(400, "bad-input")["errors"][0]["path"], "fitting");
    // One that is switched off is not loaded.
    let set = ask(&server, "PATCH", path).admin().json(of_channel).await.with(200);
    let shown = json!({
        "every": "7d", "next_at": null, "failed_in_a_row": 0, "guard": { "auc": { "min": 0.7 } }, "drift": { "max_shift": 0.5 },
        "learns": false, "use": "always", "measure": null, "chosen": false, "alarm": null,
    });
    assert_eq!(set["fitting"], shown);
    let changed: Vec<_> = set["changed"].as_array().unwrap().iter().map(|change| change["path"].clone()).collect();
    assert_eq!(changed, ["fitting.drift", "fitting.every", "fitting.guard", "mode"]);
    let off = json!({ "fitting": { "every": null, "guard": { "auc": null, "mae": null }, "drift": null } });
    let off = ask(&server, "PATCH", path).admin().json(off).await.with(200);
    assert_eq!(off["fitting"]["drift"], json!(null));
    assert_eq!((&off["fitting"]["every"], &off["fitting"]["guard"]), (&json!(null), &json!({})));
    let audit = ask(&server, "GET", "/api/v1/audit").admin().empty().await.with(200);
    let mut audited = wanted;
    (audited["use"], audited["measure"]) = (json!("always"), json!(null));
    assert_eq!(audit["items"].as_array().unwrap().last().unwrap()["before"]["fitting"], audited);
    ask(&server, "POST", &format!("{path}/fits/1/use")).admin().empty().await.problem(404, "not-found");
    ask(&server, "POST", &format!("{path}/fits/one/use")).admin().empty().await.problem(400, "bad-input");
}

/// Nobody is held out of the fits of a version without labels.
#[tokio::test(flavor = "multi_thread")]
async fn fits_are_compared_of_a_version_with_labels() {
    let server = server();
    keep(&server, &installation_row(901, "level"), PluginKind::TagModel, &[]);
    let path = "/api/v1/installations/level";
    let change = |fitting: serde_json::Value| {
        ask(&server, "PATCH", path).admin().json(json!({ "mode": "disabled", "fitting": fitting }))
    };
    let refused = change(json!({ "use": "better" })).await.problem(400, "bad-input");
    let message = refused["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("no `[training]`") && message.contains("`\"use\": \"always\""), "{message}");
    let training = Training {
        label: "events('Order Completed').size() > 0".to_owned(),
        horizon_ms: 86_400_000,
        every_ms: 86_400_000,
        cut_offs: 2,
        predicts: "level".to_owned(),
        timeless: Vec::new(),
    };
    let mut plugin = plugin_row("level", PluginKind::TagModel);
    plugin.manifest.training = Some(training);
    let mut draft = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
    draft.put_plugin(plugin);
    drop(draft.commit().unwrap());
    let set = change(json!({ "use": "better", "measure": "brier" })).await.with(200);
    assert_eq!((&set["fitting"]["use"], &set["fitting"]["measure"]), (&json!("better"), &json!("brier")));
    let set = change(json!({ "measure": null })).await.with(200);
    assert_eq!((&set["fitting"]["use"], &set["fitting"]["measure"]), (&json!("better"), &json!(null)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fit_shows_how_it_and_the_one_in_use_compare() {
    let server = server();
    keep(&server, &installation_row(901, "level"), PluginKind::TagModel, &[]);
    let judged = |auc, problem: Option<&str>| JudgedRow {
        measures: BTreeMap::from([(Measure::Auc, auc)]),
        unanswered: 1,
        problem: problem.map(str::to_owned),
    };
    let fit = |version, champion| {
        let (measure, challenger) = (Measure::Auc, judged(0.75, None));
        let held_out = Some(HeldOutRow { rows: 4, drawn: 5, of: 6, measure, challenger, champion });
        FitRow { held_out, ..succeeded(version, "1.0.0", None) }
    };
    let champion = |auc, problem| Some(ChampionRow { fit: 1, judged: judged(auc, problem) });
    let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
    change.put_fit(succeeded(1, "1.0.0", None));
    change.put_fit(fit(2, None));
    change.put_fit(fit(3, champion(0.5, None)));
    change.put_fit(fit(4, champion(0.875, None)));
    change.put_fit(fit(5, champion(0.75, None)));
    drop(change.commit().unwrap());
    let seen = ask(&server, "GET", "/api/v1/installations/level/fits").admin().empty().await.with(200);
    let better: Vec<_> = (0..5).map(|fit| seen["items"][fit]["held_out"]["better"].clone()).collect();
    let wanted = [json!("neither"), json!("champion"), json!("challenger"), json!(null), json!(null)];
    assert_eq!(better, wanted, "newest first");
    let judged = |auc: f64| json!({ "measures": { "auc": auc }, "unanswered": 1, "problem": null });
    let mut wanted = json!({
        "rows": 4, "drawn": 5, "of": 6, "measure": "auc", "better": "challenger",
        "challenger": judged(0.75), "champion": judged(0.5),
    });
    wanted["champion"]["fit"] = json!(1);
    assert_eq!(seen["items"][2]["held_out"], wanted);
    assert_eq!(seen["items"][4]["held_out"], json!(null), "it was not compared");
}

/// A mean over few people tells of them.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_fit_read_is_shown_to_who_may_read_people() {
    let server = server();
    keep(&server, &installation_row(901, "level"), PluginKind::TagModel, &[]);
    let spent =
        |mean| FitInputRow { name: "spent".to_owned(), present: 3, absent: 1, mean: Some(mean), deviation: Some(2.0) };
    let city = FitInputRow { name: "city".to_owned(), present: 4, absent: 0, mean: None, deviation: None };
    let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
    let fit = |version, inputs| FitRow { inputs, ..succeeded(version, "1.0.0", None) };
    change.put_fit(fit(1, vec![spent(11.5)]));
    change.put_fit(fit(2, vec![spent(12.5), city]));
    change.put_state(InstallationId(901), 1, vec![1]);
    change.put_installation(InstallationRow { fit: Some(1), ..installation_row(901, "level") });
    drop(change.commit().unwrap());
    let path = "/api/v1/installations/level/fits";
    let seen = ask(&server, "GET", path).admin().empty().await.with(200)["items"][0].clone();
    let inputs = json!([
        { "name": "spent", "mean": 12.5, "deviation": 2.0, "absent_share": 0.25, "shift": 0.5 },
        { "name": "city", "mean": null, "deviation": null, "absent_share": 0.0, "shift": null },
    ]);
    assert_eq!(seen["inputs"], inputs, "beside the fit in use");
    assert_eq!((&seen["took_ms"], &seen["rows"], &seen["cause"]), (&json!(1), &json!(1), &json!("asked")));
    let blind = key_with(&server, FIRST, &[Scope::PluginsAdmin], None);
    let seen = ask(&server, "GET", path).key(&blind).empty().await.with(200)["items"][0].clone();
    for figure in ["inputs", "rows", "progress", "metrics", "state_bytes", "held_out"] {
        assert_eq!(seen[figure], json!(null), "{figure}");
    }
    assert_eq!((&seen["version"], &seen["status"]), (&json!(2), &json!("succeeded")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_has_a_length() {
    let server = server();
    keep(&server, &installation_row(901, "level"), PluginKind::TagModel, &[]);
    let secret = |length: usize| json!({ "secrets": { "key": "s".repeat(length) } });
    let change = || ask(&server, "PATCH", "/api/v1/installations/level").admin();
    let refused = change().json(secret(4_097)).await.problem(413, "budget-exhausted");
    assert_eq!((&refused["budget"], &refused["limit"]), (&json!("secret-text"), &json!(4_096)));
    let error = change().json(secret(4_096)).await.problem(400, "bad-input")["errors"][0].clone();
    assert_eq!(error["path"], "secrets.key");
    assert!(error["message"].as_str().unwrap().contains("asks for no such secret"), "{error}");
}

/// What ran was ahead of what was kept: a crash took back an audience that had written to people, and the next audience got its
/// number.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_not_kept_does_not_run() {
    let server = server();
    let define = |name: &str| {
        ask(&server, "POST", "/api/v1/audiences").admin().json(json!({ "name": name, "condition": "true" }))
    };
    define("kept").await.with(201);
    let runs = |id: u32| server.app().kernel.audience(FIRST, AudienceId(id)).is_ok();
    let kept = server.app().catalogue.workspace(FIRST).unwrap().audience("kept").unwrap().id.0;
    assert!(runs(kept) && !runs(kept + 1));
    server.store().lease("node", "another process", Timestamp(0), 0).unwrap().unwrap();
    let refused = define("lost").await;
    assert!(refused.status.is_server_error(), "{}", refused.body);
    assert!(!runs(kept + 1), "it was not kept");
    assert!(server.app().catalogue.workspace(FIRST).unwrap().audience("lost").is_none());
}
