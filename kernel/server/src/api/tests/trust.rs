//! Signatures, publishers and the way back over the API: what is taken under which policy, and what of it is told.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kith_model::plugin::{PluginId, PluginKind};
use kith_model::time::Timestamp;
use semver::Version;
use serde_json::{Value, json};

use super::installations::plugin_row;
use super::{FIRST, Response, ask, installation_row, second_workspace};
use crate::catalogue::sealed::KeyRing;
use crate::catalogue::{Actor, Catalogue, InstallationRow, PluginRow};
use crate::serve::tests::{TestServer, server, server_with};
use crate::signatures::trust::SignaturePolicy;
use crate::signatures::{Prehash, SecretKey};

const CONNECTOR: &[u8] = include_bytes!("../../../../host/tests/fixtures/0.1/connector.wasm");

/// The header of a signature over a component.
pub(super) fn signed(key: &SecretKey, component: &[u8]) -> String {
    STANDARD.encode(key.sign(&Prehash::of(component), "plugin:fixture/connector").file())
}

async fn upload(server: &TestServer, signature: Option<&str>) -> Response {
    let question = ask(server, "POST", "/api/v1/plugins").admin();
    let question = signature.into_iter().fold(question, |question, text| question.header("kith-signature", text));
    question.send(CONNECTOR).await
}

async fn put(server: &TestServer, path: &str, body: Value) -> Value {
    ask(server, "PUT", path).admin().json(body).await.with(200)
}

/// Make `acme` a publisher of what `fixture` makes, with this key; `place` is the workspace's or the host's.
pub(super) async fn publish(server: &TestServer, place: &str, key: &SecretKey) {
    put(server, &format!("{place}/acme"), json!({ "title": "Acme", "namespaces": ["fixture/*"] })).await;
    let body = json!({ "public_key": key.public().file() });
    let added = ask(server, "POST", &format!("{place}/acme/keys")).admin().json(body).await.with(200);
    assert_eq!(added["keys"][0]["key_id"], key.public().number().to_string());
}

async fn signature_of(server: &TestServer) -> Value {
    let plugin = ask(server, "GET", "/api/v1/plugins/fixture/connector").admin().empty().await.with(200);
    plugin["versions"][0]["signature"].clone()
}

