//! The kinds of the core group.

use super::{AUTHENTICATION, CONNECT, CREATE, PROXY, plain};
use crate::scheme::{Resource, SubresourceAction};
use crate::validate::metadata::NameRule;
use crate::{default, strategy, table, validate};

pub(super) fn core() -> Vec<Resource> {
    vec![
        binding(),
        component_status(),
        plain("", "ConfigMap", "configmaps")
            .short(&["cm"])
            .table(table::config_map())
            .validated(validate::config::config_map, validate::config::config_map_update),
        plain("", "Endpoints", "endpoints")
            .short(&["ep"])
            .table(table::endpoints())
            .defaulted(default::network::endpoints)
            .deprecated("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
            .validated(validate::network::endpoints, |new, _| validate::network::endpoints(new)),
        plain("", "Event", "events")
            .short(&["ev"])
            .table(table::event())
            .selectable(&[
                "involvedObject.kind",
                "involvedObject.namespace",
                "involvedObject.name",
                "involvedObject.uid",
                "involvedObject.apiVersion",
                "involvedObject.resourceVersion",
                "involvedObject.fieldPath",
                "reason",
                "reportingComponent",
                "type",
            ])
            .selectable_at("source", "source.component", "")
            .validated(validate::event::core, |new, _| validate::event::core(new)),
        plain("", "LimitRange", "limitranges")
            .short(&["limits"])
            .defaulted(default::quota::limit_range)
            .unattended("limit ranges are not applied yet: pods and claims keep the resources that they say")
            .validated(validate::quota::limit_range, |new, _| validate::quota::limit_range(new)),
        plain("", "Namespace", "namespaces")
            .short(&["ns"])
            .cluster()
            .names(NameRule::Label)
            .without("deletecollection")
            .status()
            .sub(
                "finalize",
                ("", "v1", "Namespace"),
                &["update"],
                SubresourceAction::Finalize,
            )
            .table(table::namespace())
            .selectable(&["status.phase"])
            .defaulted(default::config::namespace)
            .prepared(strategy::kinds::namespace_create, strategy::kinds::namespace_update),
        plain("", "Node", "nodes")
            .short(&["no"])
            .cluster()
            .sub("proxy", ("", "v1", "NodeProxyOptions"), PROXY, SubresourceAction::Proxy)
            .status()
            .status_on_create()
            .table(table::node())
            .selectable_at("spec.unschedulable", "spec.unschedulable", "false")
            .defaulted(default::config::node)
            .validated(validate::cluster::node, validate::cluster::node_update),
        plain("", "PersistentVolumeClaim", "persistentvolumeclaims")
            .short(&["pvc"])
            .status()
            .table(table::persistent_volume_claim())
            .prepared(strategy::kinds::claim_create, |_, _| {})
            .defaulted(default::storage::claim)
            .validated(validate::persistent::claim, validate::persistent::claim_update),
        plain("", "PersistentVolume", "persistentvolumes")
            .short(&["pv"])
            .cluster()
            .status()
            .table(table::persistent_volume())
            .prepared(strategy::kinds::volume_create, |_, _| {})
            .defaulted(default::storage::volume)
            .validated(validate::persistent::volume, validate::persistent::volume_update),
        pods(),
        plain("", "PodTemplate", "podtemplates")
            .generation()
            .table(table::pod_template())
            .defaulted(default::replication::template)
            .validated(validate::replication::pod_template, |new, _| {
                validate::replication::pod_template(new)
            }),
        plain("", "ReplicationController", "replicationcontrollers")
            .short(&["rc"])
            .all()
            .status()
            .generation()
            .scaled()
            .table(table::replication_controller())
            .selectable_at("status.replicas", "status.replicas", "0")
            .prepared(strategy::kinds::replicas_create, |_, _| {})
            .defaulted(default::replication::controller)
            .unattended("no controller makes the pods of ReplicationControllers yet: use a Deployment")
            .validated(validate::replication::controller, |new, _| {
                validate::replication::controller(new)
            })
            .status_validated(|new, _| validate::replication::controller_status(new)),
        plain("", "ResourceQuota", "resourcequotas")
            .short(&["quota"])
            .status()
            .table(table::resource_quota())
            .defaulted(default::quota::quota)
            .unattended("quotas are not enforced yet: nothing is counted and nothing is refused")
            .validated(validate::quota::quota, validate::quota::quota_update)
            .status_validated(|new, _| validate::quota::quota_status(new)),
        plain("", "Secret", "secrets")
            .table(table::secret())
            .selectable(&["type"])
            .defaulted(default::config::secret)
            .validated(validate::config::secret, validate::config::secret_update),
        plain("", "ServiceAccount", "serviceaccounts")
            .short(&["sa"])
            .sub(
                "token",
                (AUTHENTICATION, "v1", "TokenRequest"),
                CREATE,
                SubresourceAction::Token,
            )
            .table(table::service_account()),
        plain("", "Service", "services")
            .short(&["svc"])
            .all()
            .names(NameRule::Label1035)
            .sub(
                "proxy",
                ("", "v1", "ServiceProxyOptions"),
                PROXY,
                SubresourceAction::Proxy,
            )
            .status()
            .table(table::service())
            .selectable(&["spec.clusterIP", "spec.type"])
            .prepared(strategy::kinds::service_create, strategy::kinds::service_update)
            .defaulted(default::network::service)
            .validated(validate::network::service, validate::network::service_update),
    ]
}

/// Bindings are not kept: making one binds the pod of its name.
fn binding() -> Resource {
    let mut row = plain("", "Binding", "bindings");
    row.verbs = CREATE.to_vec();
    row.creates = Some(SubresourceAction::Binding);
    row
}

/// There are none: this program has no components that could be asked one by one.
fn component_status() -> Resource {
    let mut row = plain("", "ComponentStatus", "componentstatuses")
        .short(&["cs"])
        .cluster()
        .table(table::component_status())
        .deprecated("v1 ComponentStatus is deprecated in v1.19+");
    row.verbs = vec!["get", "list"];
    row
}

fn pods() -> Resource {
    let option = |kind: &'static str| ("", "v1", kind);
    plain("", "Pod", "pods")
        .short(&["po"])
        .all()
        .status()
        .status_resets(&[
            &["spec"],
            &["metadata", "deletionTimestamp"],
            &["metadata", "ownerReferences"],
        ])
        .generation()
        .sub("attach", option("PodAttachOptions"), CONNECT, SubresourceAction::Attach)
        .sub("binding", option("Binding"), CREATE, SubresourceAction::Binding)
        .sub(
            "eviction",
            ("policy", "v1", "Eviction"),
            CREATE,
            SubresourceAction::Eviction,
        )
        .part(strategy::pod::EPHEMERAL_CONTAINERS)
        .part(strategy::pod::RESIZE)
        .sub("exec", option("PodExecOptions"), CONNECT, SubresourceAction::Exec)
        .sub("log", option("Pod"), &["get"], SubresourceAction::Log)
        .sub(
            "portforward",
            option("PodPortForwardOptions"),
            CONNECT,
            SubresourceAction::PortForward,
        )
        .sub("proxy", option("PodProxyOptions"), PROXY, SubresourceAction::Proxy)
        .table(table::pod())
        .selectable(&[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ])
        .selectable_at("spec.hostNetwork", "spec.hostNetwork", "false")
        .defaulted(default::pod::pod)
        .validated(validate::pod::create, validate::pod::update)
        .prepared(strategy::kinds::pod_create, |_, _| {})
}
