//! Responsible for which network addresses a plugin may reach: public ones, and private ones or the machine itself only where
//! both the host's settings and the grant say so. Names are not judged here, only what they resolve to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use kith_model::network::Network;

/// What may be reached beside public addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// This machine.
    pub(super) loopback: bool,
    /// Private ranges that the host's settings and the grant both name.
    pub(super) networks: Vec<Network>,
}

impl Reach {
    fn holds(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if address.is_loopback() {
            return self.loopback;
        }
        let is_granted = || self.networks.iter().any(|network| network.is_private() && network.contains(address));
        !is_metadata(address) && is_granted()
    }

    /// Whether the address is none of the machine's own, or those may be reached.
    fn admits_owner_of(&self, address: IpAddr, is_own: impl Fn(IpAddr) -> bool) -> bool {
        self.loopback || !is_own(address.to_canonical())
    }
}

/// Whether a network interface of this machine has the address: only there a socket can have it.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

/// Where clouds hand their machines credentials and names inside private ranges, and a machine for a second time where it is only
/// one address: whoever reaches one of these is the machine. The usual 169.254.169.254 is in no private range, and Azure's is
/// among the special public ones.
fn is_metadata(address: IpAddr) -> bool {
    match address {
        // Alibaba.
        IpAddr::V4(address) => address == Ipv4Addr::new(100, 100, 100, 200),
        // AWS, Oracle, Scaleway, Google.
        IpAddr::V6(address) => {
            matches!(address.segments(), [0xfd00, 0xec2 | 0xc1 | 0x42, ..] | [0xfd20, 0xce, ..])
        }
    }
}

/// It names the flags of the server and no address: a plugin must not learn what internal names resolve to.
const NOT_PUBLIC: &str = "the host is not at a public address; this machine is reached only where the server has --allow-loopback and \
     the grant names the port, a private network only where --allow-network and the grant both name it";

/// The addresses to connect to, in order.
///
/// # Errors
/// A reason for the guest when there is none, or **any** may not be reached: a name that resolves to a public and to a
/// private address is an attack or a mistake, and the second address is never tried.
pub(super) fn admit(found: Vec<SocketAddr>, reach: &Reach) -> Result<Vec<SocketAddr>, String> {
    if found.is_empty() {
        return Err("the host has no address".into());
    }
    let admitted = |address: &SocketAddr| {
        (is_global(address.ip()) || reach.holds(address.ip())) && reach.admits_owner_of(address.ip(), is_own)
    };
    if found.iter().all(admitted) { Ok(found) } else { Err(NOT_PUBLIC.to_owned()) }
}

/// Whether packets to the address leave for the public Internet, whatever notation or tunnel it is dressed in.
pub(super) fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => is_global_v6(address),
    }
}