async fn install(server: &TestServer, name: &str) -> Response {
    let wanted = json!({ "plugin": "fixture/connector", "name": name });
    ask(server, "POST", "/api/v1/installations").admin().json(wanted).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_takes_what_its_policy_takes_and_a_revoked_key_never() {
    let server = server();
    let (key, stranger) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let good = signed(&key, CONNECTOR);
    ask(&server, "POST", "/api/v1/plugins")
        .admin()
        .header("kith-signature", "?")
        .send(CONNECTOR)
        .await
        .problem(400, "bad-input");
    upload(&server, Some(&STANDARD.encode("nothing"))).await.problem(400, "bad-input");
    // Of whom nobody knows anything, the signature is kept and judged when somebody does.
    assert_eq!(upload(&server, Some(&good)).await.with(201)["signature"]["state"], "unknown-key");
    publish(&server, "/api/v1/publishers", &key).await;
    let signature = signature_of(&server).await;
    assert_eq!(
        (&signature["state"], &signature["publisher"], &signature["comment"], &signature["problem"]),
        (&json!("valid"), &json!("acme"), &json!("plugin:fixture/connector"), &Value::Null)
    );
    // One that is forged is refused whatever the policy, and one that holds stays.
    upload(&server, Some(&signed(&key, b"other"))).await.problem(400, "bad-signature");
    assert_eq!(upload(&server, Some(&signed(&stranger, CONNECTOR))).await.with(200)["signature"]["state"], "valid");
    let policy = put(&server, "/api/v1/signature-policy", json!({ "policy": "required" })).await;
    assert_eq!(policy, json!({ "policy": "required", "host": "any", "in_force": "required" }));
    assert_eq!(upload(&server, None).await.with(200)["signature"]["state"], "valid", "it is here with its signature");
    assert_eq!(install(&server, "lines").await.with(201)["signature"]["state"], "valid");

    let revoke = format!("/api/v1/publishers/acme/keys/{}/revoke", key.public().number());
    ask(&server, "POST", &revoke).admin().json(json!({ "why": "" })).await.problem(400, "bad-input");
    ask(&server, "POST", &revoke).admin().json(json!({ "why": "it was stolen" })).await.with(200);
    for policy in ["required", "known-publisher", "any"] {
        put(&server, "/api/v1/signature-policy", json!({ "policy": policy })).await;
        let refused = install(&server, "more").await.problem(400, "signature-refused");
        let said = refused["errors"][0]["message"].as_str().unwrap();
        // No policy takes it, so that none is to blame.
        assert!(said.contains("it was stolen") && !said.contains("`signatures`"), "{refused}");
        assert!(!said.contains("may sign it"), "{refused}");
    }
    // A signature of any other key does not wash that off.
    upload(&server, Some(&signed(&stranger, CONNECTOR))).await.problem(400, "signature-refused");
    assert_eq!(signature_of(&server).await["state"], "revoked");
    // What runs goes on, and says so.
    let running =
        ask(&server, "PATCH", "/api/v1/installations/lines").admin().json(json!({ "version": "0.1.0" })).await;
    let running = running.with(200);
    assert_eq!((&running["signature"]["state"], &running["activity"]["state"]), (&json!("revoked"), &json!("running")));
    // It can be stopped, and is not put to work again.
    let set_mode =
        |mode: &str| ask(&server, "PATCH", "/api/v1/installations/lines").admin().json(json!({ "mode": mode }));
    set_mode("live").await.with(200);
    set_mode("disabled").await.with(200);
    let refused = set_mode("live").await.problem(400, "signature-refused");
    assert!(refused["message"].as_str().unwrap().contains("is not started again"), "{refused}");
    let audit = ask(&server, "GET", "/api/v1/audit?limit=500").admin().empty().await.with(200);
    let rows = audit["items"].as_array().unwrap();
    for (action, times) in [
        ("publisher.create", 1),
        ("publisher.add-key", 1),
        ("publisher.revoke-key", 1),
        ("signature-policy.change", 3),
        ("plugin.upload", 1),
        ("plugin.sign", 0),
    ] {
        assert_eq!(rows.iter().filter(|row| row["action"] == action).count(), times, "{action}");
    }
}

/// The same upload again was a change each time, and put the time at which its signature came to now.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_upload_again_changes_nothing_and_a_good_signature_replaces_a_revoked_one() {
    let server = server();
    let [key, next] = [(), ()].map(|()| SecretKey::generate().unwrap());
    let text = signed(&key, CONNECTOR);
    upload(&server, Some(&text)).await.with(201);
    let row = || {
        let id: PluginId = "fixture/connector".parse().unwrap();
        server.app().catalogue.workspace(FIRST).unwrap().versions(&id).next_back().cloned().unwrap()
    };
    let audited = || ask(&server, "GET", "/api/v1/audit?limit=500&action=plugin.sign").admin().empty();
    // As if it had come long ago.
    let mut earlier = PluginRow::clone(&row());
    earlier.signature.as_mut().unwrap().received_at = Timestamp(1);
    let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
    change.put_plugin(earlier);
    drop(change.commit().unwrap());
    assert_eq!(upload(&server, Some(&text)).await.with(200)["signature"]["state"], "unknown-key");
    assert_eq!(row().signature.as_ref().unwrap().received_at, Timestamp(1));
    assert_eq!(audited().await.with(200)["items"], json!([]));

    publish(&server, "/api/v1/publishers", &key).await;
    let revoke = format!("/api/v1/publishers/acme/keys/{}/revoke", key.public().number());
    ask(&server, "POST", &revoke).admin().json(json!({ "why": "it was stolen" })).await.with(200);
    upload(&server, Some(&text)).await.problem(400, "signature-refused");
    let body = json!({ "public_key": next.public().file() });
    ask(&server, "POST", "/api/v1/publishers/acme/keys").admin().json(body).await.with(200);
    assert_eq!(upload(&server, Some(&signed(&next, CONNECTOR))).await.with(200)["signature"]["state"], "valid");
    let lines = audited().await.with(200)["items"].clone();
    assert_eq!(lines.as_array().map(Vec::len), Some(1));
    let of = |side: &str| lines[0][side]["signature"]["key_id"].as_str().map(str::to_owned);
    let [before, after] = [&key, &next].map(|key| Some(key.public().number().to_string()));
    assert_eq!((of("before"), of("after")), (before, after));
    assert_eq!(lines[0]["before"]["signature"]["state"], "revoked");
}

