//! Responsible for connections that are kept for the next request to the same place. A place names the address that was
//! admitted, so that no request travels over a connection to another one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connection::Connection;

/// How long a connection is kept unused: below the 5 s after which common servers close theirs, so that few requests meet
/// a connection that is just being closed.
const MAX_IDLE: Duration = Duration::from_secs(4);
/// Unused connections to one place. More are closed at once.
const MAX_IDLE_AT_PLACE: usize = 256;
/// Unused connections in all.
const MAX_IDLE_CONNECTIONS: usize = 1_024;
/// How often unused connections are looked through.
const SWEEP: Duration = Duration::from_secs(1);

/// Where a connection leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) https: bool,
    /// The name that TLS was asked to verify.
    pub(super) host: String,
    pub(super) address: SocketAddr,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Idle {
    fn is_usable(&self) -> bool {
        self.since.elapsed() < MAX_IDLE && self.connection.sender.is_ready()
    }
}

#[derive(Default)]
struct IdleConnections {
    /// By place, the latest used at the end. No list is empty.
    by_place: HashMap<Place, Vec<Idle>>,
    count: usize,
    /// Whether a task looks through them; it ends when there are none.
    sweeping: bool,
}

/// The unused connections of a client.
#[derive(Default)]
pub(super) struct Pool(Mutex<IdleConnections>);

impl Pool {
    /// A connection to `place` that can take a request now.
    pub(super) fn take(&self, place: &Place) -> Option<Connection> {
        let mut guard = self.0.lock();
        let idle = &mut *guard;
        let list = idle.by_place.get_mut(place)?;
        let mut found = None;
        while let Some(last) = list.pop() {
            idle.count -= 1;
            if last.is_usable() {
                found = Some(last.connection);
                break;
            }
        }
        if list.is_empty() {
            idle.by_place.remove(place);
        }
        found
    }

    /// Keep a connection for the next request, or close it where enough are kept.
    pub(super) fn put(self: &Arc<Self>, place: Place, connection: Connection) {
        let mut guard = self.0.lock();
        let idle = &mut *guard;
        let at_place = idle.by_place.get(&place).map_or(0, Vec::len);
        if idle.count >= MAX_IDLE_CONNECTIONS || at_place >= MAX_IDLE_AT_PLACE {
            return;
        }
        idle.by_place.entry(place).or_default().push(Idle { connection, since: Instant::now() });
        idle.count += 1;
        if !idle.sweeping {
            idle.sweeping = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Close what is kept too long; whether anything is left.
    fn close_stale(&self) -> bool {
        let mut guard = self.0.lock();
        let idle = &mut *guard;
        for list in idle.by_place.values_mut() {
            list.retain(Idle::is_usable);
        }
        idle.by_place.retain(|_, list| !list.is_empty());
        idle.count = idle.by_place.values().map(Vec::len).sum();
        idle.sweeping = idle.count > 0;
        idle.sweeping
    }
}

/// Close what is unused for too long, until nothing is left.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        if !pool.upgrade().is_some_and(|pool| pool.close_stale()) {
            return;
        }
    }
}
