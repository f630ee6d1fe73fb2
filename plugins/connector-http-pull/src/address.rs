//! Addresses: whether one may be asked, what a link on it leads to, and parameters in its query.
//!
//! Pure texts. Whether a host is granted is the kernel's to check.

use std::net::IpAddr;

/// Where requests go: what must stay the same from page to page, since the secret goes along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    is_tls: bool,
    /// In lower case.
    host: String,
    port: u16,
}

impl Origin {
    /// Whether nothing can listen between: it is encrypted, or never leaves the machine.
    pub(crate) fn is_private(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        self.is_tls || self.host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// The origin of an address, or why it has none.
pub(crate) fn origin(url: &str) -> Result<Origin, &'static str> {
    if url.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'\\') {
        return Err(
            "holds blanks, control characters or letters that an address does not have; write them as `%20` and so on",
        );
    }
    let (scheme, rest) = url.split_once("://").ok_or("is no address; write e.g. `https://api.example.com/v1`")?;
    let is_tls = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        _ => return Err("begins with neither `https://` nor `http://`"),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("holds a user name or password; write a header with the secret instead");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0);
            (host, port.ok_or("has a port that is none; ports are numbers from 1 to 65535")?)
        }
        _ => (authority, if is_tls { 443 } else { 80 }),
    };
    if host.is_empty() {
        return Err("names no host; write e.g. `https://api.example.com/v1`");
    }
    Ok(Origin { is_tls, host: host.to_ascii_lowercase(), port })
}

/// The address that a link leads to which stands in the answer of `from`; `from` has an origin.
pub(crate) fn resolve(link: &str, from: &str) -> String {
    let link = link.split('#').next().unwrap_or_default().trim();
    if has_scheme(link) {
        return link.to_owned();
    }
    let (scheme, rest) = from.split_once("://").unwrap_or(("https", from));
    if let Some(rest) = link.strip_prefix("//") {
        return format!("{scheme}://{rest}");
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let folder = match link.bytes().next() {
        Some(b'/') => "",
        None | Some(b'?') => path,
        Some(_) => path.rfind('/').map_or("/", |at| &path[..=at]),
    };
    format!("{scheme}://{authority}{folder}{link}")
}

fn has_scheme(link: &str) -> bool {
    link.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    })
}

/// An address as a message may quote it: without a user name, a password and a query, since keys may stand there.
pub(crate) fn shown(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = bare.split_once("://") else { return bare.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// Put a parameter behind an address.
pub(crate) fn push_parameter(url: &mut String, name: &str, value: &str) {
    url.push(if url.contains('?') { '&' } else { '?' });
    push_encoded(url, name);
    url.push('=');
    push_encoded(url, value);
}

fn push_encoded(url: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_without_a_host_or_with_a_password_have_no_origin() {
        for fine in ["https://a.example", "https://A.example:443/x?y=1", "HTTPS://a.example/"] {
            let expected = Origin { is_tls: true, host: "a.example".to_owned(), port: 443 };
            assert_eq!(origin(fine), Ok(expected), "{fine}");
        }
        for (bad, words) in [
            ("a.example/x", "is no address"),
            ("ftp://a.example", "neither"),
            ("https:///x", "names no host"),
            ("https://a.example:0/", "port"),
            ("https://a.example:x/", "port"),
            ("https://u:p@a.example/", "password"),
            ("https://a.example/a b", "blanks"),
            ("https://a.example\\@b.example/", "blanks"),
            ("https://ä.example/", "letters"),
        ] {
            assert!(origin(bad).is_err_and(|problem| problem.contains(words)), "{bad}");
        }
    }

    #[test]
    fn what_is_not_encrypted_stays_on_the_machine() {
        for (url, expected) in [
            ("https://a.example", true),
            ("http://127.0.0.1:8080/x", true),
            ("http://[::1]:8080/x", true),
            ("http://localhost/x", true),
            ("http://a.example", false),
            ("http://127.0.0.1.example", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(origin(url).map(|origin| origin.is_private()), Ok(expected), "{url}");
        }
    }

    #[test]
    fn a_link_is_read_from_where_it_stands() {
        let from = "https://a.example:8443/v1/orders?page=1";
        for (link, expected) in [
            ("https://b.example/x", "https://b.example/x"),
            ("//b.example/x", "https://b.example/x"),
            ("/v2/orders?page=2", "https://a.example:8443/v2/orders?page=2"),
            ("?page=2#top", "https://a.example:8443/v1/orders?page=2"),
            ("orders?after=a:b", "https://a.example:8443/v1/orders?after=a:b"),
            ("", "https://a.example:8443/v1/orders"),
        ] {
            assert_eq!(resolve(link, from), expected, "{link}");
        }
        assert_eq!(resolve("x", "https://a.example"), "https://a.example/x");
        assert_eq!(resolve("javascript:x", from), "javascript:x");
    }

    #[test]
    fn what_is_shown_of_an_address_holds_no_keys() {
        for (url, expected) in [
            ("https://a.example:8443/x/y?key=k#top", "https://a.example:8443/x/y"),
            ("https://u:p@a.example/x@y?key=k", "https://a.example/x@y"),
            ("https://u:p@a.example?key=k", "https://a.example"),
            ("/x?key=k", "/x"),
            ("", ""),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
    }

    #[test]
    fn parameters_are_encoded() {
        let mut url = "https://a.example/x".to_owned();
        push_parameter(&mut url, "filter[at]", "2026-01-01T00:00:00+01:00");
        push_parameter(&mut url, "q", "a&b=ü ~");
        assert_eq!(url, "https://a.example/x?filter%5Bat%5D=2026-01-01T00%3A00%3A00%2B01%3A00&q=a%26b%3D%C3%BC%20~");
    }
}
