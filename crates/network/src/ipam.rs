//! Which subnet a new network gets, and which address a new endpoint. Pure: the caller says what is in use and leases the answer in its
//! own transaction.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{Error, Result};
use crate::model::Subnet;

/// A default pool: `base` is cut into subnets of `size` bits (`--default-address-pool base=..,size=..`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// The whole.
    pub base: IpNet,
    /// Prefix length of the pieces.
    pub size: u8,
}

/// dockerd's own default pools for IPv4, in its order (daemon/libnetwork/ipamutils).
pub fn default_pools() -> Vec<Pool> {
    let pool = |a, b, bits, size| Pool {
        base: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), bits)),
        size,
    };
    let mut pools: Vec<Pool> = (17..=19).map(|b| pool(172, b, 16, 16)).collect();
    pools.push(pool(172, 20, 14, 16));
    pools.push(pool(172, 24, 14, 16));
    pools.push(pool(172, 28, 14, 16));
    pools.push(pool(192, 168, 16, 20));
    pools
}

/// A /48 of unique local addresses cut into /64, out of `seed` (a host or instance id), as RFC 4193 asks: the same host always gets the
/// same prefix, two hosts hardly ever.
pub fn ula_pool(seed: &[u8; 5]) -> Pool {
    let mut octets = [0u8; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(seed);
    Pool {
        base: IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(octets), 48)),
        size: 64,
    }
}

/// How many pieces of one pool are tried before going to the next: a bound for IPv6 pools, far above any real number of networks.
const MAX_PIECES: usize = 1 << 16;

/// The first piece of `pools`, of the wanted family, that overlaps nothing in `in_use` (networks of this daemon, and the host's routes).
pub fn choose_pool(pools: &[Pool], ipv6: bool, in_use: &[IpNet]) -> Result<IpNet> {
    for pool in pools
        .iter()
        .filter(|p| matches!(p.base, IpNet::V6(_)) == ipv6)
    {
        let pieces = pool.base.subnets(pool.size).map_err(|_| {
            Error::Invalid(format!("invalid pool size {} for {}", pool.size, pool.base))
        })?;
        let free = pieces
            .take(MAX_PIECES)
            .find(|piece| !in_use.iter().any(|used| overlaps(piece, used)));
        if let Some(piece) = free {
            return Ok(piece);
        }
    }
    Err(Error::NoPool)
}

/// Refuses a subnet that the user chose when it overlaps another network's. The host's own routes are allowed then, as in Docker.
pub fn check_pool(subnet: &IpNet, in_use: &[IpNet]) -> Result<()> {
    match in_use.iter().find(|used| overlaps(subnet, used)) {
        Some(other) => Err(Error::PoolOverlap {
            subnet: *subnet,
            other: *other,
        }),
        None => Ok(()),
    }
}

/// Two networks share an address.
pub fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// The gateway that a subnet without one gets: the first host address (of `range`'s pool, not of the range), as Docker.
pub fn default_gateway(cidr: &IpNet) -> IpAddr {
    match cidr.trunc() {
        IpNet::V4(net) if net.prefix_len() >= 31 => IpAddr::V4(net.network()),
        IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from(u32::from(net.network()).wrapping_add(1))),
        IpNet::V6(net) if net.prefix_len() >= 127 => IpAddr::V6(net.network()),
        IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from(u128::from(net.network()).wrapping_add(1))),
    }
}

/// The address for a new endpoint: `wanted` if it is free and inside the subnet, else the lowest free one of the range (or the pool).
/// The network and broadcast addresses, the gateway and the reserved addresses are never given out.
pub fn choose_address(
    subnet: &Subnet,
    in_use: &BTreeSet<IpAddr>,
    wanted: Option<IpAddr>,
) -> Result<IpAddr> {
    let taken = |ip: &IpAddr| {
        in_use.contains(ip)
            || subnet.gateway == Some(*ip)
            || subnet.reserved.values().any(|reserved| reserved == ip)
    };
    if let Some(ip) = wanted {
        if !subnet.cidr.contains(&ip) || is_edge(&subnet.cidr, ip) {
            return Err(Error::AddressOutside { address: ip });
        }
        return if taken(&ip) {
            Err(Error::AddressInUse { address: ip })
        } else {
            Ok(ip)
        };
    }
    // Each address passed over is a member of one of these, so the loop ends after as many steps.
    let steps = in_use.len() + subnet.reserved.len() + 4;
    addresses(&subnet.range.unwrap_or(subnet.cidr))
        .take(steps)
        .find(|ip| !taken(ip) && !is_edge(&subnet.cidr, *ip))
        .ok_or(Error::PoolExhausted {
            ipv6: matches!(subnet.cidr, IpNet::V6(_)),
            network: subnet.cidr,
        })
}

