//! References of artifacts, `oci://HOST[:PORT]/REPOSITORY[:TAG][@sha256:HEX]`, in the grammar of the distribution API.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// How every reference begins.
pub(crate) const SCHEME: &str = "oci://";

/// The longest repository and tag that the distribution API has.
const MOST_REPOSITORY: usize = 255;
const MOST_TAG: usize = 128;

/// The host whose registry has another name than its references.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_REGISTRY: &str = "registry-1.docker.io";

/// A SHA-256, as registries write it: `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digest(String);

impl Digest {
    /// Of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Digest {
        Digest(format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Digest, String> {
        let digits = text.strip_prefix("sha256:").unwrap_or_default();
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() == 64 && digits.bytes().all(is_digit) {
            return Ok(Digest(text.to_owned()));
        }
        Err("a digest is `sha256:` and 64 hexadecimal digits in lower case".to_owned())
    }
}

/// Where an artifact is, or is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// With its port, where it is not TLS's.
    authority: String,
    pub(crate) repository: String,
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<Digest>,
}

impl Reference {
    /// As people and logins name the registry.
    pub(crate) fn host(&self) -> &str {
        &self.authority
    }

    /// Where the registry is asked.
    pub(crate) fn registry(&self) -> &str {
        if self.authority == DOCKER_HUB { DOCKER_HUB_REGISTRY } else { &self.authority }
    }

    /// What is asked for: the digest where there is one, else the tag.
    pub(crate) fn wanted(&self) -> Option<&str> {
        self.digest.as_ref().map(Digest::as_str).or(self.tag.as_deref())
    }

    /// The same repository with a digest alone.
    pub(crate) fn pinned(&self, digest: &Digest) -> String {
        format!("{SCHEME}{}/{}@{digest}", self.authority, self.repository)
    }

    /// The same repository with a tag alone.
    pub(crate) fn tagged(&self, tag: &str) -> String {
        format!("{SCHEME}{}/{}:{tag}", self.authority, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.authority, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Reference, String> {
        let form = "write oci://HOST/REPOSITORY:TAG or oci://HOST/REPOSITORY@sha256:HEX";
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| format!("`{text}` does not begin with {SCHEME}; {form}"))?;
        let (authority, rest) = rest.split_once('/').ok_or_else(|| format!("`{text}` names no repository; {form}"))?;
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (rest, None),
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(checked_tag(tag)?)),
            None => (rest, None),
        };
        if !is_authority(authority) {
            return Err(format!("`{authority}` is no host of a registry; {form}"));
        }
        if !is_repository(repository) {
            let parts = "parts of lower-case letters and digits with `.`, `_` or `-` between them";
            return Err(format!("`{repository}` is no repository: that has {parts}, and `/` between the parts"));
        }
        Ok(Reference { authority: authority.to_ascii_lowercase(), repository: repository.to_owned(), tag, digest })
    }
}

/// A tag as the distribution API has it.
pub(crate) fn checked_tag(text: &str) -> Result<String, String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins = text.bytes().next().is_some_and(is_word);
    if begins && text.len() <= MOST_TAG && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-')) {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is no tag: that has letters, digits, `_`, `.` and `-`, {MOST_TAG} at most"))
}

/// The tag of a version. A tag has no `+`, which tools of the ecosystem write as `_`.
pub(crate) fn tag_of(version: &semver::Version) -> Result<String, String> {
    checked_tag(&version.to_string().replace('+', "_"))
}

fn is_repository(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        let inner = part.trim_matches(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let ends = part.bytes().next().is_some_and(is_plain) && part.bytes().next_back().is_some_and(is_plain);
        // Between letters and digits there is one dot, one or two underscores, or dashes.
        let mut between = inner.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let is_separator = |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
        ends && between.all(is_separator)
    };
    text.len() <= MOST_REPOSITORY && text.split('/').all(is_part)
}

