//! A second tenant at work beside every story: a workspace of its own with a source, an audience and a little traffic. In the
//! end all of its traffic was taken, its figures are exactly those of this traffic, and neither workspace shows anything of the
//! other.

use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::{Value, json};

use crate::{ADMIN_KEY, Answer, Client, component, wait_for};

/// The tenant. It outlives the servers of its story, as its workspace does.
pub struct Neighbour {
    /// The plugin of its source: a server that the story has compile it anyway compiles it once for both.
    source: &'static str,
    /// Absent until the first server serves it.
    keys: OnceLock<Keys>,
    work: Mutex<Work>,
}

struct Keys {
    /// The first key of its workspace.
    admin: String,
    /// The write key of its source.
    write: String,
}

/// Its events, numbered from zero, each of another person.
#[derive(Default)]
struct Work {
    /// How many it has wanted to be taken.
    wanted: u64,
    /// How many of these were taken; never more than are wanted.
    taken: u64,
    /// Whether all of this was compared since the last event was wanted.
    is_compared: bool,
}

/// Begins the name of everything that it has.
const MARK: &str = "neighbour";

/// What most stories send to.
const SEGMENT: &str = "kith/segment";

impl Default for Neighbour {
    fn default() -> Neighbour {
        Neighbour::through(SEGMENT)
    }
}

impl Neighbour {
    /// One whose source is of this plugin: `kith/segment`, or `hostile/connector`, which behaves as it is asked.
    pub fn through(source: &'static str) -> Neighbour {
        Neighbour { source, keys: OnceLock::default(), work: Mutex::default() }
    }

    /// Move in where this is the first server that it meets, and work.
    pub fn arrive(&self, url: &str) {
        self.keys.get_or_init(|| move_in(url, self.source));
        self.work(url);
    }

    /// Want one event more to be taken. Where the server has no room, it is sent again with the next one, and in the end.
    pub fn work(&self, url: &str) {
        let mut work = self.work.lock().expect("whoever worked before has not failed");
        (work.wanted, work.is_compared) = (work.wanted + 1, false);
        self.send(url, &mut work);
    }

    /// Send what was not taken yet.
    fn send(&self, url: &str, work: &mut Work) {
        let Some(keys) = self.keys.get() else { return };
        let sender = Client::new(url, Some(&keys.write));
        while work.taken < work.wanted {
            let (path, event) = self.event(work.taken);
            let Some(answer) = answered(&sender, "POST", path, &event) else { return };
            let counts = answer.is(200);
            // One whose answer was lost before is a repeat now.
            let taken = counts["accepted"].as_u64().unwrap() + counts["duplicate"].as_u64().unwrap();
            assert_eq!(taken, 1, "the neighbour's event is taken: {counts}");
            work.taken += 1;
        }
    }

    /// What is sent of somebody who was seen, and where: as an event that is known again by its id or by what it says.
    fn event(&self, number: u64) -> (&'static str, String) {
        let user = format!("{MARK}-{number}");
        match self.source {
            SEGMENT => {
                let seen = json!({ "type": "track", "event": "Seen", "userId": user, "messageId": user });
                ("/v1/batch", json!({ "batch": [seen] }).to_string())
            }
            _ => ("/api/v1/sources/neighbour-source/records", user),
        }
    }

    /// Have everything taken that is still wanted, and compare.
    pub fn check(&self, url: &str) {
        let mut work = self.work.lock().expect("whoever worked before has not failed");
        wait_for("the neighbour's events are taken", || {
            self.send(url, &mut work);
            (work.taken == work.wanted).then_some(())
        });
        work.is_compared = true;
        drop(work);
        self.compare(url);
    }