/// The same bytes came back unsigned, and nobody knew any more that their signature was revoked.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_signature_outlives_its_version() {
    let server = server();
    let [key, next] = [(), ()].map(|()| SecretKey::generate().unwrap());
    publish(&server, "/api/v1/publishers", &key).await;
    upload(&server, Some(&signed(&key, CONNECTOR))).await.with(201);
    let delete = || ask(&server, "DELETE", "/api/v1/plugins/fixture/connector/0.1.0").admin().empty();
    delete().await.with(204);
    // Without a signature it has the one that it had.
    assert_eq!(upload(&server, None).await.with(201)["signature"]["state"], "valid");
    delete().await.with(204);
    let revoke = format!("/api/v1/publishers/acme/keys/{}/revoke", key.public().number());
    ask(&server, "POST", &revoke).admin().json(json!({ "why": "it was stolen" })).await.with(200);
    upload(&server, None).await.problem(400, "signature-refused");
    upload(&server, Some(&signed(&next, CONNECTOR))).await.problem(400, "signature-refused");
    let opened =
        Catalogue::open(server.shared_store(), std::sync::Arc::clone(&server.app().clock), KeyRing::fixed()).unwrap();
    assert_eq!(opened.workspace(FIRST).unwrap().left_signatures.len(), 1, "nor does a start forget it");
    let body = json!({ "public_key": next.public().file() });
    ask(&server, "POST", "/api/v1/publishers/acme/keys").admin().json(body).await.with(200);
    assert_eq!(upload(&server, Some(&signed(&next, CONNECTOR))).await.with(201)["signature"]["state"], "valid");
    assert!(server.app().catalogue.workspace(FIRST).unwrap().left_signatures.is_empty());
    // The audit log names the key of each.
    let log = ask(&server, "GET", "/api/v1/audit?limit=500&action=plugin.").admin().empty().await.with(200);
    let key_of = |line: &Value| {
        let side = if line["action"] == "plugin.delete" { "before" } else { "after" };
        line[side]["signature"]["key_id"].as_str().map(str::to_owned)
    };
    let keys: Vec<_> = log["items"].as_array().unwrap().iter().filter_map(key_of).collect();
    let [key, next] = [key, next].map(|key| key.public().number().to_string());
    assert_eq!(keys, [key.clone(), key.clone(), key.clone(), key, next]);
}

