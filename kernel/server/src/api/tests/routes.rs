//! Every route as the description has it, and the admin API's behaviour.

use serde_json::{Value, json};

use super::{FIRST, Response, ask, key_with, second_workspace, source};
use crate::api::openapi::document;
use crate::auth::Scope;
use crate::serve::tests::{TestServer, server};

/// A documented operation: method, path, and security scheme with its scopes.
pub(super) type Documented = (String, String, Option<(String, Vec<String>)>);

/// Each documented operation.
pub(super) fn operations() -> Vec<Documented> {
    let document = serde_json::to_value(document()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            // An empty scheme says that the route is open, whatever a key adds.
            let scheme = operation["security"].as_array().and_then(|all| all[0].as_object()?.iter().next());
            let scheme = scheme.map(|(name, scopes)| {
                let scopes = scopes.as_array().unwrap().iter().map(|scope| scope.as_str().unwrap().to_owned());
                (name.clone(), scopes.collect())
            });
            all.push((method.to_uppercase(), path.clone(), scheme));
        }
    }
    all.sort_by(|one, other| (&one.1, &one.0).cmp(&(&other.1, &other.0)));
    all
}

#[test]
fn the_routes_are_these() {
    let lines = operations().into_iter().map(|(method, path, scheme)| {
        let scope = scheme.map_or("open".to_owned(), |(name, scopes)| format!("{name} {}", scopes.join(" ")));
        format!("{method} {path} ({scope})\n")
    });
    let summary: String = lines.collect();
    assert_eq!(summary, include_str!("routes.txt"), "the public API changed; where that is meant, change routes.txt");
}

#[test]
fn the_description_is_openapi_3_1() {
    let document = serde_json::to_value(document()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let text = document.to_string();
    let references = text.split("\"$ref\":\"#/components/schemas/").skip(1);
    for reference in references {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "schema {name} is described");
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
            let mut names: Vec<&Value> = parameters.iter().map(|parameter| &parameter["name"]).collect();
            let described = names.len();
            names.dedup();
            assert_eq!(names.len(), described, "{method} {path} describes a parameter twice: {names:?}");
            let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
            assert_eq!(in_path, path.matches('{').count(), "{method} {path}: {names:?}");
        }
    }
}

/// Two types of one name would be described as one of them, and the other's answers wrongly.
#[test]
fn each_described_type_has_a_name_of_its_own() {
    fn sources(folder: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources(&path, found),
                false => found.push(std::fs::read_to_string(path).unwrap()),
            }
        }
    }
    let mut texts = Vec::new();
    sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
    let mut names = Vec::new();
    for text in &texts {
        for described in text.split("ToSchema)]\n").skip(1) {
            let words = described.split_whitespace().skip_while(|word| *word != "struct" && *word != "enum");
            names.extend(words.skip(1).take(1).map(|name| name.trim_end_matches(['{', ';', '<', 'T', '>']).to_owned()));
        }
    }
    names.sort();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone()).collect();
    assert!(names.len() > 30 && twice.is_empty(), "{twice:?} of {}", names.len());
}

#[test]
fn every_refusal_is_described_as_the_problem_that_is_sent() {
    let document = serde_json::to_value(document()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            for (status, response) in responses.iter().filter(|(status, _)| status.starts_with(['4', '5'])) {
                let content = response["content"].as_object().unwrap();
                let is_problem = content.contains_key("application/problem+json");
                assert!(is_problem || path == "/readyz", "{method} {path} {status}: {content:?}");
            }
            let has = |status: &str| responses.contains_key(status);
            assert!(has("429"), "{method} {path}");
            // A webhook's address is its key; what is asked of it beside that is a signature.
            let is_signed = path.starts_with("/hooks/") || path.starts_with("/callbacks/");
            assert_eq!(operation["security"].is_array() || is_signed, has("401"), "{method} {path}");
            let takes_body = operation["requestBody"].is_object();
            assert_eq!(takes_body, has("415") && has("408"), "{method} {path}");
        }
    }
    let parameters = document["paths"]["/api/v1/audit"]["get"]["parameters"].as_array().unwrap();
    let limit = parameters.iter().find(|parameter| parameter["name"] == "limit").unwrap();
    assert_eq!((&limit["schema"]["minimum"], &limit["schema"]["maximum"]), (&json!(1), &json!(500)));
}

