//! What the agent of a node may do: the user `system:node:NAME` in the group `system:nodes`.
//!
//! As Kubernetes' node authorizer (`plugin/pkg/auth/authorizer/node`): a node reads Secrets, ConfigMaps, claims and volumes only
//! where a pod that is bound to it refers to them, asks for tokens only of the accounts of such pods, and sees and writes itself, its
//! lease and its own pods. Beyond that an agent of ours watches volumes, and takes its finalizer off those that are folders on its node. Who refers to what is kept in [`graph`]; what cannot be told from a request's path (whose pod a status is
//! of, which labels a node gives itself) is held by [`restriction`] when the object is there.

mod graph;
mod references;
mod restriction;

use setpoint_api::{FieldSelector, meta};

pub(crate) use graph::Graph;
pub(crate) use restriction::Restriction;

use super::Attributes;
use crate::cache::Cache;
use crate::request::UserInfo;
use references::Kind;

/// The group of all nodes.
const NODES: &str = "system:nodes";
/// What the name of a node's user begins with.
const PREFIX: &str = "system:node:";
/// The namespace of the nodes' leases.
const LEASES: &str = "kube-node-lease";

/// Who makes volumes that are folders on a node.
const LOCAL_PROVISIONER: &str = "setpoint.dev/local";

const READ: &[&str] = &["get", "list", "watch"];
const CREATE: &[&str] = &["create"];
const OWN: &[&str] = &["get", "create", "update", "patch", "delete"];

/// What every node may, whatever runs on it: groups, resources, verbs.
///
/// An agent of ours programs services, too, so that it reads what Kubernetes' `system:node-proxier` reads.
const RULES: &[(&[&str], &[&str], &[&str])] = &[
    (&["authentication.k8s.io"], &["tokenreviews"], CREATE),
    (
        &["authorization.k8s.io"],
        &["subjectaccessreviews", "localsubjectaccessreviews"],
        CREATE,
    ),
    (&[""], &["services"], READ),
    (&["", "events.k8s.io"], &["events"], &["create", "update", "patch"]),
    (&["discovery.k8s.io"], &["endpointslices"], READ),
    (
        &["certificates.k8s.io"],
        &["certificatesigningrequests"],
        &["create", "get", "list", "watch"],
    ),
    (&["storage.k8s.io"], &["csidrivers"], READ),
    (&["node.k8s.io"], &["runtimeclasses"], READ),
];

/// The node whose agent a user is; `None` for everybody else, empty for an agent that does not say of which.
pub(crate) fn identity(user: &UserInfo) -> Option<&str> {
    if !user.in_group(NODES) {
        return None;
    }
    user.name.strip_prefix(PREFIX)
}

/// Whether the agent of a node may do this; the error says why not, empty where there is nothing to say.
pub(super) fn decide(cache: &Cache, graph: &Graph, node: &str, wanted: &Attributes<'_>) -> Result<(), String> {
    let request = Request {
        cache,
        graph,
        node,
        wanted,
    };
    if wanted.path.is_some() {
        return Err(String::new());
    }
    match (wanted.group, wanted.resource) {
        ("", "secrets") => request.read(Kind::Secret),
        ("", "configmaps") => request.read(Kind::ConfigMap),
        ("", "persistentvolumeclaims") if wanted.subresource == "status" => {
            request.verb(&["update", "patch"], "can only get/update/patch this type")?;
            request.related(Kind::Claim)
        }
        ("", "persistentvolumeclaims") => {
            request.get()?;
            request.related(Kind::Claim)
        }
        // Which volumes of its own are to go a node hears by watching them.
        ("", "persistentvolumes") if matches!(wanted.verb, "list" | "watch") && wanted.name.is_empty() => Ok(()),
        ("", "persistentvolumes") => {
            request.verb(&["get", "patch"], "can only get, list, watch or patch this type")?;
            if !wanted.subresource.is_empty() {
                return Err("cannot get subresource".to_owned());
            }
            if request.owns_volume() {
                return Ok(());
            }
            request.get()?;
            request.volume()
        }
        ("", "serviceaccounts") => {
            if wanted.verb != "create" || wanted.name.is_empty() {
                return Err("can only create tokens for individual service accounts".to_owned());
            }
            if wanted.subresource != "token" {
                return Err("can only create token subresource of serviceaccount".to_owned());
            }
            request.related(Kind::Account)
        }
        ("coordination.k8s.io", "leases") => {
            request.verb(OWN, "can only get, create, update, patch, or delete a node lease")?;
            if wanted.namespace != LEASES {
                return Err(format!("can only access leases in the {LEASES:?} system namespace"));
            }
            request.own("can only access node lease with the same name as the requesting node")
        }
        ("storage.k8s.io", "csinodes") => {
            request.verb(OWN, "can only get, create, update, patch, or delete a CSINode")?;
            if !wanted.subresource.is_empty() {
                return Err("cannot authorize CSINode subresources".to_owned());
            }
            request.own("can only access CSINode with the same name as the requesting node")
        }
        ("", "nodes") => request.node(),
        ("", "pods") => request.pod(),
        _ => request.rules(),
    }
}

struct Request<'a> {
    cache: &'a Cache,
    graph: &'a Graph,
    node: &'a str,
    wanted: &'a Attributes<'a>,
}