/// Removing the publisher made the stolen key an unknown one, and adding it again a good one.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_outlives_its_publisher() {
    let server = server();
    let key = SecretKey::generate().unwrap();
    upload(&server, Some(&signed(&key, CONNECTOR))).await.with(201);
    for place in ["/api/v1/publishers", "/api/v1/host/publishers"] {
        publish(&server, place, &key).await;
        assert_eq!(signature_of(&server).await["state"], "valid");
        let acme = format!("{place}/acme");
        let revoke = format!("{acme}/keys/{}/revoke", key.public().number());
        ask(&server, "POST", &revoke).admin().json(json!({ "why": "it was stolen" })).await.with(200);
        for _ in 0..2 {
            ask(&server, "DELETE", &acme).admin().empty().await.with(204);
        }
        let signature = signature_of(&server).await;
        assert_eq!((&signature["state"], &signature["publisher"]), (&json!("revoked"), &json!("acme")), "{place}");
        upload(&server, Some(&signed(&key, CONNECTOR))).await.problem(400, "signature-refused");
        install(&server, "lines").await.problem(400, "signature-refused");
        let left = ask(&server, "GET", &acme).admin().empty().await.with(200);
        assert_eq!((&left["removed"], &left["namespaces"]), (&json!(true), &json!([])));
        assert_eq!(left["keys"][0]["revoked"]["why"], "it was stolen");

        // Nobody gets the key again, whoever it is given to.
        let body = json!({ "public_key": key.public().file() });
        let add = |name: &str| ask(&server, "POST", &format!("{place}/{name}/keys")).admin().json(body.clone());
        add("acme").await.problem(404, "not-found");
        for name in ["acme", "other"] {
            put(&server, &format!("{place}/{name}"), json!({ "namespaces": ["fixture/*"] })).await;
            let refused = add(name).await.problem(409, "key-taken");
            assert!(refused["message"].as_str().unwrap().contains("it was stolen"), "{refused}");
            ask(&server, "DELETE", &format!("{place}/{name}")).admin().empty().await.with(204);
        }
        ask(&server, "GET", &format!("{place}/other")).admin().empty().await.problem(404, "not-found");
        let clock = std::sync::Arc::clone(&server.app().clock);
        let opened = Catalogue::open(server.shared_store(), clock, KeyRing::fixed()).unwrap();
        let tables = opened.tables();
        let kept = if place.contains("host") { &tables.publishers } else { &tables.workspaces[&FIRST].publishers };
        assert!(kept["acme"].is_removed() && kept["acme"].keys[0].revoked.is_some(), "nor does a start forget it");
        if !place.contains("host") {
            // As if the workspace had never known of it: the host's holds by itself.
            let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
            change.remove_publisher("acme");
            drop(change.commit().unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_only_looked_at_is_judged_and_not_kept() {
    let server = server();
    let [key, stranger] = [(), ()].map(|()| SecretKey::generate().unwrap());
    publish(&server, "/api/v1/publishers", &key).await;
    let look = |signature: Option<String>| {
        let question = ask(&server, "POST", "/api/v1/plugins?dry_run=true").admin();
        let question = signature.iter().fold(question, |question, text| question.header("kith-signature", text));
        question.send(CONNECTOR)
    };
    let state = |answer: Response| answer.with(200)["signature"]["state"].clone();
    assert_eq!(state(look(Some(signed(&key, CONNECTOR))).await), "valid");
    assert_eq!(state(look(Some(signed(&stranger, CONNECTOR))).await), "unknown-key");
    look(Some(signed(&key, b"other"))).await.problem(400, "bad-signature");
    put(&server, "/api/v1/signature-policy", json!({ "policy": "required" })).await;
    look(None).await.problem(400, "signature-refused");
    ask(&server, "GET", "/api/v1/plugins/fixture/connector").admin().empty().await.problem(404, "not-found");
    upload(&server, Some(&signed(&key, CONNECTOR))).await.with(201);
    // It is the one that is sent which is judged, not the one that is here.
    look(Some(signed(&stranger, CONNECTOR))).await.problem(400, "signature-refused");
    let revoke = format!("/api/v1/publishers/acme/keys/{}/revoke", key.public().number());
    ask(&server, "POST", &revoke).admin().json(json!({ "why": "it was stolen" })).await.with(200);
    look(Some(signed(&key, CONNECTOR))).await.problem(400, "signature-refused");
}

/// A workspace's admin cannot meet the host's policy with a publisher of his own.
#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_policy_knows_the_hosts_publishers_alone() {
    let server = server_with(|config| config.signatures = SignaturePolicy::Required);
    let (own, of_host) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    publish(&server, "/api/v1/publishers", &own).await;
    let refused = upload(&server, Some(&signed(&own, CONNECTOR))).await.problem(400, "signature-refused");
    assert_eq!(refused["errors"].as_array().unwrap().len(), 1, "the workspace itself takes any: {refused}");
    let message = refused["message"].as_str().unwrap();
    let told = "which no publisher of the host has; the server counts the host's publishers alone, and `acme` is the workspace's";
    assert!(message.contains(told), "{message}");
    publish(&server, "/api/v1/host/publishers", &of_host).await;
    // And now the host alone signs for the vendor, which the workspace is told too.
    let refused = upload(&server, Some(&signed(&own, CONNECTOR))).await.problem(400, "signature-refused");
    assert!(refused["message"].as_str().unwrap().contains("the server has `signatures` at `required`"), "{refused}");
    assert_eq!(upload(&server, Some(&signed(&of_host, CONNECTOR))).await.with(201)["signature"]["state"], "valid");
    install(&server, "lines").await.with(201);
    // In every workspace, whose admins do not manage it.
    let (_, neighbour) = second_workspace(&server);
    ask(&server, "GET", "/api/v1/host/publishers").key(&neighbour).empty().await.problem(403, "denied");
    let theirs = ask(&server, "POST", "/api/v1/plugins").key(&neighbour);
    let theirs = theirs.header("kith-signature", &signed(&of_host, CONNECTOR)).send(CONNECTOR).await.with(201);
    assert_eq!(theirs["signature"]["publisher"], "acme");
    ask(&server, "DELETE", "/api/v1/host/publishers/acme").admin().empty().await.with(204);
    install(&server, "more").await.problem(400, "signature-refused");
    let log = ask(&server, "GET", "/api/v1/host/audit?action=publisher.").admin().empty().await.with(200);
    let actions: Vec<_> = log["items"].as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(actions.len(), 3, "{actions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_a_publisher_is_made_from_what_it_is() {
    let server = server();
    let path = "/api/v1/publishers/acme";
    ask(&server, "GET", path).admin().empty().await.problem(404, "not-found");
    // A version of what is not there is nothing to edit, whichever.
    for (path, body) in [
        (path, json!({ "namespaces": ["fixture/*"] })),
        ("/api/v1/host/publishers/acme", json!({ "namespaces": ["fixture/*"] })),
        ("/api/v1/tracking-plans/shop", json!({ "events": {} })),
        ("/api/v1/dictionary/event/Seen", json!({ "meaning": "somebody looked" })),
    ] {
        let made = ask(&server, "PUT", path).admin().header("if-match", "*").json(body).await;
        made.problem(412, "changed-meanwhile");
        ask(&server, "GET", path).admin().empty().await.problem(404, "not-found");
    }
    put(&server, path, json!({ "namespaces": ["fixture/*"] })).await;
    let read = ask(&server, "GET", path).admin().empty().await;
    let tag = read.headers["etag"].to_str().unwrap().to_owned();
    let other = json!({ "namespaces": ["other/*"] });
    put(&server, path, other.clone()).await;
    let stale = ask(&server, "PUT", path).admin().header("if-match", &tag).json(other).await;
    stale.problem(412, "changed-meanwhile");
    ask(&server, "DELETE", path).admin().header("if-match", &tag).empty().await.problem(412, "changed-meanwhile");
    let listed = ask(&server, "GET", "/api/v1/publishers").admin().empty().await.with(200);
    assert_eq!(listed["items"][0]["namespaces"], json!(["other/*"]));
    ask(&server, "DELETE", path).admin().empty().await.with(204);
}

/// A plugin of which 1.0.0 and 2.0.0 are there and 2.0.0 was installed as `level`, past the API, which would have to load it.
fn with_two_versions(server: &TestServer) -> PluginId {
    let row = plugin_row("level", PluginKind::TagModel);
    let id = row.manifest.id.clone();
    let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
    let mut newer = PluginRow { digest: "11".repeat(32), ..row.clone() };
    newer.manifest.version = Version::new(2, 0, 0);
    change.note_installed(&id, &newer.manifest.version);
    let version = newer.manifest.version.clone();
    change.put_plugin(row);
    change.put_plugin(newer);
    change.put_installation(InstallationRow { version, ..installation_row(901, "level") });
    drop(change.commit().unwrap());
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_is_asked_for() {
    let server = server();
    with_two_versions(&server);
    let older = json!({ "version": "1.0.0" });
    let refused = ask(&server, "PATCH", "/api/v1/installations/level").admin().json(older).await;
    let refused = refused.problem(409, "downgrade")["message"].as_str().unwrap().to_owned();
    assert!(
        refused.contains("test/level 1.0.0 is older than 2.0.0") && refused.contains("`allow_downgrade: true`"),
        "{refused}"
    );
    let wanted = json!({ "plugin": "test/level", "version": "1.0.0", "name": "other" });
    ask(&server, "POST", "/api/v1/installations").admin().json(wanted).await.problem(409, "downgrade");
    let pinned = json!({ "plugin": "test/level", "name": "other", "digest": "0".repeat(64) });
    ask(&server, "POST", "/api/v1/installations").admin().json(pinned).await.problem(409, "other-digest");
    // Who runs a yanked version is told what the way back needs.
    let yank = "/api/v1/plugins/test/level/2.0.0/yank";
    ask(&server, "POST", yank).admin().json(json!({ "reason": "it loses tags" })).await.with(200);
    let shown = ask(&server, "GET", "/api/v1/installations/level").admin().empty().await.with(200);
    assert_eq!(
        (&shown["yanked"]["instead"], &shown["yanked"]["allow_downgrade"]),
        (&json!("1.0.0"), &json!(true)),
        "{shown}"
    );
    let yanked = json!({ "plugin": "test/level", "version": "2.0.0", "name": "other" });
    let refused = ask(&server, "POST", "/api/v1/installations").admin().json(yanked).await;
    let refused = refused.problem(409, "version-yanked");
    let message = "test/level 2.0.0 was yanked: it loses tags; take 1.0.0 with `allow_downgrade: true`";
    assert_eq!(refused["message"], message);
    // And who names no version is told why the newest is not the one.
    let install = |plugin: &str| {
        let wanted = json!({ "plugin": plugin, "name": "other" });
        ask(&server, "POST", "/api/v1/installations").admin().json(wanted)
    };
    let refused = install("test/level").await.problem(409, "downgrade")["message"].as_str().unwrap().to_owned();
    assert!(
        refused.contains("2.0.0, which was installed here already and was yanked: it loses tags; send"),
        "{refused}"
    );
    let misspelt = install("tset/level").await.problem(400, "bad-input").to_string();
    assert!(misspelt.contains("no plugin `tset/level` was uploaded; did you mean `test/level`?"), "{misspelt}");
}

/// A version whose bytes may change is no release that others would be older than; who runs it goes back where somebody says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_dev_version_makes_no_release_an_older_one() {
    let server = server();
    let id = with_two_versions(&server);
    let dev: Version = "3.0.0-dev".parse().unwrap();
    let mut row = PluginRow { digest: "22".repeat(32), ..plugin_row("level", PluginKind::TagModel) };
    row.manifest.version = dev.clone();
    let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
    change.put_plugin(row);
    change.note_installed(&id, &dev);
    change.put_installation(InstallationRow { version: dev, ..installation_row(901, "level") });
    drop(change.commit().unwrap());
    assert_eq!(server.app().catalogue.workspace(FIRST).unwrap().highest_version(&id), Some(&Version::new(2, 0, 0)));
    let back = json!({ "version": "2.0.0" });
    let refused = ask(&server, "PATCH", "/api/v1/installations/level").admin().json(back).await;
    let refused = refused.problem(409, "downgrade");
    assert!(refused["message"].as_str().unwrap().contains("2.0.0 is older than 3.0.0-dev"), "{refused}");
}

/// The highest version is remembered when no installation tells it any more, of a release before that did not write it down too.
#[tokio::test(flavor = "multi_thread")]
async fn the_highest_version_is_kept_over_a_start() {
    let server = server();
    let id = with_two_versions(&server);
    let back = |id: &PluginId| {
        let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
        change.note_installed(id, &Version::new(1, 0, 0));
        change.put_installation(installation_row(901, "level"));
        drop(change.commit().unwrap());
    };
    back(&id);
    let store = server.shared_store();
    let clock = std::sync::Arc::clone(&server.app().clock);
    let opened = Catalogue::open(store, clock, KeyRing::default()).unwrap();
    let tables = opened.workspace(FIRST).unwrap();
    assert_eq!(tables.installation("level").unwrap().version, Version::new(1, 0, 0));
    assert_eq!(tables.highest_version(&id), Some(&Version::new(2, 0, 0)));
}
