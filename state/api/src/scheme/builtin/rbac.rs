//! The kinds of rbac.authorization.k8s.io/v1.

use super::plain;
use crate::scheme::Resource;
use crate::validate::metadata::NameRule;
use crate::{default, table, validate};

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn rbac() -> Vec<Resource> {
    let kind = |kind, plural| plain(RBAC, kind, plural).names(NameRule::PathSegment);
    vec![
        kind("ClusterRoleBinding", "clusterrolebindings")
            .cluster()
            .table(table::role_binding())
            .defaulted(default::rbac::binding)
            .validated(
                validate::rbac::cluster_role_binding,
                validate::rbac::cluster_role_binding_update,
            ),
        kind("ClusterRole", "clusterroles")
            .cluster()
            .validated(validate::rbac::cluster_role, |new, _| validate::rbac::cluster_role(new)),
        kind("RoleBinding", "rolebindings")
            .table(table::role_binding())
            .defaulted(default::rbac::binding)
            .validated(validate::rbac::role_binding, validate::rbac::role_binding_update),
        kind("Role", "roles").validated(validate::rbac::role, |new, _| validate::rbac::role(new)),
    ]
}