/// A path with something in each of its places.
fn filled(path: &str) -> String {
    let fill = |part: &str| if part.starts_with('{') { "nothing".to_owned() } else { part.to_owned() };
    path.split('/').map(fill).collect::<Vec<_>>().join("/")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_needs_its_scope_and_no_other() {
    let server = server();
    let all: Vec<Scope> = Scope::EACH.into_iter().chain([Scope::WorkspacesAdmin]).collect();
    for (method, path, scheme) in operations() {
        let Some((scheme, scopes)) = scheme else { continue };
        let path = filled(&path);
        ask(&server, &method, &path).empty().await.problem(401, "unauthenticated");
        ask(&server, &method, &path).key("kith_api_x").empty().await.problem(401, "unauthenticated");
        if scheme != "key" {
            continue;
        }
        for scope in &scopes {
            // The figures are the host's, too.
            let opens =
                |other: Scope| other.as_str() == scope || (path == "/metrics" && other == Scope::WorkspacesAdmin);
            let others: Vec<Scope> = all.iter().copied().filter(|other| !opens(*other)).collect();
            let wrong = key_with(&server, FIRST, &others, None);
            ask(&server, &method, &path).key(&wrong).empty().await.problem(403, "denied");
        }
        let only: Vec<Scope> =
            all.iter().copied().filter(|one| scopes.iter().any(|scope| one.as_str() == scope)).collect();
        let right = key_with(&server, FIRST, &only, None);
        let answer = ask(&server, &method, &path).key(&right).empty().await;
        assert!(!matches!(answer.status.as_u16(), 401 | 403 | 405 | 500), "{method} {path}: {}", answer.status);
    }
}

/// Some of these bodies may be empty objects; the empty list went for one.
#[tokio::test(flavor = "multi_thread")]
async fn no_route_takes_a_list_for_an_object() {
    let server = server();
    let all: Vec<Scope> = Scope::EACH.into_iter().chain([Scope::WorkspacesAdmin]).collect();
    let key = key_with(&server, FIRST, &all, None);
    let document = serde_json::to_value(document()).unwrap();
    let mut told = 0;
    for (method, path, scheme) in operations() {
        // What is sent to a source is for its connector to read.
        let reads = scheme.is_some_and(|(name, scopes)| name == "key" && scopes != ["ingest"]);
        let content = &document["paths"][&path][method.to_lowercase()]["requestBody"]["content"];
        if !reads || !content["application/json"].is_object() {
            continue;
        }
        let answer = ask(&server, &method, &filled(&path)).key(&key).json(json!([])).await;
        let mistake = answer.problem(400, "bad-input")["errors"][0].clone();
        let is_of_path = mistake["path"] == "path";
        assert!(is_of_path || mistake["path"] == "body", "{method} {path}: {mistake}");
        told += u32::from(mistake["message"] == "is a list; write an object");
    }
    assert!(told > 25, "{told}");
    let plan = "/api/v1/tracking-plans/a";
    for (body, place) in [(json!([null, null]), "body"), (json!({ "traits": [null, null] }), "traits")] {
        let refused = ask(&server, "PUT", plan).admin().json(body).await.problem(400, "bad-input");
        assert_eq!(refused["errors"][0], json!({ "path": place, "message": "is a list; write an object" }));
    }
    ask(&server, "PUT", plan).admin().json(json!({})).await.with(200);
    // A change is merged into what there is, and then read.
    let change = ask(&server, "PATCH", plan).admin().json(json!({ "traits": [null, null] })).await;
    assert_eq!(change.problem(400, "bad-input")["errors"][0]["path"], "traits");
    let scopes = ask(&server, "POST", "/api/v1/keys").admin().json(json!(["x", ["profiles:read"]])).await;
    scopes.problem(400, "bad-input");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_route_is_a_problem_document_too() {
    let server = server();
    ask(&server, "GET", "/nothing").empty().await.problem(404, "no-route");
    let other = ask(&server, "PUT", "/api/v1/audiences").admin().empty().await;
    assert!(other.headers["allow"].to_str().unwrap().contains("POST"));
    other.problem(405, "method-not-allowed");
    ask(&server, "POST", "/api/v1/audiences/count").admin().send("{}").await.problem(415, "unsupported-media-type");
    let large = json!({ "condition": " ".repeat(2 << 20) });
    ask(&server, "POST", "/api/v1/audiences/count").admin().json(large).await.problem(413, "too-large");
    let wrong = json!({ "condition": "true", "workspace": 2 });
    let body = ask(&server, "POST", "/api/v1/audiences/count").admin().json(wrong).await.problem(400, "bad-input");
    assert_eq!(body["errors"][0]["path"], "workspace");
    let body = ask(&server, "GET", "/api/v1/deliveries?limit=0").admin().empty().await.problem(400, "bad-input");
    assert_eq!(body["errors"][0]["path"], "?limit");
    ask(&server, "GET", "/api/v1/deliveries?limit=x").admin().empty().await.problem(400, "bad-input");
}

#[test]
fn a_panic_is_an_internal_error_without_its_text() {
    let response = crate::api::panicked(Box::new("the panic's text".to_owned()));
    assert_eq!(response.status(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_comes_back() {
    let server = server();
    let answer = ask(&server, "GET", "/nothing").header("x-request-id", "abc-1").empty().await;
    assert_eq!(answer.headers["x-request-id"], "abc-1");
    assert_eq!(answer.with(404)["request_id"], "abc-1");
    let answer = ask(&server, "GET", "/nothing").header("x-request-id", "a b").empty().await;
    assert_ne!(answer.with(404)["request_id"], "a b");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_open_and_says_how_far_the_work_is() {
    let server = server();
    assert_eq!(ask(&server, "GET", "/healthz").empty().await.with(200)["status"], "ok");
    let open = ask(&server, "GET", "/readyz").empty().await.with(200);
    assert_eq!(open, json!({ "status": "ready" }), "how much is written is nobody's business without a key");
    let known = ask(&server, "GET", "/readyz").admin().empty().await.with(200);
    assert!(["head", "behind", "backlog"].iter().all(|figure| known[figure].is_u64()), "{known}");
    ask(&server, "GET", "/readyz").header("authorization", "Bearer kith_wrong").empty().await.with(401);
    let workspace = ask(&server, "GET", "/api/v1/workspace").admin().empty().await.with(200);
    assert_eq!((&workspace["name"], &workspace["totals"]["profiles"]), (&json!("default"), &json!(0)));
    assert_eq!(ask(&server, "GET", "/api/v1/openapi.json").empty().await.with(200)["info"]["title"], "Kith");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_used_listed_and_revoked() {
    let server = server();
    let wanted =
        json!({ "title": "reader", "scopes": ["profiles:read", "keys:admin"], "expires_at": "2030-01-01T00:00:00Z" });
    let made = ask(&server, "POST", "/api/v1/keys").admin().json(wanted).await.with(201);
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    ask(&server, "GET", "/api/v1/profiles?identifier=email:a@b.c").key(key).empty().await.problem(404, "not-found");
    let listed = ask(&server, "GET", "/api/v1/keys").key(key).empty().await.with(200);
    assert!(!listed.to_string().contains(key), "a key is shown once");
    let more = json!({ "title": "x", "scopes": ["*"] });
    ask(&server, "POST", "/api/v1/keys").key(key).json(more).await.problem(403, "denied");
    ask(&server, "DELETE", &format!("/api/v1/keys/{id}")).admin().empty().await.with(204);
    ask(&server, "GET", "/api/v1/keys").key(key).empty().await.problem(401, "unauthenticated");
    ask(&server, "DELETE", &format!("/api/v1/keys/{id}")).admin().empty().await.problem(404, "not-found");
    let last = &ask(&server, "GET", "/api/v1/keys").admin().empty().await.with(200)["items"];
    let last = last.as_array().unwrap().iter().find(|key| key["revoked_at"].is_null()).unwrap();
    let path = format!("/api/v1/keys/{}", last["id"].as_str().unwrap());
    ask(&server, "DELETE", &path).admin().empty().await.problem(409, "last-admin-key");
    let audit = ask(&server, "GET", "/api/v1/audit?action=key.").admin().empty().await.with(200);
    let actions: Vec<&str> =
        audit["items"].as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap()).collect();
    let changes: Vec<&str> = actions.into_iter().filter(|action| *action != "key.refused").collect();
    assert_eq!(changes, ["key.create", "key.revoke"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_and_titles_have_a_length() {
    let server = server();
    let long = json!({ "title": "x".repeat(257), "scopes": ["metrics:read"] });
    let refused = ask(&server, "POST", "/api/v1/keys").admin().json(long).await.problem(413, "budget-exhausted");
    assert_eq!(refused["budget"], "title-text");
    for _ in 0..3 {
        let wanted = json!({ "title": "x".repeat(256), "scopes": ["metrics:read"] });
        ask(&server, "POST", "/api/v1/keys").admin().json(wanted).await.with(201);
    }
    let (mut ids, mut path) = (Vec::new(), "/api/v1/keys?limit=2".to_owned());
    loop {
        let page = ask(&server, "GET", &path).admin().empty().await.with(200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        ids.extend(items.iter().map(|key| key["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/keys?limit=2&cursor={next}");
    }
    assert_eq!(ids.len(), 4, "with the first admin key");
    assert!(ids.is_sorted());
    for list in ["keys", "plugins", "installations", "audiences", "deliveries", "dead-letters", "audit"] {
        let foreign = format!("/api/v1/{list}?cursor=zz");
        ask(&server, "GET", &foreign).admin().empty().await.problem(400, "bad-input");
        let many = format!("/api/v1/{list}?limit=501");
        ask(&server, "GET", &many).admin().empty().await.problem(400, "bad-input");
    }
    for unpaged in ["audit/export", "dead-letters/counts"] {
        let none = format!("/api/v1/{unpaged}?limit=0");
        ask(&server, "GET", &none).admin().empty().await.problem(400, "bad-input");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_one_host() {
    let server = server();
    let two = ask(&server, "GET", "/healthz").header("host", "a.example").header("host", "b.example");
    two.empty().await.problem(400, "bad-host");
    ask(&server, "GET", "/healthz").header("host", "a.example").empty().await.with(200);
    let none = axum::http::Request::get("/healthz").body(axum::body::Body::empty()).unwrap();
    let router = crate::api::router(std::sync::Arc::clone(server.app()));
    let answer = tower::ServiceExt::oneshot(router.clone(), none).await.unwrap();
    assert_eq!(answer.status(), 400);
    let old = axum::http::Request::get("/healthz").version(axum::http::Version::HTTP_10);
    let answer = tower::ServiceExt::oneshot(router, old.body(axum::body::Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_holder_of_a_scope_stays() {
    let server = server();
    let first = &ask(&server, "GET", "/api/v1/keys").admin().empty().await.with(200)["items"][0]["id"];
    let path = format!("/api/v1/keys/{}", first.as_str().unwrap());
    // The first key is the host's, too, and would stay for that alone.
    let host = json!({ "title": "x", "scopes": ["workspaces:admin"] });
    ask(&server, "POST", "/api/v1/keys").admin().json(host).await.with(201);
    let keys_alone = json!({ "title": "x", "scopes": ["keys:admin"] });
    ask(&server, "POST", "/api/v1/keys").admin().json(keys_alone).await.with(201);
    let refused = ask(&server, "DELETE", &path).admin().empty().await.problem(409, "last-holder");
    assert!(refused["message"].as_str().unwrap().contains("`plugins:admin`"), "{refused}");
    let all = json!({ "title": "x", "scopes": ["*"] });
    ask(&server, "POST", "/api/v1/keys").admin().json(all).await.with(201);
    ask(&server, "DELETE", &path).admin().empty().await.with(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_expire() {
    let server = server();
    let wanted = json!({ "title": "short", "scopes": ["metrics:read"], "expires_at": "2026-09-22T00:00:00Z" });
    let made = ask(&server, "POST", "/api/v1/keys").admin().json(wanted).await.with(201);
    let key = made["key"].as_str().unwrap();
    ask(&server, "GET", "/api/v1/workspace").key(key).empty().await.with(200);
    server.clock.set("2026-09-22T00:00:00Z".parse().unwrap());
    ask(&server, "GET", "/api/v1/workspace").key(key).empty().await.problem(401, "unauthenticated");
}

async fn make_audience(server: &TestServer, name: &str, condition: &str) -> Response {
    let body = json!({ "name": name, "condition": condition });
    ask(server, "POST", "/api/v1/audiences").admin().json(body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn audiences_are_defined_changed_and_removed() {
    let server = server();
    let bad = make_audience(&server, "bad", "traits.city ==").await.problem(400, "bad-expression");
    assert_eq!(bad["errors"][0]["path"], "condition");
    make_audience(&server, "Bad Name", "true").await.problem(400, "bad-input");
    let made = make_audience(&server, "berlin", "traits.city == 'Berlin'").await.with(201);
    assert_eq!((&made["name"], &made["title"]), (&json!("berlin"), &json!("berlin")));
    make_audience(&server, "berlin", "true").await.problem(409, "name-taken");
    let change = json!({ "title": "In Berlin", "on_enter": null });
    let changed = ask(&server, "PATCH", "/api/v1/audiences/berlin").admin().json(change).await.with(200);
    assert_eq!(changed["title"], "In Berlin");
    let on_enter = json!({ "on_enter": { "channel": "none", "purpose": "x", "payload": {} } });
    let body = ask(&server, "PATCH", "/api/v1/audiences/berlin").admin().json(on_enter).await.with(400);
    assert_eq!(body["errors"][0]["path"], "on_enter.channel");
    let listed = ask(&server, "GET", "/api/v1/audiences").admin().empty().await.with(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    ask(&server, "DELETE", "/api/v1/audiences/berlin").admin().empty().await.with(204);
    ask(&server, "GET", "/api/v1/audiences/berlin").admin().empty().await.problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_thing_answers_exactly_as_a_missing_one() {
    let server = server();
    let (_, foreign_key) = second_workspace(&server);
    make_audience(&server, "thing", "true").await.with(201);
    let write_key = source(&server, FIRST);
    ask(&server, "POST", "/v1/batch").key(&write_key).send("ada").await.with(200);
    let profile = ask(&server, "GET", "/api/v1/profiles?identifier=user_id:ada").admin().empty().await.with(200);
    let key = ask(&server, "GET", "/api/v1/keys").admin().empty().await.with(200)["items"][0]["id"].clone();
    let (id, absent) = (profile["id"].as_str().unwrap(), "0".repeat(32));
    let pairs = [
        ("GET", "/api/v1/audiences/thing".to_owned(), "/api/v1/audiences/other".to_owned()),
        ("DELETE", "/api/v1/audiences/thing".to_owned(), "/api/v1/audiences/other".to_owned()),
        ("GET", "/api/v1/audiences/thing/members".to_owned(), "/api/v1/audiences/other/members".to_owned()),
        ("GET", "/api/v1/installations/lines".to_owned(), "/api/v1/installations/other".to_owned()),
        ("DELETE", "/api/v1/installations/lines".to_owned(), "/api/v1/installations/other".to_owned()),
        ("POST", "/api/v1/installations/lines/fit".to_owned(), "/api/v1/installations/other/fit".to_owned()),
        ("POST", "/api/v1/sources/lines/records".to_owned(), "/api/v1/sources/other/records".to_owned()),
        ("GET", format!("/api/v1/profiles/{id}"), format!("/api/v1/profiles/{absent}")),
        ("GET", format!("/api/v1/profiles/{id}/events"), format!("/api/v1/profiles/{absent}/events")),
        ("DELETE", format!("/api/v1/keys/{}", key.as_str().unwrap()), "/api/v1/keys/other".to_owned()),
        (
            "GET",
            "/api/v1/profiles?identifier=user_id:ada".to_owned(),
            "/api/v1/profiles?identifier=user_id:eve".to_owned(),
        ),
    ];
    for (method, foreign, missing) in pairs {
        let shape = |answer: Response| {
            let mut body: Value = answer.problem(404, "not-found");
            body["request_id"] = Value::Null;
            let last = |text: &str| {
                text.split('/')
                    .rfind(|part| !matches!(*part, "members" | "events" | "fit" | "records"))
                    .unwrap()
                    .to_owned()
            };
            let named = [last(&foreign), last(&missing), "user_id:ada".into(), "user_id:eve".into()];
            let sources = ["lines", "thing", "other"].map(str::to_owned);
            named.iter().chain(&sources).fold(body.to_string(), |text, name| text.replace(name.as_str(), "NAME"))
        };
        let one = shape(ask(&server, method, &foreign).key(&foreign_key).empty().await);
        let other = shape(ask(&server, method, &missing).key(&foreign_key).empty().await);
        assert_eq!(one, other, "{method} {foreign}");
    }
    ask(&server, "GET", "/api/v1/audiences/thing").admin().empty().await.with(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_plugin_are_refused_with_the_reason() {
    let server = server();
    let body = ask(&server, "POST", "/api/v1/plugins").admin().send("nonsense").await.problem(400, "bad-component");
    assert!(body["message"].as_str().unwrap().contains("not a WebAssembly component"), "{body}");
    let large = vec![0_u8; (8 << 20) + 1];
    ask(&server, "POST", "/api/v1/plugins").admin().send(large).await.problem(413, "too-large");
    let wanted = json!({ "plugin": "kith/none" });
    let body = ask(&server, "POST", "/api/v1/installations").admin().json(wanted).await.with(400);
    assert_eq!(body["errors"][0]["path"], "plugin");
}
