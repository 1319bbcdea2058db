//! Which address ranges are free on this host.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::netlink::Socket;
use crate::{NetError, Ranges, route};

/// Returns free ranges, given what is in use.
pub(crate) fn choose(used: &[Ipv4Net]) -> Result<Ranges, NetError> {
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
    Ok(Ranges { pods, services })
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
pub(crate) fn in_use(socket: &mut Socket) -> Result<Vec<Ipv4Net>, NetError> {
    let mut used: Vec<Ipv4Net> = route::addresses(socket)?
        .into_iter()
        .map(|address| address.net.trunc())
        .collect();
    used.extend(route::routes(socket)?.into_iter().map(|route| route.to));
    // Halves of the default route (0.0.0.0/1, as VPNs set them) say nothing about who uses a range.
    used.retain(|net| net.prefix_len() > 1);
    used.sort();
    used.dedup();
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
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
}
