//! The kinds by which a cluster keeps itself: leases, slices of endpoints, definitions of kinds.

use super::plain;
use crate::scheme::Resource;
use crate::{default, table, validate};

pub(super) fn cluster() -> Vec<Resource> {
    vec![
        plain("coordination.k8s.io", "Lease", "leases")
            .table(table::lease())
            .heartbeat(&[&["spec", "renewTime"]])
            .validated(validate::cluster::lease, |new, _| validate::cluster::lease(new)),
        plain("discovery.k8s.io", "EndpointSlice", "endpointslices")
            .generation()
            .table(table::endpoint_slice())
            .defaulted(default::network::endpoint_slice)
            .validated(
                validate::network::endpoint_slice,
                validate::network::endpoint_slice_update,
            ),
        plain(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            "customresourcedefinitions",
        )
        .short(&["crd", "crds"])
        .category("api-extensions")
        .cluster()
        .status()
        .status_resets(&[&["spec"], &["metadata"]])
        .generation()
        .defaulted(default::config::definition)
        .validated(validate::definition::create, validate::definition::update),
    ]
}
