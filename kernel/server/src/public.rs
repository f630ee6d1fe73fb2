//! Under which address browsers reach the server: what the operator says, or the server's own end of the connection. A `Host` header
//! is whatever its sender wrote, and an answer that repeats it may be kept by a cache for everybody: its events would go to whoever
//! wrote it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use axum::http::Uri;
use axum::http::uri::Authority;

/// The public address of the server, e.g. `https://events.example.com`; what lies in front of it may take a path away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    protocol: Protocol,
    /// Host, port where it is another than the protocol's, and path, without a slash at the end.
    place: String,
}

/// How an address is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Https,
}

impl Protocol {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Protocol::Http => 80,
            Protocol::Https => 443,
        }
    }
}

/// Why a text is no public address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no public address; write e.g. https://events.example.com, without user, query and fragment")]
pub struct InvalidPublicUrl(String);

impl FromStr for PublicUrl {
    type Err = InvalidPublicUrl;

    fn from_str(text: &str) -> Result<PublicUrl, InvalidPublicUrl> {
        let invalid = || InvalidPublicUrl(text.chars().take(256).collect());
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let protocol = match uri.scheme_str() {
            Some("https") => Protocol::Https,
            Some("http") => Protocol::Http,
            Some(_) | None => return Err(invalid()),
        };
        let authority = uri.authority().filter(|authority| is_plain(authority)).ok_or_else(invalid)?;
        if uri.query().is_some() || text.contains('#') {
            return Err(invalid());
        }
        Ok(PublicUrl { protocol, place: format!("{authority}{}", uri.path().trim_end_matches('/')) })
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.protocol.as_str(), self.place)
    }
}

fn is_plain(authority: &Authority) -> bool {
    !authority.as_str().contains('@') && !authority.host().is_empty()
}

/// The server's end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerEnd {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
}

impl ServerEnd {
    /// Whether a `Host` header names just this end.
    fn is_named_by(self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let port = authority.port_u16().unwrap_or(self.protocol.default_port());
        let name = authority.host();
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        let own = self.address.ip().to_canonical();
        let is_own = bare.parse().is_ok_and(|named: std::net::IpAddr| named.to_canonical() == own);
        let is_local = own.is_loopback() && name.eq_ignore_ascii_case("localhost");
        is_plain(&authority) && port == self.address.port() && (is_own || is_local)
    }
}

/// Where a client that asked with this `Host` header is to send, as protocol and place: the public address where there is one, and
/// otherwise the end of the connection that the header names. `None` where it names anything else.
pub(crate) fn place(
    public: Option<&PublicUrl>,
    reached: Option<ServerEnd>,
    host: Option<&str>,
) -> Option<(Protocol, String)> {
    if let Some(public) = public {
        return Some((public.protocol, public.place.clone()));
    }
    let (reached, host) = (reached?, host?);
    reached.is_named_by(host).then(|| (reached.protocol, host.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_is_protocol_host_and_path() {
        for (text, shown) in [
            ("https://events.example.com", "https://events.example.com"),
            ("https://events.example.com/", "https://events.example.com"),
            ("http://10.1.2.3:8080", "http://10.1.2.3:8080"),
            ("https://[2001:db8::1]:8443/kith/", "https://[2001:db8::1]:8443/kith"),
        ] {
            assert_eq!(text.parse::<PublicUrl>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "events.example.com",
            "ftp://a.b",
            "https://",
            "https://u:p@a.b",
            "https://a.b?x=1",
            "https://a.b#x",
            "/x",
        ] {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_header_is_believed_where_it_names_the_end_that_was_reached() {
        let public: PublicUrl = "https://events.example.com/kith".parse().unwrap();
        let reached = |address: &str, protocol| ServerEnd { address: address.parse().unwrap(), protocol };
        let own = reached("127.0.0.1:7700", Protocol::Http);
        for (reached, host, believed) in [
            (own, "127.0.0.1:7700", true),
            (own, "localhost:7700", true),
            (own, "LocalHost:7700", true),
            (own, "localhost", false),
            (own, "localhost:7701", false),
            (own, "evil.example", false),
            (own, "evil.example:7700", false),
            (own, "127.0.0.1:7700@evil.example", false),
            (own, "user@127.0.0.1:7700", false),
            (own, "127.0.0.1:7700/x", false),
            (own, "", false),
            (reached("10.1.2.3:80", Protocol::Http), "10.1.2.3", true),
            (reached("10.1.2.3:80", Protocol::Http), "localhost", false),
            (reached("[::ffff:10.1.2.3]:443", Protocol::Https), "10.1.2.3", true),
            (reached("[2001:db8::1]:7700", Protocol::Https), "[2001:db8::1]:7700", true),
            (reached("[2001:db8::1]:7700", Protocol::Https), "[2001:db8::2]:7700", false),
        ] {
            let found = place(None, Some(reached), Some(host));
            assert_eq!(found, believed.then(|| (reached.protocol, host.to_owned())), "{host}");
            let said = place(Some(&public), Some(reached), Some(host));
            assert_eq!(said, Some((Protocol::Https, "events.example.com/kith".to_owned())), "whatever they wrote");
        }
        assert_eq!(place(None, None, Some("127.0.0.1:7700")), None);
        assert_eq!(place(None, Some(own), None), None);
    }
}
