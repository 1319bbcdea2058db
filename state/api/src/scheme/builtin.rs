//! The rows of the built-in kinds, in the order of discovery.

use super::{ALL_VERBS, Resource, Rules, ScalePaths, SelectableField, Subresource, SubresourceAction};
use crate::validate::metadata::NameRule;
use crate::{default, strategy, table, validate};

const STATUS_VERBS: &[&str] = &["get", "patch", "update"];
const CREATE: &[&str] = &["create"];
const CONNECT: &[&str] = &["create", "get"];
const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Makes all built-in rows.
pub fn rows() -> Vec<Resource> {
    let mut rows = core();
    rows.extend(apps());
    rows.extend(rbac());
    rows.extend(others());
    rows.extend(reviews());
    rows
}

fn core() -> Vec<Resource> {
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

fn apps() -> Vec<Resource> {
    vec![
        plain("apps", "Deployment", "deployments")
            .short(&["deploy"])
            .all()
            .status()
            .generation()
            .scaled()
            .table(table::deployment())
            .defaulted(default::workload::deployment)
            .validated(validate::workload::deployment, validate::workload::deployment_update),
        plain("apps", "ReplicaSet", "replicasets")
            .short(&["rs"])
            .all()
            .status()
            .generation()
            .scaled()
            .table(table::replica_set())
            .selectable_at("status.replicas", "status.replicas", "0")
            .defaulted(default::workload::replica_set)
            .validated(validate::workload::replica_set, validate::workload::replica_set_update),
    ]
}

fn rbac() -> Vec<Resource> {
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

fn others() -> Vec<Resource> {
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
        .generation()
        .defaulted(default::config::definition)
        .validated(validate::definition::create, validate::definition::update),
    ]
}

fn reviews() -> Vec<Resource> {
    let review = |group, kind: &'static str| {
        let plural = format!("{}s", kind.to_lowercase());
        let mut row = plain(group, kind, &plural).cluster();
        row.verbs = CREATE.to_vec();
        row.name_rule = NameRule::Optional;
        row
    };
    let mut local = review(AUTHORIZATION, "LocalSubjectAccessReview");
    local.namespaced = true;
    vec![
        review(AUTHENTICATION, "SelfSubjectReview"),
        review(AUTHENTICATION, "TokenReview"),
        local,
        review(AUTHORIZATION, "SelfSubjectAccessReview"),
        review(AUTHORIZATION, "SelfSubjectRulesReview"),
        review(AUTHORIZATION, "SubjectAccessReview"),
    ]
}

/// Makes a namespaced kind with all verbs and nothing special.
pub(super) fn plain(group: &str, kind: &str, plural: &str) -> Resource {
    let (columns, row) = table::created_at();
    Resource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        storage_version: "v1".to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced: true,
        verbs: ALL_VERBS.to_vec(),
        subresources: Vec::new(),
        has_status: false,
        status_on_create: false,
        has_generation: false,
        heartbeat: &[],
        columns,
        row,
        selectable_fields: Vec::new(),
        name_rule: NameRule::Subdomain,
        rules: Rules::NONE,
        deprecation: None,
        schema: None,
        custom: false,
    }
}

impl Resource {
    fn short(mut self, names: &[&str]) -> Resource {
        self.short_names = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    fn deprecated(mut self, warning: &str) -> Resource {
        self.deprecation = Some(warning.to_owned());
        self
    }

    fn all(self) -> Resource {
        self.category("all")
    }

    fn category(mut self, category: &str) -> Resource {
        self.categories.push(category.to_owned());
        self
    }

    fn cluster(mut self) -> Resource {
        self.namespaced = false;
        self
    }

    fn names(mut self, rule: NameRule) -> Resource {
        self.name_rule = rule;
        self
    }

    fn without(mut self, verb: &str) -> Resource {
        self.verbs.retain(|found| *found != verb);
        self
    }

    /// Adds a status that is written through its subresource only.
    pub(super) fn status(mut self) -> Resource {
        self.has_status = true;
        let (group, version, kind) = (self.group.clone(), self.version.clone(), self.kind.clone());
        self.sub(
            "status",
            (&group, &version, &kind),
            STATUS_VERBS,
            SubresourceAction::Status,
        )
    }

    fn status_on_create(mut self) -> Resource {
        self.status_on_create = true;
        self
    }

    /// Counts changes in `metadata.generation`.
    pub(super) fn generation(mut self) -> Resource {
        self.has_generation = true;
        self
    }

    fn heartbeat(mut self, fields: &'static [&'static [&'static str]]) -> Resource {
        self.heartbeat = fields;
        self
    }

    fn scaled(self) -> Resource {
        let path = |first: &str, last: &str| vec![first.to_owned(), last.to_owned()];
        let paths = ScalePaths {
            spec_replicas: path("spec", "replicas"),
            status_replicas: path("status", "replicas"),
            selector: Some(path("spec", "selector")),
        };
        self.scale_at(paths)
    }

    /// Adds the scale subresource.
    pub(super) fn scale_at(self, paths: ScalePaths) -> Resource {
        self.sub(
            "scale",
            ("autoscaling", "v1", "Scale"),
            STATUS_VERBS,
            SubresourceAction::Scale(paths),
        )
    }

    fn sub(
        mut self,
        name: &str,
        (group, version, kind): (&str, &str, &str),
        verbs: &'static [&'static str],
        action: SubresourceAction,
    ) -> Resource {
        self.subresources.push(Subresource {
            name: name.to_owned(),
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            verbs,
            action,
        });
        self
    }

    fn table(mut self, (columns, row): (Vec<table::Column>, table::Row)) -> Resource {
        (self.columns, self.row) = (columns, row);
        self
    }

    fn selectable(mut self, names: &[&str]) -> Resource {
        self.selectable_fields
            .extend(names.iter().map(|name| SelectableField::new(name)));
        self
    }

    fn selectable_at(mut self, name: &str, path: &str, absent: &'static str) -> Resource {
        self.selectable_fields.push(SelectableField {
            name: name.to_owned(),
            absent,
            ..SelectableField::new(path)
        });
        self
    }

    fn defaulted(mut self, default: fn(&mut serde_json::Value)) -> Resource {
        self.rules.default = default;
        self
    }

    fn validated(
        mut self,
        create: fn(&serde_json::Value) -> Vec<crate::FieldError>,
        update: fn(&serde_json::Value, &serde_json::Value) -> Vec<crate::FieldError>,
    ) -> Resource {
        self.rules.validate_create = create;
        self.rules.validate_update = update;
        self
    }

    fn prepared(
        mut self,
        create: fn(&mut serde_json::Value),
        update: fn(&mut serde_json::Value, &serde_json::Value),
    ) -> Resource {
        self.rules.prepare_create = create;
        self.rules.prepare_update = update;
        self
    }
}
