//! The kinds of certificates.k8s.io/v1.

use super::plain;
use crate::scheme::Resource;
use crate::strategy::kinds::{APPROVAL, spec_stays};
use crate::table;
use crate::validate::certificates;
use crate::validate::metadata::NameRule;

const CERTIFICATES: &str = "certificates.k8s.io";

pub(super) fn certificates() -> Vec<Resource> {
    vec![
        plain(CERTIFICATES, "CertificateSigningRequest", "certificatesigningrequests")
            .short(&["csr"])
            .cluster()
            .names(NameRule::PathSegment)
            .part(APPROVAL)
            .status()
            .unattended(
                "certificatesigningrequests are stored and can be approved, but nothing in this program signs them yet",
            )
            .table(table::signing_request())
            .selectable(&["spec.signerName"])
            .prepared(|_| {}, spec_stays)
            .validated(certificates::create, certificates::update)
            .status_validated(certificates::status),
        plain(CERTIFICATES, "ClusterTrustBundle", "clustertrustbundles")
            .cluster()
            .names(NameRule::PathSegment)
            .unattended("clustertrustbundles are stored, but not given to pods yet")
            .table(table::trust_bundle())
            .selectable(&["spec.signerName"])
            .validated(certificates::bundle, certificates::bundle_update),
        plain(CERTIFICATES, "PodCertificateRequest", "podcertificaterequests")
            .status()
            .unattended("podcertificaterequests are stored, but nothing in this program signs them yet")
            .table(table::pod_request())
            .selectable(&["spec.signerName", "spec.podName", "spec.nodeName"])
            .validated(certificates::pod_request, certificates::pod_request_update)
            .status_validated(certificates::pod_request_status),
    ]
}
