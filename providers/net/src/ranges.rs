//! Which address ranges are free on this host.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::netlink::Socket;
use crate::{Family, Ipv6Ranges, NetError, Ranges, route};

/// Below an instance's /48: its pods' /64 and its services' /112. The numbers recall IPv4's 10.42 and 10.96.
const PODS: u16 = 0x42;
const SERVICES: u16 = 0x96;

/// Returns free ranges of IPv4, given what is in use.
pub(crate) fn choose(used: &[IpNet]) -> Result<Ranges, NetError> {
    let used: Vec<Ipv4Net> = used
        .iter()
        .filter_map(|net| match net {
            IpNet::V4(net) => Some(*net),
            IpNet::V6(_) => None,
        })
        .collect();
    let free = |range: &Ipv4Net| !used.iter().any(|used| used.contains(range) || range.contains(used));
    let pods = pod_candidates().find(free).ok_or(NetError::NoFreeRange {
        purpose: "pods",
        candidates: "10.42.0.0/16, 10.43.0.0/16 to 10.63.0.0/16 and 172.20.0.0/14 in steps of /24".to_owned(),
    })?;
    let services = service_candidates()
        .find(|range| free(range) && !range.contains(&pods) && !pods.contains(range))
        .ok_or(NetError::NoFreeRange {
            purpose: "services",
            candidates: "10.96.0.0/16 to 10.127.0.0/16 and 172.24.0.0/16 to 172.27.0.0/16".to_owned(),
        })?;
    Ok(Ranges {
        pods,
        services,
        ipv6: None,
    })
}

/// Returns free ranges of IPv6: those of the first free prefix from this global identifier (RFC 4193: forty random bits) on.
pub(crate) fn choose_ipv6(global_id: u64, used: &[IpNet]) -> Result<Ipv6Ranges, NetError> {
    const TRIES: u64 = 64;
    let prefix = |number: u64| {
        let bits = (0xfd << 40 | global_id.wrapping_add(number) & 0xff_ffff_ffff) << 16;
        Ipv6Addr::from(u128::from(bits) << 64)
    };
    let free = |prefix: &Ipv6Addr| {
        let own = IpNet::from(Ipv6Net::new_assert(*prefix, 48));
        // Others may say of all unique local addresses where they go: that takes none of them.
        let narrow = used.iter().filter(|used| used.prefix_len() > 8);
        !narrow.into_iter().any(|used| used.contains(&own) || own.contains(used))
    };
    let found = (0..TRIES).map(prefix).find(free).ok_or_else(|| NetError::NoFreeRange {
        purpose: "IPv6",
        candidates: format!("{}/48 and the {TRIES} after it", prefix(0)),
    })?;
    let below = |subnet: u16, length| {
        let bits = u128::from(found) | u128::from(subnet) << 64;
        Ipv6Net::new_assert(Ipv6Addr::from(bits), length)
    };
    Ok(Ipv6Ranges {
        pods: below(PODS, 64),
        services: below(SERVICES, 112),
    })
}

fn range(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

fn pod_candidates() -> impl Iterator<Item = Ipv4Net> {
    let tens = (42..64).flat_map(|b| (0..=255).map(move |c| range(10, b, c, 24)));
    tens.chain((20..24).flat_map(|b| (0..=255).map(move |c| range(172, b, c, 24))))
}

fn service_candidates() -> impl Iterator<Item = Ipv4Net> {
    (96..128)
        .map(|b| range(10, b, 0, 16))
        .chain((24..28).map(|b| range(172, b, 0, 16)))
}

/// Returns what is in use: every address with its subnet, every route of every table but the default ones.
pub(crate) fn in_use(socket: &mut Socket, family: Family) -> Result<Vec<IpNet>, NetError> {
    let mut used: Vec<IpNet> = route::addresses(socket, family)?
        .into_iter()
        .map(|address| address.net.trunc())
        .collect();
    used.extend(route::routes(socket, family)?.into_iter().map(|route| route.to));
    // Halves of the default route (0.0.0.0/1, as VPNs set them) say nothing about who uses a range.
    used.retain(|net| net.prefix_len() > 1);
    used.sort();
    used.dedup();
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_empty_host_gets_the_usual_ranges() {
        let ranges = choose(&[]).unwrap();
        assert_eq!(ranges.pods.to_string(), "10.42.0.0/24");
        assert_eq!(ranges.services.to_string(), "10.96.0.0/16");
        assert_eq!(ranges.gateway().to_string(), "10.42.0.1");
        assert_eq!(ranges.kubernetes_service().to_string(), "10.96.0.1");
    }

    #[test]
    fn a_second_instance_gets_the_next_ranges() {
        let ranges = choose(&nets(&["10.42.0.1/32", "10.96.0.0/16"])).unwrap();
        assert_eq!(ranges.pods.to_string(), "10.42.1.0/24");
        assert_eq!(ranges.services.to_string(), "10.97.0.0/16");
    }

    #[test]
    fn a_large_private_network_pushes_both_elsewhere() {
        let ranges = choose(&nets(&["10.0.0.0/8"])).unwrap();
        assert_eq!(ranges.pods.to_string(), "172.20.0.0/24");
        assert_eq!(ranges.services.to_string(), "172.24.0.0/16");
    }

    #[test]
    fn no_free_range_is_an_error_that_says_what_was_tried() {
        let error = choose(&nets(&["10.0.0.0/8", "172.16.0.0/12"])).unwrap_err();
        assert!(error.to_string().contains("10.42.0.0/16"), "{error}");
    }
    #[test]
    fn ipv6_ranges_are_unique_local_ones_of_the_given_number() {
        let ranges = choose_ipv6(0xff_1234_5678_9abc, &nets(&["fd00::/8", "2001:db8::/32"])).unwrap();
        assert_eq!(ranges.pods.to_string(), "fd34:5678:9abc:42::/64");
        assert_eq!(ranges.services.to_string(), "fd34:5678:9abc:96::/112");
        let next = choose_ipv6(0x34_5678_9abc, &nets(&["fd34:5678:9abc:42::1/128"])).unwrap();
        assert_eq!(next.pods.to_string(), "fd34:5678:9abd:42::/64");
    }

    #[test]
    fn a_pods_second_address_is_at_the_place_of_its_first() {
        let ranges = Ranges {
            ipv6: Some(choose_ipv6(1, &[]).unwrap()),
            ..choose(&[]).unwrap()
        };
        let pod = ranges.addresses(Ipv4Addr::new(10, 42, 0, 200));
        let all: Vec<String> = pod.all().map(|ip| ip.to_string()).collect();
        assert_eq!(all, ["10.42.0.200", "fd00:0:1:42::c8"]);
        let gateways: Vec<String> = ranges.subnets().iter().map(|net| net.gateway.to_string()).collect();
        assert_eq!(gateways, ["10.42.0.1", "fd00:0:1:42::1"]);
    }
}
