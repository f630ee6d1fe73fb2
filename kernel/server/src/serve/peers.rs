//! How many connections each address has, so that one cannot take them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Connections by address.
#[derive(Clone)]
pub(super) struct Peers {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
}

/// One connection of an address, until it is dropped.
pub(super) struct Share {
    peers: Peers,
    peer: IpAddr,
}

impl Peers {
    pub(super) fn new(most: usize) -> Peers {
        Peers { open: Arc::default(), most }
    }

    /// One more connection; `None` where the address has as many as it may have.
    pub(super) fn take(&self, peer: IpAddr) -> Option<Share> {
        // An IPv4 address in its IPv6 form is the same peer, and one site has a whole /64.
        let peer = match peer.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
            address => address,
        };
        let mut open = self.open.lock();
        let held = open.entry(peer).or_default();
        if *held >= self.most {
            return None;
        }
        *held += 1;
        Some(Share { peers: self.clone(), peer })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut open = self.peers.open.lock();
        if let Some(held) = open.get_mut(&self.peer) {
            *held -= 1;
            if *held == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_connections_and_leaves_the_others_theirs() {
        let peers = Peers::new(2);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let held = [peers.take(address("192.0.2.1")), peers.take(address("::ffff:192.0.2.1"))];
        assert!(held.iter().all(Option::is_some));
        assert!(peers.take(address("192.0.2.1")).is_none());
        assert!(peers.take(address("192.0.2.2")).is_some());
        let site = [peers.take(address("2001:db8::1")), peers.take(address("2001:db8::2"))];
        assert!(site.iter().all(Option::is_some) && peers.take(address("2001:db8::3")).is_none());
        drop((held, site));
        assert!(peers.open.lock().is_empty(), "nothing is kept of who left");
    }
}