impl Request<'_> {
    fn verb(&self, verbs: &[&str], otherwise: &str) -> Result<(), String> {
        if verbs.contains(&self.wanted.verb) {
            Ok(())
        } else {
            Err(otherwise.to_owned())
        }
    }

    fn unrelated(&self) -> String {
        format!("no relationship found between node '{}' and this object", self.node)
    }

    /// A pod of the node refers to the object.
    fn related(&self, kind: Kind) -> Result<(), String> {
        let Attributes { namespace, name, .. } = *self.wanted;
        if name.is_empty() {
            return Err("No Object name found".to_owned());
        }
        if self.graph.refers(self.cache, self.node, kind, namespace, name) {
            Ok(())
        } else {
            Err(self.unrelated())
        }
    }

    /// One object, read in any way: an agent follows those that it needs.
    fn read(&self, kind: Kind) -> Result<(), String> {
        self.verb(READ, "can only read resources of this type")?;
        if !self.wanted.subresource.is_empty() {
            return Err("cannot read subresource".to_owned());
        }
        if self.wanted.namespace.is_empty() {
            return Err("can only read namespaced object of this type".to_owned());
        }
        self.related(kind)
    }

    fn get(&self) -> Result<(), String> {
        self.verb(&["get"], "can only get individual resources of this type")?;
        if self.wanted.subresource.is_empty() {
            Ok(())
        } else {
            Err("cannot get subresource".to_owned())
        }
    }

    /// The volume is bound to a claim, and the claim to it, that a pod of the node refers to.
    fn volume(&self) -> Result<(), String> {
        let claim = || {
            let volume = self.cache.get("core/persistentvolumes", "", self.wanted.name)?.value();
            let text = |key: &str| volume["spec"]["claimRef"][key].as_str().map(str::to_owned);
            let (namespace, name) = (text("namespace")?, text("name")?);
            let claim = self.cache.get("core/persistentvolumeclaims", &namespace, &name)?;
            let bound = claim.value()["spec"]["volumeName"] == self.wanted.name;
            bound.then_some((namespace, name))
        };
        match claim() {
            Some((namespace, name)) if self.graph.refers(self.cache, self.node, Kind::Claim, &namespace, &name) => {
                Ok(())
            }
            _ => Err(self.unrelated()),
        }
    }

    /// The volume is a folder on the node.
    fn owns_volume(&self) -> bool {
        let volume = self.cache.get("core/persistentvolumes", "", self.wanted.name);
        volume.is_some_and(|volume| {
            let volume = volume.value();
            let terms = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
            let there = |expression: &serde_json::Value| {
                expression["key"] == "kubernetes.io/hostname"
                    && expression["operator"] == "In"
                    && expression["values"] == serde_json::json!([self.node])
            };
            let expressions = terms[0]["matchExpressions"].as_array();
            meta::annotation(&volume, "pv.kubernetes.io/provisioned-by") == Some(LOCAL_PROVISIONER)
                && expressions.is_some_and(|expressions| expressions.iter().any(there))
        })
    }

    /// The name is the node's own. When something is made it is not known yet.
    fn own(&self, otherwise: &str) -> Result<(), String> {
        if self.wanted.verb == "create" || self.wanted.name == self.node {
            Ok(())
        } else {
            Err(otherwise.to_owned())
        }
    }

    fn node(&self) -> Result<(), String> {
        let Attributes {
            verb,
            subresource,
            name,
            ..
        } = *self.wanted;
        match (subresource, verb) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
            ("", "get" | "list" | "watch") if name == self.node => Ok(()),
            ("", "get" | "list" | "watch") if name.is_empty() => Err(format!(
                "node '{}' cannot read all nodes, only its own Node object",
                self.node
            )),
            ("", "get" | "list" | "watch") => Err(format!(
                "node '{}' cannot read '{name}', only its own Node object",
                self.node
            )),
            _ => Err(String::new()),
        }
    }

    fn pod(&self) -> Result<(), String> {
        let Attributes {
            verb,
            subresource,
            name,
            ..
        } = *self.wanted;
        match (subresource, verb) {
            ("", "get") => self.own_pod(),
            ("", "list" | "watch") => {
                let selector = self
                    .wanted
                    .fields
                    .and_then(|fields| fields.parse::<FieldSelector>().ok());
                let selected = selector.as_ref().and_then(|selector| selector.exact("spec.nodeName"));
                if selected == Some(self.node) {
                    Ok(())
                } else if name.is_empty() {
                    Err("can only list/watch pods with spec.nodeName field selector".to_owned())
                } else {
                    self.own_pod()
                }
            }
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        }
    }

    /// The pod is bound to the node.
    fn own_pod(&self) -> Result<(), String> {
        let Attributes { namespace, name, .. } = *self.wanted;
        let pod = self.cache.get("core/pods", namespace, name);
        if pod.is_some_and(|pod| pod.field("spec.nodeName") == self.node) {
            Ok(())
        } else {
            Err(self.unrelated())
        }
    }

    fn rules(&self) -> Result<(), String> {
        let Attributes {
            verb,
            group,
            resource,
            subresource,
            ..
        } = *self.wanted;
        let allowed = subresource.is_empty()
            && RULES.iter().any(|(groups, resources, verbs)| {
                groups.contains(&group) && resources.contains(&resource) && verbs.contains(&verb)
            });
        if allowed { Ok(()) } else { Err(String::new()) }
    }
}
