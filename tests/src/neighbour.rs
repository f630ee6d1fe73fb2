//! A second tenant at work beside every story: a workspace of its own with a source, an audience and a little traffic. In the
//! end its figures are exactly those of its own traffic, and the story's workspace shows nothing of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::{ADMIN_KEY, Client, component, wait_for};

/// The tenant.
#[derive(Default)]
pub struct Neighbour {
    /// Its first key; absent in a server that has no room for it.
    key: OnceLock<String>,
    /// The write key of its source.
    write_key: OnceLock<String>,
    /// Events that were taken; each is of another person.
    sent: AtomicU64,
}

/// Begins the name of everything that it has.
const MARK: &str = "neighbour";

impl Neighbour {
    /// The plugin of its source. It is installed as soon as the story uses it too, so that it costs no compilation of its own.
    pub const SOURCE: &'static str = "kith/segment";

    /// Make its workspace and its audience.
    pub fn move_in(&self, url: &str) {
        let wanted = json!({ "name": MARK, "time_zone": "UTC" });
        let made = Client::new(url, Some(ADMIN_KEY)).post("/api/v1/workspaces", &wanted).is(201);
        let key = made["key"].as_str().unwrap().to_owned();
        let audience = json!({ "name": format!("{MARK}-audience"), "condition": format!("traits.is == '{MARK}'") });
        Client::new(url, Some(&key)).post("/api/v1/audiences", &audience).is(201);
        self.key.set(key).expect("it moves in once");
    }

    /// Install its source, where it has none, and send the first event.
    pub fn begin_work(&self, url: &str) {
        let (Some(key), None) = (self.key.get(), self.write_key.get()) else { return };
        let own = Client::new(url, Some(key));
        let uploaded = own.send("POST", "/api/v1/plugins", &[], component(Self::SOURCE).component.clone());
        assert!(matches!(uploaded.status, 200 | 201), "{}", uploaded.text());
        let wanted = json!({ "plugin": Self::SOURCE, "name": format!("{MARK}-source") });
        let installed = own.post("/api/v1/installations", &wanted).is(201);
        // Another thread of the story may have been quicker; then this one's source stays unused.
        let is_first = self.write_key.set(installed["write_key"].as_str().unwrap().to_owned()).is_ok();
        if is_first {
            self.work(url);
        }
    }

    /// Send one event. A server that has no room for it takes it another time.
    pub fn work(&self, url: &str) {
        let Some(write_key) = self.write_key.get() else { return };
        let number = self.sent.load(Ordering::SeqCst);
        let event = json!({
            "type": "identify", "userId": format!("{MARK}-{number}"), "messageId": format!("{MARK}-{number}"),
            "traits": { "is": MARK },
        });
        let answer = Client::with_write_key(url, write_key).post("/v1/batch", &json!({ "batch": [event] }));
        if answer.status == 200 {
            self.sent.fetch_add(answer.json()["accepted"].as_u64().unwrap(), Ordering::SeqCst);
        }
    }

    /// Compare its figures with its traffic, and look for it in the story's workspace.
    pub fn check(&self, url: &str) {
        let Some(key) = self.key.get() else { return };
        let own = Client::new(url, Some(key));
        let sent = self.sent.load(Ordering::SeqCst);
        wait_for("the neighbour's own work is done", || {
            let progress = own.get("/api/v1/workspace").is(200)["progress"].clone();
            (progress["reacted"] == progress["head"] && progress["backlog"] == 0).then_some(())
        });
        let totals = own.get("/api/v1/workspace").is(200)["totals"].clone();
        let expected = json!({
            "profiles": sent, "identifiers": sent, "events": sent, "tags": 0, "scores": 0, "set_aside": 0,
            "deliveries": { "delivered": 0, "pending": 0, "skipped": 0, "dead": 0 },
        });
        assert_eq!(totals, expected, "the neighbour's figures are those of its own traffic");
        let audience = own.get(&format!("/api/v1/audiences/{MARK}-audience")).is(200);
        assert_eq!(audience["size"], sent, "{audience}");
        let story = Client::new(url, Some(ADMIN_KEY));
        for path in ["/api/v1/audiences", "/api/v1/installations", "/api/v1/keys", "/api/v1/deliveries"] {
            let answer = story.get(path);
            assert!(!answer.text().contains(MARK), "{path} shows the neighbour: {}", answer.text());
        }
        let found = story.get(&format!("/api/v1/profiles?identifier=user_id:{MARK}-0"));
        assert_ne!(found.status, 200, "{}", found.text());
        assert_eq!(Value::Null, found.json()["traits"], "{}", found.text());
    }
}