    /// Compare what it has with what was taken, and look for each workspace in the other.
    pub fn compare(&self, url: &str) {
        let Some(keys) = self.keys.get() else { return };
        let taken = self.work.lock().expect("whoever worked before has not failed").taken;
        let own = Client::new(url, Some(&keys.admin));
        wait_for("the neighbour's own work is done", || {
            let progress = asked(&own, "/api/v1/workspace").is(200)["progress"].clone();
            (progress["reacted"] == progress["head"] && progress["backlog"] == 0).then_some(())
        });
        let totals = asked(&own, "/api/v1/workspace").is(200)["totals"].clone();
        let expected = json!({
            "profiles": taken, "identifiers": taken, "events": taken, "tags": 0, "scores": 0, "set_aside": 0,
            "deliveries": { "delivered": 0, "pending": 0, "skipped": 0, "dead": 0 },
        });
        assert_eq!(totals, expected, "the neighbour's figures are those of its own traffic");
        let audience = asked(&own, &format!("/api/v1/audiences/{MARK}-audience")).is(200);
        assert_eq!(audience["size"], taken, "{audience}");
        for (list, names) in [
            ("audiences", vec![format!("{MARK}-audience")]),
            ("installations", vec![format!("{MARK}-source")]),
            ("deliveries", Vec::new()),
            ("dead-letters", Vec::new()),
        ] {
            let shown = asked(&own, &format!("/api/v1/{list}")).is(200);
            let items = shown["items"].as_array().unwrap().iter();
            let found: Vec<&str> = items.map(|item| item["name"].as_str().unwrap_or_default()).collect();
            assert_eq!(found, names, "the neighbour's {list} are its own: {shown}");
        }
        is_not_seen(url);
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let is_compared = self.work.get_mut().unwrap_or_else(PoisonError::into_inner).is_compared;
        // The test's own failure is the one to see, not a second one from here.
        let may_end = is_compared || self.keys.get().is_none() || std::thread::panicking();
        assert!(may_end, "the story ends, and nobody has compared its neighbour's work: `terminate` its last server");
    }
}

/// Make its workspace, its audience and its source.
fn move_in(url: &str, source: &str) -> Keys {
    let wanted = json!({ "name": MARK, "time_zone": "UTC" });
    let made = Client::new(url, Some(ADMIN_KEY)).post("/api/v1/workspaces", &wanted).is(201);
    let admin = made["key"].as_str().unwrap().to_owned();
    let own = Client::new(url, Some(&admin));
    // It holds whatever the time: stories set the clock, also back behind what the neighbour has sent.
    let audience = json!({ "name": format!("{MARK}-audience"), "condition": "has(profile.identifiers.user_id)" });
    own.post("/api/v1/audiences", &audience).is(201);
    own.send("POST", "/api/v1/plugins", &[], component(source).component.clone()).is(201);
    let wanted = json!({ "plugin": source, "name": format!("{MARK}-source") });
    let installed = own.post("/api/v1/installations", &wanted).is(201);
    Keys { admin, write: installed["write_key"].as_str().unwrap().to_owned() }
}

/// Look for it in the story's workspace.
fn is_not_seen(url: &str) {
    let story = Client::new(url, Some(ADMIN_KEY));
    for list in ["audiences", "installations", "keys", "deliveries", "dead-letters"] {
        let answer = asked(&story, &format!("/api/v1/{list}"));
        assert!(!answer.text().contains(MARK), "{list} of the story show the neighbour: {}", answer.text());
    }
    let found = asked(&story, &format!("/api/v1/profiles?identifier=user_id:{MARK}-0"));
    assert_ne!(found.status, 200, "{}", found.text());
    assert_eq!(Value::Null, found.json()["traits"], "{}", found.text());
}

/// What is answered; nothing from a server that has no room at the moment, or no connection, as after an attack.
fn answered(caller: &Client, method: &str, path: &str, body: &str) -> Option<Answer> {
    let headers: &[_] = if body.is_empty() { &[] } else { &[("content-type", "application/json")] };
    let answer = caller.try_send(method, path, headers, body).ok()?;
    (!matches!(answer.status, 429 | 503)).then_some(answer)
}

/// The same of a question, which is asked until it is answered.
#[track_caller]
fn asked(caller: &Client, path: &str) -> Answer {
    wait_for("the neighbour is answered", || answered(caller, "GET", path, ""))
}
