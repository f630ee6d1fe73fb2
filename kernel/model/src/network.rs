//! Ranges of network addresses as operators and admins write them, e.g. `10.0.0.0/8`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A range of addresses (CIDR). An address alone is a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// The first address: its bits behind the prefix are zero.
    base: IpAddr,
    prefix: u8,
}

/// Why a text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no range of addresses; write e.g. `10.0.0.0/8` or `fd12:3456::/32`, with zeros behind the prefix")]
pub struct InvalidNetwork(String);

/// The private ranges: RFC 1918, the shared addresses of RFC 6598, and IPv6's unique local ones.
const PRIVATE: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];

impl Network {
    /// Whether the address is in the range. An IPv4 address in its IPv6 form is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                agree(base.to_bits().into(), address.to_bits().into(), 32, self.prefix)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => agree(base.to_bits(), address.to_bits(), 128, self.prefix),
            _ => false,
        }
    }

    /// Whether all of `other` is in the range.
    pub fn covers(&self, other: &Network) -> bool {
        self.prefix <= other.prefix && self.contains(other.base)
    }

    /// Whether the whole range is private: neither public, nor the machine itself, nor of its link.
    pub fn is_private(&self) -> bool {
        PRIVATE.iter().filter_map(|range| range.parse::<Network>().ok()).any(|range| range.covers(self))
    }
}

/// Whether two addresses of so many bits agree in the first `prefix` of them.
fn agree(one: u128, other: u128, bits: u8, prefix: u8) -> bool {
    (one ^ other).checked_shr(u32::from(bits - prefix)).unwrap_or(0) == 0
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Network, InvalidNetwork> {
        let invalid = || InvalidNetwork(text.chars().take(64).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().map_err(|_| invalid())?;
        let bits = if base.is_ipv4() { 32 } else { 128 };
        let is_plain = |prefix: &&str| !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = match prefix {
            None => bits,
            Some(prefix) => Some(prefix).filter(is_plain).and_then(|prefix| prefix.parse().ok()).ok_or_else(invalid)?,
        };
        let value = match base {
            IpAddr::V4(base) => u128::from(base.to_bits()) << 96,
            // An IPv4 range in IPv6 clothes would hold nothing, since addresses are compared undressed.
            IpAddr::V6(base) if base.to_ipv4_mapped().is_some() => return Err(invalid()),
            IpAddr::V6(base) => base.to_bits(),
        };
        let is_aligned = prefix <= bits && value.checked_shl(u32::from(prefix)).unwrap_or(0) == 0;
        if is_aligned { Ok(Network { base, prefix }) } else { Err(invalid()) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_holds_what_agrees_in_its_prefix() {
        for (range, address, is_inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "::10.1.2.3", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.2", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fc00::1", false),
            ("::/0", "2001:db8::1", true),
            ("fd12::1/128", "fd12::1", true),
        ] {
            assert_eq!(network(range).contains(address.parse().unwrap()), is_inside, "{address} in {range}");
        }
        assert!(network("10.0.0.0/8").covers(&network("10.2.0.0/16")));
        assert!(!network("10.2.0.0/16").covers(&network("10.0.0.0/8")));
    }

    #[test]
    fn only_plain_ranges_are_read_and_shown_as_they_were_written() {
        for text in ["10.0.0.0/8", "192.168.4.0/22", "fd12:3456::/32", "::/0"] {
            assert_eq!(network(text).to_string(), text);
        }
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
            "fd00::/129",
            "a.b/8",
            "::ffff:10.0.0.0/104",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn private_is_neither_public_nor_the_machine_nor_its_link() {
        for text in ["10.0.0.0/8", "172.20.0.0/16", "192.168.1.7", "100.64.0.0/10", "fd00::/8"] {
            assert!(network(text).is_private(), "{text}");
        }
        for text in [
            "127.0.0.0/8",
            "169.254.0.0/16",
            "0.0.0.0/0",
            "8.0.0.0/7",
            "172.0.0.0/11",
            "::1",
            "fe80::/10",
            "::/0",
            "1.1.1.1",
        ] {
            assert!(!network(text).is_private(), "{text}");
        }
    }
}
