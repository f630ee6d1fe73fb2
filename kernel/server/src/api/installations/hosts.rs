//! Hosts that a configuration names: an installation that may not reach them would fail at its first message, so that is said
//! when it is installed or changed. A host is what stands in a text that is a whole `http://` or `https://` address, and a relay
//! of who sends mail a text that is a host with a port.

use kith_host::{HostPort, Policy};
use kith_model::plugin::Manifest;
use serde_json::Value;

use crate::error::ApiError;

/// Insist that every host is granted which a configuration names, in what is shown of it and in what of the rest is written. The
/// latter is not told.
pub(super) fn check_granted(
    manifest: &Manifest,
    (shown, written): (&Value, &Value),
    policy: &Policy,
) -> Result<(), ApiError> {
    // Who never sends anything has addresses in its configuration for another reason.
    if !manifest.capabilities.http.is_empty() {
        let is_granted = |wanted: &HostPort| {
            let mut rules = policy.http.iter();
            rules.any(|rule| {
                rule.host.host == wanted.host && rule.host.port.unwrap_or(443) == wanted.port.unwrap_or(443)
            })
        };
        check_each((shown, written), host_of, "grants.http", is_granted)?;
    }
    if !manifest.capabilities.mail.is_empty() {
        check_each((shown, written), relay_of, "grants.mail", |wanted| policy.mail.contains(wanted))?;
    }
    Ok(())
}

/// How a host is read from a text.
type Read = fn(&str) -> Option<HostPort>;

/// Insist that every host which `read` finds is granted.
fn check_each(
    (shown, written): (&Value, &Value),
    read: Read,
    list: &str,
    is_granted: impl Fn(&HostPort) -> bool,
) -> Result<(), ApiError> {
    let (mut named, mut unnamed) = (Vec::new(), Vec::new());
    addresses("config", shown, read, &mut named);
    addresses("config", written, read, &mut unnamed);
    let otherwise = format!("name it in `{list}`, or say `\"grants\": \"later\"` to install it all the same");
    if let Some((place, _)) = unnamed.into_iter().find(|(_, host)| !is_granted(host)) {
        return Err(ApiError::at(place, format!("the host of this address is not granted: {otherwise}")));
    }
    match named.into_iter().find(|(_, host)| !is_granted(host)) {
        None => Ok(()),
        Some((place, host)) => Err(ApiError::at(place, format!("`{host}` is not granted: {otherwise}"))),
    }
}

/// Every address in a configuration, with its place.
fn addresses(place: &str, value: &Value, read: Read, named: &mut Vec<(String, HostPort)>) {
    match value {
        Value::String(text) => named.extend(read(text).map(|host| (place.to_owned(), host))),
        Value::Array(values) => {
            let numbered = values.iter().enumerate();
            numbered.for_each(|(index, value)| addresses(&format!("{place}[{index}]"), value, read, named));
        }
        Value::Object(members) => {
            members.iter().for_each(|(key, value)| addresses(&format!("{place}.{key}"), value, read, named));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The relay that a text names, which is a host with a dot and a port: `smtp.example.com:587`. `Sale:50` is a subject.
fn relay_of(text: &str) -> Option<HostPort> {
    let relay = text.parse::<HostPort>().ok().filter(|relay| relay.port.is_some());
    relay.filter(|relay| relay.host.contains(['.', ':']) || relay.host == "localhost")
}

/// The host of an address, with its port where that is not 443; `None` for a text that is no address.
fn host_of(text: &str) -> Option<HostPort> {
    let (scheme, rest) = text.split_once("://")?;
    let default = match scheme.to_ascii_lowercase().as_str() {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let is_whole = !text.contains(|character: char| character.is_whitespace() || character == '{');
    let authority = rest.split(['/', '?', '#']).next().filter(|_| is_whole)?;
    let host: HostPort = authority.rsplit('@').next().unwrap_or_default().parse().ok()?;
    let port = host.port.unwrap_or(default);
    Some(HostPort { port: (port != 443).then_some(port), ..host })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_host_stands_in_a_whole_address() {
        let host = |text: &str| host_of(text).map(|host| host.to_string());
        for (text, expected) in [
            ("https://a.example/x?y", Some("a.example")),
            ("HTTPS://A.example", Some("a.example")),
            ("https://a.example:443", Some("a.example")),
            ("https://a.example:8443/", Some("a.example:8443")),
            ("http://a.example", Some("a.example:80")),
            ("http://127.0.0.1:9/x", Some("127.0.0.1:9")),
            ("https://[::1]:9/", Some("[::1]:9")),
            ("https://u:p@a.example/", Some("a.example")),
            ("see https://a.example", None),
            ("https://a.example and more", None),
            ("https://{tenant}.example", None),
            ("ftp://a.example", None),
            ("a.example", None),
            ("https://", None),
        ] {
            assert_eq!(host(text).as_deref(), expected, "{text}");
        }
        let mut named = Vec::new();
        addresses(
            "config",
            &json!({ "url": "https://a.example", "more": [{ "to": "https://b.example" }] }),
            host_of,
            &mut named,
        );
        let places: Vec<&str> = named.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(places, ["config.more[0].to", "config.url"]);
        let relay = |text: &str| relay_of(text).map(|relay| relay.to_string());
        assert_eq!(relay("SMTP.a.example:587").as_deref(), Some("smtp.a.example:587"));
        for text in ["smtp.a.example", "10:30", "Re: 7", "Sale:50", "https://a.example:587", "a.example:0"] {
            assert_eq!(relay(text), None, "{text}");
        }
    }
}
