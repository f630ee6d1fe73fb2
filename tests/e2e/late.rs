//! Requests that began while their key was good, and whose bodies come when it is so no more: nothing of them is done.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use kith_tests::{Client, TestKernel};
use serde_json::{Value, json};

/// A request of which the server has read the head, and who it is from, and now waits for the body.
struct Late {
    stream: TcpStream,
    body: String,
}

impl Late {
    fn begin(kernel: &TestKernel, key: &str, (method, path, body): &(&str, String, Value)) -> Late {
        let mut stream = TcpStream::connect(kernel.url().trim_start_matches("http://")).unwrap();
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: kith\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // It is sent when the body is wanted, which is after the key was looked at.
        let mut wanted = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        stream.read_exact(&mut wanted).unwrap();
        assert_eq!(String::from_utf8_lossy(&wanted), "HTTP/1.1 100 Continue\r\n\r\n", "{method} {path}");
        Late { stream, body }
    }

    /// The status of the answer, and its code.
    fn end(mut self) -> (u16, String) {
        self.stream.write_all(self.body.as_bytes()).unwrap();
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let problem: Value = serde_json::from_str(body).unwrap_or_default();
        (status, problem["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// A workspace with a source; its admin's key, the source's write key, and a client with the first.
fn workspace(kernel: &TestKernel, name: &str) -> (String, String, Client) {
    let made = kernel.admin().post("/api/v1/workspaces", &json!({ "name": name, "time_zone": "UTC" })).is(201);
    let admin = kernel.caller(made["key"].as_str().unwrap());
    let source = kernel.install_as(&admin, "kith/segment", json!({ "name": "web" }));
    (made["key"].as_str().unwrap().to_owned(), source["write_key"].as_str().unwrap().to_owned(), admin)
}

/// Requests with a body that change something, or tell something of people.
fn requests() -> Vec<(&'static str, String, Value)> {
    let installation = "/api/v1/installations/web";
    vec![
        ("POST", "/api/v1/keys".to_owned(), json!({ "title": "late", "scopes": ["audiences:read"] })),
        ("POST", "/api/v1/audiences".to_owned(), json!({ "name": "late", "condition": "true" })),
        ("POST", "/api/v1/audiences/count".to_owned(), json!({ "condition": "true" })),
        ("PUT", "/api/v1/tracking-plans/late".to_owned(), json!({ "sources": [] })),
        ("PATCH", installation.to_owned(), json!({ "mode": "disabled" })),
        ("POST", "/api/v1/sources/web/records".to_owned(), json!({ "type": "track", "event": "Late", "userId": "u" })),
    ]
}

fn track() -> (&'static str, String, Value) {
    ("POST", "/v1/track".to_owned(), json!({ "type": "track", "event": "Late", "userId": "u" }))
}

fn nothing_was_done(admin: &Client) {
    assert_eq!(admin.get("/api/v1/audiences").is(200)["items"], json!([]));
    assert_eq!(admin.get("/api/v1/tracking-plans").is(200)["items"], json!([]));
    assert_eq!(admin.get("/api/v1/installations/web").is(200)["mode"], "live");
    let keys = admin.get("/api/v1/keys").is(200);
    let titles: Vec<&Value> = keys["items"].as_array().unwrap().iter().map(|key| &key["title"]).collect();
    assert!(!titles.contains(&&json!("late")), "{titles:?}");
    assert_eq!(admin.get("/api/v1/workspace").is(200)["totals"]["profiles"], 0);
}

#[test]
fn a_key_that_is_revoked_does_nothing_more() {
    let kernel = TestKernel::start();
    let (_, write_key, admin) = workspace(&kernel, "shop");
    let made = admin.post("/api/v1/keys", &json!({ "title": "operator", "scopes": ["*"] })).is(201);
    let key = made["key"].as_str().unwrap();
    let mut late: Vec<(String, Late)> =
        requests().iter().map(|request| (request.1.clone(), Late::begin(&kernel, key, request))).collect();
    admin.delete(&format!("/api/v1/keys/{}", made["id"].as_str().unwrap())).is(204);
    let keys = admin.get("/api/v1/keys").is(200);
    let of_source = keys["items"].as_array().unwrap().iter().find(|key| key["source"] == "web").unwrap();
    late.push(("/v1/track".to_owned(), Late::begin(&kernel, &write_key, &track())));
    admin.delete(&format!("/api/v1/keys/{}", of_source["id"].as_str().unwrap())).is(204);
    for (path, request) in late {
        assert_eq!(request.end(), (401, "unauthenticated".to_owned()), "{path}");
    }
    nothing_was_done(&admin);
}

#[test]
fn a_workspace_that_is_suspended_is_changed_no_more() {
    let kernel = TestKernel::start();
    let (key, write_key, admin) = workspace(&kernel, "shop");
    let late: Vec<(String, Late)> =
        requests().iter().map(|request| (request.1.clone(), Late::begin(&kernel, &key, request))).collect();
    let sent = Late::begin(&kernel, &write_key, &track());
    kernel.admin().patch("/api/v1/workspaces/shop", &json!({ "state": "suspended" })).is(200);
    for (path, request) in late {
        let status = if path.contains("/records") { 503 } else { 403 };
        assert_eq!(request.end(), (status, "workspace-suspended".to_owned()), "{path}");
    }
    assert_eq!(sent.end(), (503, "workspace-suspended".to_owned()));
    kernel.admin().patch("/api/v1/workspaces/shop", &json!({ "state": "active" })).is(200);
    nothing_was_done(&admin);
}
