//! The other side of the demo's webhook: a small HTTP server on this machine that believes nothing it cannot verify.
//!
//! It checks each message's Standard Webhooks 1.0 signature with the shared secret and counts what it sees; a message
//! with a bad signature is refused with 401, so that it would show among the dead letters.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kith_model::time::{Clock, SystemClock, Timestamp};
use parking_lot::Mutex;
use ring::hmac;

/// How far a message's timestamp may be off, against replays: five minutes, as the standard's libraries have it.
const TOLERANCE_MS: i64 = 300_000;

/// Where it takes messages.
pub(crate) const PATH: &str = "/hook";

/// What the receiver has seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Receptions {
    /// Ids of messages whose signature held.
    pub(crate) verified: BTreeSet<String>,
    /// Messages that came again with an id already seen.
    pub(crate) repeated: u64,
    /// Why others were refused.
    pub(crate) refused: Vec<&'static str>,
}

/// A running receiver.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Receptions>>,
}

struct ReceiverState {
    key: hmac::Key,
    seen: Arc<Mutex<Receptions>>,
}

/// A new signing secret in the standard's form: `whsec_` and 32 random bytes in base64.
pub(crate) fn new_secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(format!("whsec_{}", STANDARD.encode(bytes)))
}

impl Receiver {
    /// Listen on a free port of this machine until the runtime ends.
    pub(crate) async fn start(secret: &str) -> std::io::Result<Receiver> {
        let bytes = STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).map_err(std::io::Error::other)?;
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Receptions::default()));
        let shared = ReceiverState { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), seen: Arc::clone(&seen) };
        let router = Router::new().route(PATH, post(receive)).with_state(Arc::new(shared));
        tokio::spawn(serve(listener, router));
        Ok(Receiver { address, seen })
    }

    /// What it has seen so far.
    pub(crate) fn seen(&self) -> Receptions {
        self.seen.lock().clone()
    }
}

/// Take connections for ever; one that breaks is its sender's business.
async fn serve(listener: tokio::net::TcpListener, router: Router) {
    while let Ok((stream, _)) = listener.accept().await {
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        let stream = hyper_util::rt::TokioIo::new(stream);
        tokio::spawn(async move {
            if let Err(error) = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await {
                tracing::debug!(%error, "a connection to the demo's receiver broke");
            }
        });
    }
}

async fn receive(State(shared): State<Arc<ReceiverState>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let verdict = verify(&shared.key, &headers, &body, SystemClock.now());
    let mut seen = shared.seen.lock();
    match verdict {
        Ok(id) => {
            if !seen.verified.insert(id) {
                seen.repeated += 1;
            }
            StatusCode::NO_CONTENT
        }
        Err(reason) => {
            seen.refused.push(reason);
            StatusCode::UNAUTHORIZED
        }
    }
}

/// The message's id, if one of its signatures holds: HMAC-SHA256 over `id.timestamp.body`.
fn verify(key: &hmac::Key, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<String, &'static str> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let id = header("webhook-id").ok_or("no webhook-id")?;
    let timestamp = header("webhook-timestamp").ok_or("no webhook-timestamp")?;
    let signatures = header("webhook-signature").ok_or("no webhook-signature")?;
    let sent_s: i64 = timestamp.parse().map_err(|_| "a webhook-timestamp that is no number")?;
    if sent_s.saturating_mul(1_000).abs_diff(now.0) > TOLERANCE_MS.unsigned_abs() {
        return Err("a webhook-timestamp too far from now");
    }
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let holds = |signature: &str| {
        let encoded = signature.strip_prefix("v1,")?;
        let tag = STANDARD.decode(encoded).ok()?;
        hmac::verify(key, &signed, &tag).ok()
    };
    match signatures.split(' ').find_map(holds) {
        Some(()) => Ok(id.to_owned()),
        None => Err("a signature that does not hold"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
    const SENT_S: &str = "1649367553";
    const BODY: &str = r#"{"email":"test@example.com","username":"test_user"}"#;
    const SIGNATURE: &str = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";

    fn check(id: &str, sent: &str, signature: &str, body: &str) -> Result<String, &'static str> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(SECRET).unwrap());
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", sent.parse().unwrap());
        headers.insert("webhook-signature", signature.parse().unwrap());
        verify(&key, &headers, body.as_bytes(), Timestamp(1_649_367_600_000))
    }

    /// The vector is the one published with the standard's own Rust library.
    #[test]
    fn only_a_signature_that_holds_is_believed() {
        assert_eq!(check(ID, SENT_S, SIGNATURE, BODY), Ok(ID.to_owned()));
        assert_eq!(check(ID, SENT_S, &format!("v1,AAAA {SIGNATURE}"), BODY), Ok(ID.to_owned()));
        assert!(check("msg_2", SENT_S, SIGNATURE, BODY).is_err(), "another id");
        assert!(check(ID, SENT_S, SIGNATURE, "{}").is_err(), "another body");
        assert!(check(ID, "1649360000", SIGNATURE, BODY).is_err(), "an old timestamp");
        assert!(check(ID, SENT_S, "v1a,AAAA", BODY).is_err(), "another scheme");
    }
}
