//! A connector that misbehaves as the request's body says: it loops, eats memory, or traps, whatever follows a dash; any other body is a user's id
//! and becomes one event. What the host makes of it is tested in `tests/e2e/hostile.rs`.

use std::hint::black_box;

use kith_plugin_sdk::{Connector, Event, Received, Rejection, Request, export};

/// The guest.
pub struct Hostile;

impl Connector for Hostile {
    fn receive(request: Request) -> Result<Received, Rejection> {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        match body.split('-').next().unwrap_or_default() {
            "loop" => while black_box(true) {},
            "memory" => eat(),
            "trap" => panic!("the guest gives up"),
            _ => {}
        }
        let event = Event::track("Seen").with_identifier("user_id", body);
        Ok(Received { events: vec![event], consumed: request.body.len() as u64, ..Received::default() })
    }
}

export!(Hostile as connector);

/// Take memory until there is none.
fn eat() {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    while black_box(true) {
        eaten.push(black_box(vec![1; 1 << 20]));
    }
}
