//! Responsible for reading what a plugin wants to send into a request that is safe to send: one parse of the
//! URL, whose result is both what is checked and what is used.

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};

use crate::policy::{HostPort, HttpRule};

const MAX_URL_BYTES: usize = 8 * 1024;
const MAX_BODY_BYTES: usize = 1024 * 1024;
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Headers that the host sets or that steer the connection.
const RESERVED_HEADERS: [&str; 11] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "upgrade",
    "te",
    "trailer",
    "expect",
];

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) https: bool,
    /// Lower case; an IPv6 address keeps its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Whether the URL's scheme implies the port.
    pub(super) default_port: bool,
    /// Begins with `/`.
    pub(super) path_and_query: String,
}

impl Target {
    /// The host without an IPv6 address's brackets, as resolvers and TLS take it.
    pub(super) fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The value of the `host` header.
    pub(super) fn authority(&self) -> String {
        if self.default_port { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

/// Read a URL: `http` or `https`, a host in a plain notation, no credentials, no fragment.
pub(super) fn parse_target(url: &str) -> Result<Target, String> {
    if url.len() > MAX_URL_BYTES {
        return Err(format!("the URL has more than {MAX_URL_BYTES} bytes"));
    }
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains('\\') {
        return Err("the URL holds characters that must be percent-encoded".into());
    }
    let (scheme, rest) = url.split_once("://").ok_or("the URL has no scheme; write https://…")?;
    let https = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        _ => return Err("the URL's scheme must be https or http".into()),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') || path.contains('#') {
        return Err("the URL may hold neither credentials nor a fragment".into());
    }
    let written: HostPort =
        authority.parse().map_err(|_| "the URL's host is not a plain name or address".to_owned())?;
    let implied = if https { 443 } else { 80 };
    let port = written.port.unwrap_or(implied);
    let path_and_query = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    path_and_query.parse::<hyper::Uri>().map_err(|_| "the URL's path is malformed".to_owned())?;
    Ok(Target { https, host: written.host, port, default_port: port == implied, path_and_query })
}

/// What the host's settings permit beside public https.
#[derive(Debug, Clone, Copy)]
pub(super) struct Permits {
    pub(super) loopback: bool,
    pub(super) plain_http: bool,
}

/// Whether a rule lets the method go to the target, and whether it may be on this machine.
pub(super) fn check_target(
    rules: &[HttpRule],
    permits: Permits,
    method: &str,
    target: &Target,
) -> Result<bool, String> {
    let is_named = |rule: &&HttpRule| rule.host.host == target.host && rule.host.port.unwrap_or(443) == target.port;
    let mut named = rules.iter().filter(is_named).peekable();
    if named.peek().is_none() {
        let (host, port) = (&target.host, target.port);
        return Err(format!("`{host}:{port}` is not granted; the manifest must ask for it and an admin allow it"));
    }
    // A grant may name a host with its port and without, each for other methods.
    let rule = named.find(|rule| rule.methods.iter().any(|allowed| allowed == method)).ok_or_else(|| {
        format!("`{method}` to `{}` is not granted; the manifest must ask for it and an admin allow it", target.host)
    })?;
    let port_named = rule.host.port.is_some();
    if !target.https {
        check_plain_http(permits, port_named, target)?;
    }
    Ok(permits.loopback && port_named)
}

/// Whether a request may go without TLS; where not, who has to allow it.
fn check_plain_http(permits: Permits, port_named: bool, target: &Target) -> Result<(), String> {
    let server = "the server does not allow http:// (whoever runs it starts `kith serve` with --allow-plain-http)";
    let grant = format!("a grant for http:// names the port (`{}:{}`)", target.host, target.port);
    match (permits.plain_http, port_named) {
        (true, true) => Ok(()),
        (false, true) => Err(server.to_owned()),
        (true, false) => Err(grant),
        (false, false) => Err(format!("{server}, and {grant}")),
    }
}

/// Read the method, exactly as the manifest writes methods.
pub(super) fn parse_method(method: &str) -> Result<Method, String> {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    known
        .into_iter()
        .find(|known| known.as_str() == method)
        .ok_or_else(|| "the method is not one of HTTP's, in upper case".into())
}

/// Whether headers are within the limits.
pub(super) fn check_headers(headers: &[(String, String)]) -> Result<(), String> {
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        return Err(format!("a request has at most {MAX_HEADERS} headers of {MAX_HEADER_BYTES} bytes together"));
    }
    Ok(())
}

/// Read headers, after secrets took their places. No message holds a value.
pub(super) fn parse_headers(headers: Vec<(String, Vec<u8>)>) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::with_capacity(headers.len() + 5);
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "a header's name is malformed".to_owned())?;
        if RESERVED_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
            return Err(format!("the header `{name}` is the host's to set"));
        }
        let value =
            HeaderValue::from_bytes(&value).map_err(|_| format!("the value of the header `{name}` is malformed"))?;
        map.append(name, value);
    }
    Ok(map)
}

