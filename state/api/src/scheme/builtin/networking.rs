//! The kinds of networking.k8s.io/v1.

use super::plain;
use crate::scheme::Resource;
use crate::validate::metadata::NameRule;
use crate::validate::{ingress, network_policy, service_range};
use crate::{default, table};

const NETWORKING: &str = "networking.k8s.io";

pub(super) fn networking() -> Vec<Resource> {
    let kind = |kind, plural| plain(NETWORKING, kind, plural);
    vec![
        kind("IngressClass", "ingressclasses")
            .cluster()
            .generation()
            .table(table::ingress_class())
            .defaulted(default::networking::ingress_class)
            .validated(ingress::class, ingress::class_update),
        kind("Ingress", "ingresses")
            .short(&["ing"])
            .status()
            .generation()
            .unattended(
                "ingresses are stored, but nothing in this program serves them; a controller that runs as a pod may",
            )
            .table(table::ingress())
            .validated(ingress::create, ingress::update)
            .status_validated(ingress::status),
        kind("IPAddress", "ipaddresses")
            .short(&["ip"])
            .cluster()
            .names(NameRule::PathSegment)
            .unattended("ipaddresses are stored, but addresses of services are given out without looking at them")
            .table(table::ip_address())
            .selectable_at(
                "spec.parentRef.name",
                "spec.parentRef.name",
                "",
            )
            .validated(service_range::address, service_range::address_update),
        kind("NetworkPolicy", "networkpolicies")
            .short(&["netpol"])
            .generation()
            .unattended("networkpolicies are stored, but not enforced yet: all pods reach each other")
            .table(table::network_policy())
            .defaulted(default::networking::network_policy)
            .validated(network_policy::create, network_policy::update),
        kind("ServiceCIDR", "servicecidrs")
            .cluster()
            .status()
            .unattended("servicecidrs are stored, but addresses of services are taken from the range that this server was started with")
            .table(table::service_range())
            .validated(service_range::range, service_range::range_update),
    ]
}
