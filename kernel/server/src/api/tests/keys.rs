//! Keys over the API: what a key can do to others, roles, and ends.

use serde_json::{Value, json};

use super::{FIRST, ask, key_with, source};
use crate::auth::{Role, Scope};
use crate::serve::tests::{ADMIN_KEY, TestServer, server};

async fn made(server: &TestServer, key: &str, body: Value) -> Value {
    ask(server, "POST", "/api/v1/keys").key(key).json(body).await.with(201)
}

async fn ids(server: &TestServer) -> Vec<(String, Vec<String>)> {
    let listed = ask(server, "GET", "/api/v1/keys?limit=500").admin().empty().await.with(200);
    let scopes =
        |key: &Value| key["scopes"].as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect();
    let keys = listed["items"].as_array().unwrap().iter().filter(|key| key["revoked_at"].is_null());
    keys.map(|key| (key["id"].as_str().unwrap().to_owned(), scopes(key))).collect()
}

/// Each scope against each other: who has `keys:admin` and one scope more revokes keys of just these.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_revokes_what_it_could_make_and_nothing_else() {
    let server = server();
    for own in Scope::EACH {
        let caller = key_with(&server, FIRST, &[Scope::KeysAdmin, own], None);
        for of in Scope::EACH {
            let id = made(&server, ADMIN_KEY, json!({ "title": "x", "scopes": [of] })).await["id"].clone();
            let path = format!("/api/v1/keys/{}", id.as_str().unwrap());
            let revoked = ask(&server, "DELETE", &path).key(&caller).empty().await;
            let body = json!({ "title": "y", "scopes": [of] });
            let makes = ask(&server, "POST", "/api/v1/keys").key(&caller).json(body).await;
            match of == own || of == Scope::KeysAdmin {
                true => {
                    revoked.with(204);
                    makes.with(201);
                }
                false => {
                    revoked.problem(403, "denied");
                    makes.problem(403, "denied");
                }
            }
        }
    }
    // The trial's case: one with `keys:admin` alone and the key of everything.
    let caller = key_with(&server, FIRST, &[Scope::KeysAdmin], None);
    key_with(&server, FIRST, &[Scope::All], None);
    for (id, scopes) in ids(&server).await {
        if scopes.contains(&"*".to_owned()) {
            let path = format!("/api/v1/keys/{id}");
            ask(&server, "DELETE", &path).key(&caller).empty().await.problem(403, "denied");
        }
    }
    // A source's write key is replaced by whoever may install sources.
    let write_key = source(&server, FIRST);
    let write = write_key.split('_').nth(2).unwrap();
    let installer = key_with(&server, FIRST, &[Scope::KeysAdmin, Scope::PluginsAdmin], None);
    ask(&server, "DELETE", &format!("/api/v1/keys/{write}")).key(&installer).empty().await.with(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_its_scopes_and_reads() {
    let server = server();
    for role in Role::ALL {
        let made = made(&server, ADMIN_KEY, json!({ "title": "r", "role": role.as_str() })).await;
        assert_eq!((&made["role"], &made["scopes"]), (&json!(role.as_str()), &json!(role.scopes())), "{made}");
        let key = made["key"].as_str().unwrap();
        for (path, scope) in [
            ("/api/v1/workspace", Scope::MetricsRead),
            ("/api/v1/audit", Scope::AuditRead),
            ("/api/v1/audiences", Scope::AudiencesRead),
            ("/api/v1/deliveries", Scope::DeliveriesRead),
            ("/api/v1/dead-letters", Scope::DeliveriesRead),
            ("/api/v1/keys", Scope::KeysAdmin),
            ("/api/v1/installations", Scope::PluginsAdmin),
        ] {
            let answer = ask(&server, "GET", path).key(key).empty().await;
            match role.scopes().contains(&scope) {
                true => drop(answer.with(200)),
                false => drop(answer.problem(403, "denied")),
            }
        }
    }
    let body = json!({ "title": "r", "role": "analyst", "scopes": ["audit:read"] });
    let both = made(&server, ADMIN_KEY, body).await;
    assert_eq!((&both["role"], both["scopes"].as_array().unwrap().len()), (&Value::Null, 5), "{both}");
    let caller = key_with(&server, FIRST, &[Scope::KeysAdmin, Scope::MetricsRead], None);
    let auditor = json!({ "title": "r", "role": "auditor" });
    ask(&server, "POST", "/api/v1/keys").key(&caller).json(auditor).await.problem(403, "denied");
    for bad in [json!({ "title": "r", "role": "king" }), json!({ "title": "r" })] {
        ask(&server, "POST", "/api/v1/keys").admin().json(bad).await.problem(400, "bad-input");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_would_never_be_good_is_not_made() {
    let server = server();
    let now = kith_model::time::Clock::now(&server.clock);
    for (ms, is_good) in [(-86_400_000, false), (-1, false), (0, false), (1, true), (86_400_000, true)] {
        let body = json!({ "title": "x", "scopes": ["audit:read"], "expires_at": now.plus_ms(ms).to_string() });
        let answer = ask(&server, "POST", "/api/v1/keys").admin().json(body).await;
        match is_good {
            true => drop(answer.with(201)),
            false => drop(answer.problem(400, "bad-input")),
        }
    }
}
