//! A connector that misbehaves as the request's body says: it loops, eats memory or traps, whatever follows a dash, answers
//! a few bytes with very much, forgets an answer of several, waits for a peer, writes state or log lines without end, sends one secret many times, or keeps,
//! claims and lists what it is told to; any other body is a user's id and becomes one event. What the kernel makes of it is tested in `tests/e2e/hostile.rs`,
//! `tests/e2e/budgets/` and `tests/e2e/datapath/`.

use std::fmt::Debug;
use std::hint::black_box;
use std::time::Duration;

use kith_plugin_sdk::{Connector, Event, Received, Rejection, Request, export, http, kv, log, secrets};

/// The guest.
pub struct Hostile;

impl Connector for Hostile {
    fn receive(request: Request) -> Result<Received, Rejection> {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let words: Vec<&str> = body.split(' ').collect();
        match body.split('-').next().unwrap_or_default() {
            "loop" => while black_box(true) {},
            "memory" => eat(),
            "trap" => panic!("the guest gives up"),
            _ => {}
        }
        let events = match words.as_slice() {
            ["people", name, events, identifiers] => people(name, number(events), number(identifiers)),
            ["hold", mib, url] => hold(number(mib), url),
            ["set", times, bytes] => written(number(times), |key| kv::set(key, &vec![b'x'; number(bytes)])),
            ["delete", times, bytes] => {
                written(number(times), |key| kv::delete(&format!("{key}{}", "-".repeat(number(bytes)))))
            }
            ["keep", step, key] => answered(step, kv::set(key, b"kept")),
            ["claim", step, key, ms] => {
                let time = Duration::from_millis(number(ms) as u64);
                answered(step, kv::compare_and_set_for(key, None, b"mine", time))
            }
            ["keys", step, prefix] => answered(step, kv::keys(prefix).collect::<Result<Vec<_>, _>>()),
            ["log", times] => logged(number(times)),
            ["secrets", times, url] => told(number(times), url),
            ["texts", name, events, bytes] => texts(name, number(events), number(bytes)),
            _ => vec![Event::track("Seen").with_identifier("user_id", &body)],
        };
        Ok(Received { events, consumed: request.body.len() as u64, ..Received::default() })
    }

    fn receive_all(requests: Vec<Request>) -> Vec<Result<Received, Rejection>> {
        let forgets = requests.len() > 1 && requests.iter().any(|request| request.body == b"forget");
        let mut answers: Vec<_> = requests.into_iter().map(Self::receive).collect();
        if forgets {
            answers.pop();
        }
        answers
    }
}

export!(Hostile as connector);

fn number(word: &str) -> usize {
    word.parse().unwrap_or_default()
}

/// Events that each name so many identifiers that nobody has seen before.
fn people(name: &str, events: usize, identifiers: usize) -> Vec<Event> {
    let event = |number: usize| {
        let seen = Event::track("Seen").with_message_id(format!("{name}-{number}"));
        (0..identifiers).fold(seen, |event, place| {
            event.with_identifier(format!("kind_{place}"), format!("{name}-{number}-{place}"))
        })
    };
    (0..events).map(event).collect()
}

/// Events of one person that each carry so many bytes.
fn texts(name: &str, events: usize, bytes: usize) -> Vec<Event> {
    let properties = format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes));
    let event = |number| {
        let seen = Event::track("Seen").with_message_id(format!("{name}-{number}"));
        seen.with_identifier("user_id", name).with_properties(properties.as_str())
    };
    (0..events).map(event).collect()
}

/// Take so much memory, and wait for a peer with it.
fn hold(mib: usize, url: &str) -> Vec<Event> {
    let held = black_box(vec![1_u8; mib << 20]);
    let answer = http::Request::post(url).timeout_ms(29_000).send();
    let seen = if answer.is_ok() { "Answered" } else { "Unanswered" };
    vec![Event::track(seen).with_identifier("user_id", format!("held-{}", held.len()))]
}

/// Write state again and again; an event named after how often it was let.
fn written(times: usize, write: impl Fn(&str) -> Result<(), kv::Error>) -> Vec<Event> {
    let kept = (0..times).filter(|number| write(&format!("key-{}", number % 8)).is_ok()).count();
    vec![Event::track(format!("Wrote {kept}")).with_identifier("user_id", "writer")]
}

/// An event named after what the host answered.
fn answered(step: &str, answer: impl Debug) -> Vec<Event> {
    vec![Event::track(format!("{step} {answer:?}")).with_identifier("user_id", "keeper")]
}

/// Write lines to the operator's log.
fn logged(times: usize) -> Vec<Event> {
    (0..times).for_each(|line| log::info(format!("line {line} of a flood")));
    vec![Event::track("Logged").with_identifier("user_id", "logger")]
}

/// Send a secret to a peer so many times at once.
fn told(times: usize, url: &str) -> Vec<Event> {
    let secret = secrets::stand_in("token").unwrap_or_default();
    let answer = http::Request::post(url).body(secret.repeat(times)).send();
    let seen = if answer.is_ok() { "Told" } else { "Untold" };
    vec![Event::track(seen).with_identifier("user_id", "teller")]
}

/// Take memory until there is none.
fn eat() -> ! {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(black_box(vec![1; 1 << 20]));
    }
}