/// Every address of a network, the edges too.
fn addresses(net: &IpNet) -> Box<dyn Iterator<Item = IpAddr>> {
    match net {
        IpNet::V4(net) => Box::new(
            (u32::from(net.network())..=u32::from(net.broadcast()))
                .map(|n| IpAddr::V4(Ipv4Addr::from(n))),
        ),
        IpNet::V6(net) => Box::new(
            (u128::from(net.network())..=u128::from(net.broadcast()))
                .map(|n| IpAddr::V6(Ipv6Addr::from(n))),
        ),
    }
}

/// Network and broadcast address of IPv4 (not in /31 and /32: RFC 3021), subnet-router anycast of IPv6 (RFC 4291, 2.6.1).
fn is_edge(net: &IpNet, ip: IpAddr) -> bool {
    match (net, ip) {
        (IpNet::V4(net), IpAddr::V4(ip)) => {
            net.prefix_len() < 31 && (ip == net.network() || ip == net.broadcast())
        }
        (IpNet::V6(net), IpAddr::V6(ip)) => net.prefix_len() < 127 && ip == net.network(),
        (IpNet::V4(_), IpAddr::V6(_)) | (IpNet::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("network")
    }

    fn subnet(cidr: &str) -> Subnet {
        let cidr = net(cidr);
        Subnet {
            cidr,
            gateway: Some(default_gateway(&cidr)),
            range: None,
            reserved: Default::default(),
        }
    }

    #[test]
    fn first_free_pool_skips_what_overlaps() {
        let used = [
            net("172.17.0.0/16"),
            net("172.18.5.0/24"),
            net("172.16.0.0/15"),
        ];
        assert_eq!(
            choose_pool(&default_pools(), false, &used).expect("pool"),
            net("172.19.0.0/16")
        );
        let all = [net("0.0.0.0/0")];
        assert!(matches!(
            choose_pool(&default_pools(), false, &all),
            Err(Error::NoPool)
        ));
    }

    #[test]
    fn lowest_address_after_the_gateway() {
        let s = subnet("172.17.0.0/16");
        let mut used = BTreeSet::new();
        assert_eq!(
            choose_address(&s, &used, None)
                .expect("address")
                .to_string(),
            "172.17.0.2"
        );
        used.insert("172.17.0.2".parse().expect("ip"));
        assert_eq!(
            choose_address(&s, &used, None)
                .expect("address")
                .to_string(),
            "172.17.0.3"
        );
    }

    #[test]
    fn wanted_addresses_are_checked() {
        let s = subnet("10.204.0.0/24");
        let used = BTreeSet::from(["10.204.0.9".parse().expect("ip")]);
        let ask = |ip: &str| {
            choose_address(&s, &used, Some(ip.parse().expect("ip"))).map(|ip| ip.to_string())
        };
        assert_eq!(ask("10.204.0.7").expect("free"), "10.204.0.7");
        assert_eq!(
            ask("10.204.0.9").expect_err("used").to_string(),
            "Address already in use: 10.204.0.9"
        );
        assert_eq!(
            ask("10.204.0.1").expect_err("gateway").to_string(),
            "Address already in use: 10.204.0.1"
        );
        assert_eq!(
            ask("10.205.0.1").expect_err("outside").to_string(),
            "no configured subnet or ip-range contain the IP address 10.205.0.1"
        );
        assert!(ask("10.204.0.255").is_err());
    }

    #[test]
    fn ipv6_gets_one_and_two() {
        let pool = choose_pool(&[ula_pool(&[1, 2, 3, 4, 5])], true, &[]).expect("pool");
        assert_eq!(pool, net("fd01:203:405::/64"));
        let s = subnet("fd01:203:405::/64");
        assert_eq!(
            choose_address(&s, &BTreeSet::new(), None)
                .expect("address")
                .to_string(),
            "fd01:203:405::2"
        );
    }

    proptest! {
        /// Addresses are handed out without repetition, inside the range, until exactly the pool is empty.
        #[test]
        fn a_pool_is_used_up_exactly_once(bits in 24u8..=32, range_extra in 0u8..3) {
            let cidr: IpNet = net(&format!("10.204.7.0/{bits}"));
            let range = (bits + range_extra <= 32).then(|| net(&format!("10.204.7.0/{}", bits + range_extra)));
            let s = Subnet { cidr, gateway: Some(default_gateway(&cidr)), range, reserved: Default::default() };
            let mut used = BTreeSet::new();
            while let Ok(ip) = choose_address(&s, &used, None) {
                prop_assert!(range.unwrap_or(cidr).contains(&ip));
                prop_assert!(used.insert(ip));
                prop_assert!(used.len() <= 256);
            }
            let free = addresses(&range.unwrap_or(cidr))
                .filter(|ip| !is_edge(&cidr, *ip) && s.gateway != Some(*ip)).count();
            prop_assert_eq!(used.len(), free);
        }
    }
}