/// The ranges of IANA's special-purpose registry that are not globally reachable, multicast and the reserved ones, and the public
/// address at which Azure talks to its machines and to nobody else.
fn is_global_v4(address: Ipv4Addr) -> bool {
    const SPECIAL: [([u8; 4], u32); 16] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([168, 63, 129, 16], 32),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        ([224, 0, 0, 0], 4),
        ([240, 0, 0, 0], 4),
    ];
    let bits = address.to_bits();
    !SPECIAL.iter().any(|(base, length)| (bits ^ Ipv4Addr::from(*base).to_bits()) >> (32 - length) == 0)
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    let embedded = |high: u16, low: u16| is_global_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match parts {
        // IPv4-mapped; IPv4-compatible, with `::` and `::1` among them.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0, 0, high, low] => embedded(high, low),
        // NAT64, which an IPv6-only network needs to reach public IPv4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        // 6to4.
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo and other protocol assignments; documentation.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // Global unicast is 2000::/3 and nothing else.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_global() {
        let inner = [
            "127.0.0.1",
            "0.0.0.0",
            "::1",
            "::",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "168.63.129.16",
            "64:ff9b::a83f:8110",
            "::ffff:168.63.129.16",
            "2002:a83f:8110::1",
            "169.254.169.254",
            "169.254.170.2",
            "fd00:ec2::254",
            "fe80::1",
            "fc00::1",
            "192.0.0.192",
            "100.100.100.200",
            "198.18.0.1",
            "198.19.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:db8::1",
            "3fff::1",
            "fec0::1",
            "100::1",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "5f00::1",
        ];
        for address in inner {
            assert!(!is_global(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
            "2002:101:101::1",
            "2001:4860:4860::8888",
        ] {
            assert!(is_global(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn one_private_address_spoils_all() {
        let addresses =
            |list: &[&str]| list.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 443)).collect();
        let (nothing, machine) = (Reach::default(), Reach { loopback: true, ..Reach::default() });
        assert!(admit(addresses(&["1.1.1.1", "2606:4700::1111"]), &nothing).is_ok());
        assert!(admit(addresses(&["1.1.1.1", "10.0.0.1"]), &nothing).is_err());
        assert!(admit(addresses(&["1.1.1.1", "10.0.0.1"]), &machine).is_err());
        assert!(admit(addresses(&["127.0.0.1", "::1"]), &nothing).is_err());
        assert!(admit(addresses(&["127.0.0.1", "::1"]), &machine).is_ok());
        assert!(admit(addresses(&["169.254.169.254"]), &machine).is_err());
        assert!(admit(Vec::new(), &machine).is_err());
    }

    /// Whatever range it is of.
    #[test]
    fn the_machines_own_addresses_are_the_machine() {
        let own = |address: IpAddr| address == IpAddr::from([8, 8, 8, 8]);
        let (nothing, machine) = (Reach::default(), Reach { loopback: true, ..Reach::default() });
        for (address, is_admitted) in [("8.8.8.8", false), ("::ffff:8.8.8.8", false), ("8.8.4.4", true)] {
            let address = address.parse().unwrap();
            assert_eq!(nothing.admits_owner_of(address, own), is_admitted, "{address}");
            assert!(machine.admits_owner_of(address, own));
        }
        assert!(is_own(IpAddr::from([127, 0, 0, 1])) && !is_own(IpAddr::from([192, 0, 2, 1])));
    }

    #[test]
    fn a_granted_range_opens_itself_and_never_the_machine_or_its_credentials() {
        let everything =
            ["10.0.0.0/8", "100.64.0.0/10", "fc00::/7", "0.0.0.0/0", "::/0", "169.254.0.0/16", "127.0.0.0/8"];
        for (ranges, found, is_admitted) in [
            (&["10.1.0.0/16"][..], &["10.1.2.3"][..], true),
            (&["10.1.0.0/16"], &["::ffff:10.1.2.3"], true),
            (&["10.1.0.0/16"], &["10.1.2.3", "1.1.1.1"], true),
            (&["10.1.0.0/16"], &["10.2.0.1"], false),
            (&["10.1.0.0/16"], &["10.1.2.3", "10.2.0.1"], false),
            (&["10.1.0.0/16"], &["64:ff9b::a01:203"], false),
            (&["10.1.0.0/16"], &["2002:a01:203::1"], false),
            (&["fd12::/16"], &["fd12::1"], true),
            (&["fd12::/16"], &["fd13::1"], false),
            (&everything, &["127.0.0.1"], false),
            (&everything, &["::1"], false),
            (&everything, &["::ffff:127.0.0.1"], false),
            (&everything, &["0.0.0.0"], false),
            (&everything, &["169.254.169.254"], false),
            (&everything, &["::ffff:169.254.169.254"], false),
            (&everything, &["fe80::1"], false),
            (&everything, &["fd00:ec2::254"], false),
            (&everything, &["fd00:ec2::253"], false),
            (&everything, &["fd00:42::42"], false),
            (&everything, &["fd00:c1::a9fe:a9fe"], false),
            (&everything, &["fd20:ce::254"], false),
            (&everything, &["168.63.129.16"], false),
            (&everything, &["100.100.100.200"], false),
            (&everything, &["224.0.0.1"], false),
            (&everything, &["172.16.0.1"], false),
            (&everything, &["100.64.0.1"], true),
        ] {
            let networks = ranges.iter().map(|range| range.parse().unwrap()).collect();
            let found = found.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 443)).collect::<Vec<_>>();
            let admitted = admit(found.clone(), &Reach { loopback: false, networks });
            assert_eq!(admitted.is_ok(), is_admitted, "{found:?} with {ranges:?}");
        }
    }
}
