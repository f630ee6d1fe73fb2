//! Who may connect: so many in all and of one address, as far as the system gives files for them; and who waits before being
//! sent away.

use std::net::IpAddr;
use std::sync::Arc;

use kith_model::budget::{Exhausted, Permit, Permits, table};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ACCEPT_PAUSE;
use crate::api::InVain;
use crate::config::HttpLimits;
use crate::front::{Proxies, counted};
use crate::shares::{Share, Shares};

/// An address holds few connections that holds at most this part of all.
const FEW_OF: u64 = 64;

/// Connections that wait before they are sent away are at most this part of those that are let in.
const WAITING_OF: u64 = 4;

/// Connections are at most this part of the files that the process may have open: the store, plugins' requests and those who
/// wait to be sent away need others.
const FILES_OF: u64 = 2;

/// Who may connect: so many in all, and so many of one address.
pub(super) struct Doors {
    all: Arc<Permits>,
    peers: Shares<IpAddr>,
    proxies: Option<Proxies>,
    waiting: Arc<Semaphore>,
}

impl Doors {
    /// With so many files that the process may have open.
    pub(super) fn new(http: &HttpLimits, files: u64) -> Doors {
        let wanted = http.max_connections as u64;
        let limit = wanted.min((files / FILES_OF).max(1));
        if limit < wanted {
            tracing::warn!(
                connections = limit,
                files,
                "fewer connections are taken than --connections says: the system lets the server open too few files (`ulimit -n`)"
            );
        }
        // No more permits than there are: a semaphore has fewer than a machine word counts.
        let waiting = usize::try_from((limit / WAITING_OF).max(1)).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Doors {
            all: Permits::new(&table::CONNECTIONS, limit),
            peers: Shares::new(&table::PEER_CONNECTIONS, http.max_connections_per_peer as u64),
            proxies: http.proxies.clone(),
            waiting: Arc::new(Semaphore::new(waiting)),
        }
    }

    /// A place for one more connection, until it is dropped. A proxy's carry many people's requests, which are counted one by
    /// one.
    pub(super) fn let_in(&self, peer: IpAddr) -> Result<(Permit, Option<Share<IpAddr>>), Exhausted> {
        let is_proxy = self.proxies.as_ref().is_some_and(|proxies| proxies.is_proxy(peer));
        if is_proxy {
            return Ok((self.all.take(1)?, None));
        }
        let share = self.peers.take(counted(peer), 1)?;
        // The last quarter is for addresses that hold few, because a handful of others could take all there are together.
        let (limit, few) = (self.all.limit(), (self.all.limit() / FEW_OF).max(1));
        if self.all.held() >= limit - limit / 4 && share.held() > few {
            return Err(table::CONNECTIONS.exhausted(limit, Some(ACCEPT_PAUSE)));
        }
        Ok((self.all.take(1)?, Some(share)))
    }

    /// A place in which a connection waits that was not let in, for an address whose prompt refusals are used up. Whoever is
    /// sent away at once comes again at once, and taking and closing thousands of connections a second is at the cost of those
    /// who are inside. `None` where it goes at once.
    pub(super) fn waiting_place(&self, refusals: &InVain, peer: IpAddr) -> Option<OwnedSemaphorePermit> {
        refusals.count(counted(peer)).err()?;
        Arc::clone(&self.waiting).try_acquire_owned().ok()
    }
}
