//! The other end of a webhook: a small HTTP server that answers by a script and keeps what it got.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use base64::Engine as _;
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Arrived {
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Arrived {
    /// A header's value, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether one of the signatures is the one that Standard Webhooks 1.0 asks for: HMAC-SHA256 of
    /// `id.timestamp.body` under the secret's bytes, in base64 behind `v1,`.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let signed = [self.header("webhook-id"), self.header("webhook-timestamp")].join(".");
        let expected = signature(secret, &[signed.as_bytes(), b".", &self.body].concat());
        self.header("webhook-signature").split(' ').any(|given| given == expected)
    }
}

/// The secret that the tests' webhooks are signed with: 24 bytes, the least that Standard Webhooks 1.0 asks for.
pub const SIGNING_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// The signature of `content`.
fn signature(secret: &str, content: &[u8]) -> String {
    const BASE64: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD;
    let key = BASE64.decode(secret.trim_start_matches("whsec_")).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(content);
    format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
}

/// An answer.
struct Scripted {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

#[derive(Default)]
struct Told {
    arrived: Vec<Arrived>,
    /// Requests that are read and not answered yet, and the most that there have been.
    at_once: usize,
    most_at_once: usize,
    script: VecDeque<Scripted>,
    /// How many of the next requests are read and not answered.
    to_hold: usize,
    /// How often what was held has been released.
    releases: u64,
}

/// What the test and the connections share.
#[derive(Default)]
struct Desk {
    told: Mutex<Told>,
    /// Told when answers are no longer held back.
    released: Condvar,
}

/// A receiver on a free port of the loopback interface. Its thread ends with the process.
#[derive(Clone)]
pub struct Receiver {
    address: SocketAddr,
    desk: Arc<Desk>,
}

impl Receiver {
    /// Receive and answer 204 unless told otherwise.
    pub fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Receiver { address: listener.local_addr().unwrap(), desk: Arc::default() };
        let desk = Arc::clone(&receiver.desk);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let desk = Arc::clone(&desk);
                std::thread::spawn(move || answer_all(stream, &desk));
            }
        });
        receiver
    }

    /// `127.0.0.1:PORT`, as a grant names it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Answer the next request like this; each call adds one to the script.
    pub fn will_answer(&self, status: u16, headers: &[(&str, &str)]) {
        self.will_say(status, headers, String::new());
    }

    /// The same with a body of JSON.
    pub fn will_answer_json(&self, headers: &[(&str, &str)], body: &Value) {
        let headers = [&[("content-type", "application/json")][..], headers].concat();
        self.will_say(200, &headers, body.to_string());
    }

    fn will_say(&self, status: u16, headers: &[(&str, &str)], body: String) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.desk.told.lock().unwrap().script.push_back(Scripted { status, headers, body });
    }

    /// From now on read requests and answer none of them, as a receiver does that hangs.
    pub fn hold(&self) {
        self.hold_next(usize::MAX);
    }

    /// Read the next requests and do not answer them; those behind them are answered.
    pub fn hold_next(&self, requests: usize) {
        self.desk.told.lock().unwrap().to_hold = requests;
    }

    /// Answer what was held back and what comes.
    pub fn release(&self) {
        let mut told = self.desk.told.lock().unwrap();
        (told.to_hold, told.releases) = (0, told.releases + 1);
        drop(told);
        self.desk.released.notify_all();
    }

    /// The most requests that were here at the same time, unanswered.
    pub fn most_at_once(&self) -> usize {
        self.desk.told.lock().unwrap().most_at_once
    }

    /// All that arrived.
    pub fn arrived(&self) -> Vec<Arrived> {
        self.desk.told.lock().unwrap().arrived.clone()
    }
}

/// Answer each request of a connection.
fn answer_all(stream: TcpStream, desk: &Desk) {
    let Ok(mut writing) = stream.try_clone() else { return };
    let mut reading = BufReader::new(stream);
    while let Some(arrived) = read(&mut reading) {
        let Scripted { status, headers, body } = {
            let mut told = desk.told.lock().unwrap();
            told.arrived.push(arrived);
            told.at_once += 1;
            told.most_at_once = told.most_at_once.max(told.at_once);
            let nothing = Scripted { status: 204, headers: Vec::new(), body: String::new() };
            let scripted = told.script.pop_front().unwrap_or(nothing);
            if told.to_hold > 0 {
                told.to_hold -= 1;
                let releases = told.releases;
                drop(desk.released.wait_while(told, |told| told.releases == releases).unwrap());
            }
            scripted
        };
        // Before the answer is written: whoever gets it may send the next request at once.
        desk.told.lock().unwrap().at_once -= 1;
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        // A script that names a length promises a body that never comes.
        let has_length = status == 204 || headers.contains("content-length");
        let length = if has_length { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        if write!(writing, "HTTP/1.1 {status} Scripted\r\n{length}{headers}\r\n{body}").is_err() {
            return;
        }
    }
}

/// Read one request; `None` at the connection's end.
fn read(reading: &mut BufReader<TcpStream>) -> Option<Arrived> {
    let mut line = String::new();
    reading.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reading.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, value)| value.as_str());
    let mut body = vec![0; length.parse().ok()?];
    reading.read_exact(&mut body).ok()?;
    Some(Arrived { path, headers, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vector_verifies_and_a_changed_one_does_not() {
        let secret = SIGNING_SECRET;
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut arrived = Arrived {
            path: "/".to_owned(),
            headers: vec![
                header("webhook-id", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk"),
                header("webhook-timestamp", "1649367553"),
                header("webhook-signature", "v1,garbage v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="),
            ],
            body: br#"{"email":"test@example.com","username":"test_user"}"#.to_vec(),
        };
        assert!(arrived.is_signed_with(secret));
        arrived.body[2] ^= 1;
        assert!(!arrived.is_signed_with(secret));
    }
}
