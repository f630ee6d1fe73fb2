//! Who a request comes from, as an address: the peer of its connection, or whom a proxy in front of the server names.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header};
use kith_model::network::Network;

/// The header in which proxies say for whom they ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyHeader {
    /// `X-Forwarded-For: client, proxy, …`.
    #[default]
    XForwardedFor,
    /// RFC 7239's `Forwarded: for=client;…, for=proxy`.
    Forwarded,
}

/// The proxies in front of the server. What a client writes into the header itself stands before what they add, so that only
/// the last entries count.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// One header alone is read: a proxy that writes one passes on the other as the client sent it.
    pub header: ProxyHeader,
    /// Where the proxies are. Others' headers are ignored, and entries of these addresses are passed over. Empty for one proxy
    /// at any address, whose own entry is the last.
    pub trusted: Vec<Network>,
}

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

impl Proxies {
    /// Whether connections of this peer carry other people's requests.
    pub(crate) fn is_proxy(&self, peer: IpAddr) -> bool {
        self.trusted.is_empty() || self.trusted.iter().any(|network| network.contains(peer))
    }

    /// The client's address; the proxy's own where it names none.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.is_proxy(peer) {
            return peer;
        }
        let name = match self.header {
            ProxyHeader::XForwardedFor => &X_FORWARDED_FOR,
            ProxyHeader::Forwarded => &header::FORWARDED,
        };
        let mut client = peer;
        for value in headers.get_all(name).iter().rev() {
            let Ok(value) = value.to_str() else { return client };
            for entry in value.rsplit(',') {
                // A name in place of an address, or nonsense: what stands before it says nothing.
                let Some(address) = self.address(entry.trim()) else { return client };
                client = address;
                if self.trusted.is_empty() || !self.is_proxy(address) {
                    return client;
                }
            }
        }
        client
    }

    fn address(&self, entry: &str) -> Option<IpAddr> {
        let node = match self.header {
            ProxyHeader::XForwardedFor => entry,
            ProxyHeader::Forwarded => {
                let mut pairs = entry.split(';').filter_map(|pair| pair.trim().split_once('='));
                pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?.1.trim().trim_matches('"')
            }
        };
        let with_port = || node.parse::<SocketAddr>().ok().map(|address| address.ip());
        let bare = node.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(node);
        bare.parse().ok().or_else(with_port)
    }
}

/// The address under which a client is counted: an IPv4 address in its IPv6 form is the same client, and one site has a
/// whole /64.
pub(crate) fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(proxies: &Proxies, peer: &str, lines: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_last_entry_counts_since_the_client_writes_what_stands_before() {
        let one = Proxies::default();
        let x = "x-forwarded-for";
        for (lines, expected) in [
            (vec![], "10.0.0.1"),
            (vec![(x, "192.0.2.7")], "192.0.2.7"),
            (vec![(x, "1.1.1.1, 192.0.2.7")], "192.0.2.7"),
            (vec![(x, "1.1.1.1"), (x, "192.0.2.7")], "192.0.2.7"),
            (vec![(x, "192.0.2.7:4711")], "192.0.2.7"),
            (vec![(x, "[2001:db8::1]:4711")], "2001:db8::1"),
            (vec![(x, "2001:db8::1")], "2001:db8::1"),
            (vec![(x, "1.1.1.1, unknown")], "10.0.0.1"),
            (vec![(x, "")], "10.0.0.1"),
            (vec![("forwarded", "for=192.0.2.7")], "10.0.0.1"),
        ] {
            assert_eq!(client(&one, "10.0.0.1", &lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn the_standards_header_is_read_where_the_proxy_writes_it() {
        let standard = Proxies { header: ProxyHeader::Forwarded, ..Proxies::default() };
        for (value, expected) in [
            ("for=192.0.2.7;proto=https", "192.0.2.7"),
            ("for=1.1.1.1, proto=https; For=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("for=_hidden", "10.0.0.1"),
            ("by=192.0.2.7", "10.0.0.1"),
        ] {
            let lines = [("forwarded", value), ("x-forwarded-for", "9.9.9.9")];
            assert_eq!(client(&standard, "10.0.0.1", &lines), expected, "{value}");
        }
    }

    #[test]
    fn proxies_of_known_addresses_are_passed_over_and_nobody_else_is_believed() {
        let known = Proxies { trusted: vec!["10.0.0.0/8".parse().unwrap()], ..Proxies::default() };
        let x = "x-forwarded-for";
        for (peer, value, expected) in [
            ("10.0.0.1", "1.1.1.1, 192.0.2.7, 10.0.0.9", "192.0.2.7"),
            ("::ffff:10.0.0.1", "192.0.2.7", "192.0.2.7"),
            ("203.0.113.5", "192.0.2.7", "203.0.113.5"),
            ("10.0.0.1", "10.0.0.9", "10.0.0.9"),
        ] {
            assert_eq!(client(&known, peer, &[(x, value)]), expected, "{peer} {value}");
        }
        assert!(!known.is_proxy("203.0.113.5".parse().unwrap()) && Proxies::default().is_proxy([1, 1, 1, 1].into()));
    }

    #[test]
    fn a_site_is_one_client_in_whichever_form() {
        let counted = |text: &str| counted(text.parse().unwrap());
        assert_eq!(counted("192.0.2.1"), counted("::ffff:192.0.2.1"));
        assert_eq!(counted("2001:db8::1"), counted("2001:db8::2"));
        assert_ne!(counted("2001:db8::1"), counted("2001:db8:0:1::1"));
    }
}