/// A host with or without a port.
fn is_authority(text: &str) -> bool {
    let Some((host, port)) = split_port(text) else { return false };
    let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = port.is_none_or(|port| is_number(port) && port.parse::<u16>().is_ok_and(|port| port > 0));
    let is_name = |host: &str| {
        let is_label = |label: &str| {
            let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(is_inner)
        };
        host.len() <= 253 && host.split('.').all(is_label)
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    is_host && is_port
}

/// The host of an authority, with the brackets of an address, and its port.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    let end = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let (host, port) = text.split_at(end);
    if port.is_empty() {
        return Some((host, None));
    }
    port.strip_prefix(':').map(|port| (host, Some(port)))
}

/// Whether an authority is this machine itself.
pub(crate) fn is_loopback(authority: &str) -> bool {
    // What stands before an `@` is no host.
    let Some((host, _)) = split_port(authority).filter(|_| is_authority(authority)) else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_reference_is_read_in_its_parts() {
        for (text, registry, repository, tag, digest) in [
            ("oci://ghcr.io/acme/loyalty:1.0.0", "ghcr.io", "acme/loyalty", Some("1.0.0"), None),
            ("oci://GHCR.io/acme/loyalty", "ghcr.io", "acme/loyalty", None, None),
            ("oci://docker.io/acme/x:latest", "registry-1.docker.io", "acme/x", Some("latest"), None),
            ("oci://127.0.0.1:5000/x:0.2.0-dev", "127.0.0.1:5000", "x", Some("0.2.0-dev"), None),
            ("oci://[::1]:5000/a-b/c__d/e.f:_T", "[::1]:5000", "a-b/c__d/e.f", Some("_T"), None),
        ] {
            let read: Reference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((read.registry(), read.repository.as_str()), (registry, repository), "{text}");
            assert_eq!((read.tag.as_deref(), read.digest.as_ref()), (tag, digest), "{text}");
        }
        let both: Reference = format!("oci://ghcr.io/x:1@{HEX}").parse().unwrap();
        assert_eq!((both.wanted(), both.tag.as_deref()), (Some(HEX), Some("1")), "the digest is what is asked for");
        assert_eq!(both.to_string(), format!("oci://ghcr.io/x:1@{HEX}"));
        assert_eq!(both.pinned(&Digest::of(b"")), format!("oci://ghcr.io/x@{HEX}"));
        assert_eq!(both.tagged("2"), "oci://ghcr.io/x:2");
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "ghcr.io/acme/x:1",
            "https://ghcr.io/acme/x:1",
            "oci://ghcr.io",
            "oci:///x:1",
            "oci://ghcr.io/:1",
            "oci://user@ghcr.io/x:1",
            "oci://ghcr.io:0/x:1",
            "oci://ghcr.io:+443/x:1",
            "oci://ghcr.io:99999/x:1",
            "oci://-a.example/x:1",
            "oci://a..example/x:1",
            "oci://[::1/x:1",
            "oci://ghcr.io/Acme/x:1",
            "oci://ghcr.io/acme//x:1",
            "oci://ghcr.io/../x:1",
            "oci://ghcr.io/a/x?y:1",
            "oci://ghcr.io/a..b:1",
            "oci://ghcr.io/a___b:1",
            "oci://ghcr.io/-a:1",
            "oci://ghcr.io/a_:1",
            "oci://ghcr.io/x:",
            "oci://ghcr.io/x:a/b",
            "oci://ghcr.io/x:-a",
            "oci://ghcr.io/x@sha256:00",
            "oci://ghcr.io/x@sha512:00",
            "oci://ghcr.io/x@",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        assert!(format!("oci://ghcr.io/x:{}", "a".repeat(129)).parse::<Reference>().is_err());
        assert!(HEX.to_uppercase().parse::<Digest>().is_err());
    }

    #[test]
    fn a_version_is_a_tag_without_its_plus() {
        assert_eq!(tag_of(&"1.2.3-rc.1+build.7".parse().unwrap()).unwrap(), "1.2.3-rc.1_build.7");
    }

    #[test]
    fn only_this_machine_is_this_machine() {
        for (authority, is) in [
            ("localhost:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("localhost.example", false),
            ("127.0.0.1.example:5000", false),
            ("127.0.0.1:80@a.example", false),
            ("10.0.0.1:5000", false),
            ("[fe80::1]:5000", false),
        ] {
            assert_eq!(is_loopback(authority), is, "{authority}");
        }
    }
}
