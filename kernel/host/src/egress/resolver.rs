//! Responsible for what a host's name resolves to. Answers are kept for some seconds, because thousands of messages to one
//! host would otherwise ask the system as often; whether an address may be reached is judged for each request.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use kith_model::sending::SendFailure;
use parking_lot::Mutex;

use super::client::within;
use super::request::Target;

const MAX_RESOLVE: Duration = Duration::from_secs(3);
/// Shorter than any usual time to live, so that a name that moves is followed soon.
const KEEP: Duration = Duration::from_secs(5);
/// Names that are kept at once.
const MAX_KEPT: usize = 1_024;

struct Answer {
    addresses: Vec<IpAddr>,
    at: Instant,
}

/// Resolves names, and remembers the answers for a short while.
#[derive(Default)]
pub(super) struct Resolver {
    kept: Mutex<HashMap<String, Answer>>,
}

impl Resolver {
    /// The addresses of the target's host, not yet judged.
    pub(super) async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, SendFailure> {
        let name = target.bare_host();
        let with_port = |address: IpAddr| SocketAddr::new(address, target.port);
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(vec![with_port(address)]);
        }
        if let Some(kept) = self.kept.lock().get(name).filter(|kept| kept.at.elapsed() < KEEP) {
            return Ok(kept.addresses.iter().copied().map(with_port).collect());
        }
        let found = within(MAX_RESOLVE, "resolving the host", tokio::net::lookup_host((name, target.port))).await?;
        let found = found.map_err(|_| SendFailure::Connection("the host does not resolve".into()))?;
        let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        let mut kept = self.kept.lock();
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, kept| kept.at.elapsed() < KEEP);
        }
        if kept.len() < MAX_KEPT {
            kept.insert(name.to_owned(), Answer { addresses: addresses.clone(), at: Instant::now() });
        }
        Ok(addresses.into_iter().map(with_port).collect())
    }
}
