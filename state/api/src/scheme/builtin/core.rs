//! The kinds of the core group.

use super::{AUTHENTICATION, CONNECT, CREATE, PROXY, plain};
use crate::scheme::{Resource, SubresourceAction};
use crate::validate::metadata::NameRule;
use crate::{default, strategy, table, validate};

pub(super) fn core() -> Vec<Resource> {
    vec![
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
            .validated(validate::cluster::event, |_, _| Vec::new()),
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
        pods(),
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
            .prepared(strategy::kinds::service_create, |_, _| {})
            .defaulted(default::network::service)
            .validated(validate::network::service, validate::network::service_update),
    ]
}

fn pods() -> Resource {
    let option = |kind: &'static str| ("", "v1", kind);
    plain("", "Pod", "pods")
        .short(&["po"])
        .all()
        .status()
        .generation()
        .sub("attach", option("PodAttachOptions"), CONNECT, SubresourceAction::Attach)
        .sub("binding", option("Binding"), CREATE, SubresourceAction::Binding)
        .sub(
            "eviction",
            ("policy", "v1", "Eviction"),
            CREATE,
            SubresourceAction::Eviction,
        )
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