/// Whether a body is within the limit.
pub(super) fn check_body(body: &[u8]) -> Result<(), String> {
    if body.len() > MAX_BODY_BYTES { Err(format!("a body has at most {MAX_BODY_BYTES} bytes")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_one_reading() {
        let target = parse_target("HTTPS://API.Example.com?q=1").unwrap();
        assert_eq!(
            (target.host.as_str(), target.port, target.path_and_query.as_str()),
            ("api.example.com", 443, "/?q=1")
        );
        assert_eq!(parse_target("http://[::1]:8080/x").unwrap().authority(), "[::1]:8080");
        let bad = [
            "",
            "api.example.com",
            "//a.b/",
            "ftp://a.b/",
            "file:///etc/passwd",
            "https://",
            "https:///x",
            "https://a.b@evil/",
            "https://evil#@a.b/",
            "https://a.b/#x",
            "https://a.b\\@evil/",
            "https://a.b\t/",
            "https://a.b/\r\nX: y",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://localhost./",
            "https://ä.example/",
            "https://a。b/",
            "https://a.b:0/",
            "https://a.b:x/",
            "https://a b/",
            "https://[::1/",
            "https://[::ffff:127.0.0.1%25eth0]/",
            "https://a%2eb/",
            "https://:443/",
        ];
        for url in bad {
            assert!(parse_target(url).is_err(), "{url:?} {:?}", parse_target(url));
        }
    }

    #[test]
    fn only_what_is_granted_is_reached() {
        let rule = |host: &str| HttpRule { host: host.parse().unwrap(), methods: vec!["POST".into()] };
        let rules = [rule("api.a.b"), rule("c.d:8080"), rule("localhost:9000")];
        let none = Permits { loopback: false, plain_http: false };
        let all = Permits { loopback: true, plain_http: true };
        let check = |permits, method, url: &str| check_target(&rules, permits, method, &parse_target(url).unwrap());
        assert_eq!(check(none, "POST", "https://api.a.b/x"), Ok(false));
        assert_eq!(check(all, "POST", "https://api.a.b/x"), Ok(false), "no port named, so never this machine");
        assert_eq!(check(all, "POST", "http://localhost:9000/"), Ok(true));
        assert_eq!(check(none, "POST", "https://c.d:8080/"), Ok(false));
        for (permits, method, url) in [
            (all, "GET", "https://api.a.b/"),
            (all, "POST", "https://api.a.b:8443/"),
            (all, "POST", "https://x.api.a.b/"),
            (all, "POST", "http://api.a.b/"),
            (all, "POST", "http://api.a.b:443/"),
            (none, "POST", "http://c.d:8080/"),
            (all, "POST", "https://127.0.0.1:9000/"),
            (all, "POST", "https://169.254.169.254/"),
        ] {
            assert!(check(permits, method, url).is_err(), "{method} {url}");
        }
    }

    #[test]
    fn a_host_that_is_granted_twice_has_the_methods_of_both() {
        let rule = |host: &str, method: &str| HttpRule { host: host.parse().unwrap(), methods: vec![method.into()] };
        let rules = [rule("a.b", "GET"), rule("a.b:443", "POST")];
        let target = parse_target("https://a.b/").unwrap();
        let permits = Permits { loopback: false, plain_http: false };
        let check = |method| check_target(&rules, permits, method, &target);
        assert!(check("GET").is_ok() && check("POST").is_ok());
        assert!(check("PUT").unwrap_err().starts_with("`PUT` to `a.b` is not granted"));
    }

    #[test]
    fn who_has_to_allow_plain_http_is_named() {
        let rule = |host: &str| HttpRule { host: host.parse().unwrap(), methods: vec!["GET".into()] };
        let rules = [rule("api.a.b"), rule("c.d:8080")];
        for (plain_http, url, of_server, of_grant) in [
            (false, "http://c.d:8080/", true, false),
            (true, "http://api.a.b:443/", false, true),
            (false, "http://api.a.b:443/", true, true),
        ] {
            let permits = Permits { loopback: false, plain_http };
            let said = check_target(&rules, permits, "GET", &parse_target(url).unwrap()).unwrap_err();
            assert_eq!(said.contains("--allow-plain-http"), of_server, "{said}");
            assert_eq!(said.contains("names the port (`api.a.b:443`)"), of_grant, "{said}");
        }
    }

    #[test]
    fn headers_cannot_smuggle() {
        let header = |name: &str, value: &str| parse_headers(vec![(name.into(), value.into())]);
        assert!(header("x-a", "b").is_ok());
        for (name, value) in [
            ("Host", "evil"),
            ("content-length", "1"),
            ("Transfer-Encoding", "chunked"),
            ("proxy-x", "1"),
            ("x a", "1"),
            ("x-a", "b\r\nx-c: d"),
            ("", "1"),
            ("Connection", "x"),
            ("Upgrade", "h2c"),
        ] {
            assert!(header(name, value).is_err(), "{name}: {value}");
        }
        assert!(check_headers(&vec![("a".into(), "b".into()); 101]).is_err());
        assert!(check_headers(&[("a".into(), "b".repeat(MAX_HEADER_BYTES))]).is_err());
    }
}
