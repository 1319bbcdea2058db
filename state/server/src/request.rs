//! What a request asks for and who asks: [`RequestInfo`] and [`UserInfo`].
//!
//! The rules are Kubernetes' own (`apiserver/pkg/endpoints/request/requestinfo.go`): a path below `/api/VERSION` or
//! `/apis/GROUP/VERSION` that goes on is a resource request, everything else is not. Pure; no request is refused here.

mod query;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use query::Query;

/// Undoes percent encoding.
pub(crate) fn decode(text: &str) -> String {
    query::decode(text, false)
}

/// The group that may do everything, without any rule.
pub const MASTERS: &str = "system:masters";
/// The group of everybody who is known.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of those who are not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user that stands for those who are not known.
pub const ANONYMOUS: &str = "system:anonymous";

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for what is no resource, the
    /// method in lower case.
    pub verb: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The version in the path, as `v1`.
    pub version: String,
    /// The plural, as `pods`.
    pub resource: String,
    /// The part after the name, as `status`; empty when there is none.
    pub subresource: String,
    /// The namespace in the path; `None` for cluster-wide requests (also a list over all namespaces).
    pub namespace: Option<String>,
    /// The object's name; set too where a list selects one name by `metadata.name=`.
    pub name: Option<String>,
    /// Whether this is about a resource at all.
    pub is_resource: bool,
    /// The path as it came.
    pub path: String,
    /// The query, decoded.
    pub query: Query,
}

impl RequestInfo {
    /// Reads method and URI.
    pub fn parse(method: &http::Method, uri: &http::Uri) -> RequestInfo {
        let query = Query::parse(uri.query().unwrap_or_default());
        let mut info = RequestInfo {
            verb: method.as_str().to_ascii_lowercase(),
            path: uri.path().to_owned(),
            query,
            ..RequestInfo::default()
        };
        let segments: Vec<String> = uri
            .path()
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| query::decode(segment, false))
            .collect();
        let mut rest = match segments.first().map(String::as_str) {
            Some("api") if segments.len() > 2 => {
                info.version.clone_from(&segments[1]);
                &segments[2..]
            }
            Some("apis") if segments.len() > 3 => {
                info.group.clone_from(&segments[1]);
                info.version.clone_from(&segments[2]);
                &segments[3..]
            }
            _ => return info,
        };
        info.is_resource = true;
        info.verb = match *method {
            http::Method::POST => "create",
            http::Method::GET | http::Method::HEAD => "get",
            http::Method::PUT => "update",
            http::Method::PATCH => "patch",
            http::Method::DELETE => "delete",
            _ => "",
        }
        .to_owned();
        // The old form `/api/v1/watch/pods`, which some clients still send.
        let mut watch_prefix = false;
        if rest[0] == "watch" && info.verb == "get" && rest.len() > 1 {
            watch_prefix = true;
            rest = &rest[1..];
        }
        if rest[0] == "namespaces"
            && let Some(namespace) = rest.get(1)
        {
            info.namespace = Some(namespace.clone());
            // `namespaces/x/status` is about the namespace; `namespaces/x/pods` about what is in it.
            if rest.get(2).is_some_and(|next| next != "status" && next != "finalize") {
                rest = &rest[2..];
            }
        }
        info.resource.clone_from(&rest[0]);
        info.name = rest.get(1).cloned();
        info.subresource = match rest.get(2).map(String::as_str) {
            // What follows is a path of somebody else's.
            Some("proxy") => "proxy".to_owned(),
            Some(_) => rest[2..].join("/"),
            None => String::new(),
        };
        let watch = watch_prefix || info.query.flag("watch");
        if info.name.is_none() {
            match info.verb.as_str() {
                "get" => {
                    info.verb = if watch { "watch" } else { "list" }.to_owned();
                    info.name = info.query.get("fieldSelector").and_then(selected_name);
                }
                "delete" => {
                    info.verb = "deletecollection".to_owned();
                    info.name = info.query.get("fieldSelector").and_then(selected_name);
                }
                _ => {}
            }
        } else if watch_prefix {
            info.verb = "watch".to_owned();
        }
        info
    }

    /// The group and version as objects write them: `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// What follows the name of a proxied object's `proxy`, as it came: empty, or from its first slash on.
    pub fn proxied_path(&self) -> &str {
        // `/api/v1`, the namespace if there is one, the resource, the name, `proxy`.
        let parts = if self.namespace.is_some() { 7 } else { 5 };
        let mut rest = self.path.as_str();
        for _ in 0..parts {
            rest = rest.trim_start_matches('/');
            rest = rest.find('/').map_or("", |at| &rest[at..]);
        }
        rest
    }

    /// `resource` or `resource/subresource`, as RBAC rules name it.
    pub fn resource_path(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// Whether the verb only reads.
    pub fn is_read(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch" | "head" | "options")
    }

    /// Whether the answer goes on for as long as the client likes.
    pub fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || (self.is_resource
                && (self.subresource == "proxy"
                    || (self.resource == "pods"
                        && matches!(self.subresource.as_str(), "log" | "exec" | "attach" | "portforward"))))
    }
}

/// The name that a field selector asks for, when it asks for one.
fn selected_name(selector: &str) -> Option<String> {
    selector.split(',').find_map(|term| {
        let value = term
            .strip_prefix("metadata.name==")
            .or_else(|| term.strip_prefix("metadata.name="))?;
        // `a=b` has an operator only once; a name holds no '='.
        (!value.is_empty() && !value.contains('=')).then(|| value.to_owned())
    })
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The user's name.
    pub name: String,
    /// Tells users of one name apart over time; empty when unknown.
    pub uid: String,
    /// The groups that the user is in.
    pub groups: Vec<String>,
    /// What else the authenticator found out.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user of these groups, known to us.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> UserInfo {
        let mut user = UserInfo {
            name: name.into(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            ..UserInfo::default()
        };
        user.add_group(AUTHENTICATED);
        user
    }

    /// A part of Setpoint itself, which may do everything: `system:NAME` in `system:masters`.
    pub fn system(name: &str) -> UserInfo {
        UserInfo::new(format!("system:{name}"), &[MASTERS])
    }

    /// A service account, with the groups that it is in by Kubernetes' rules.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> UserInfo {
        let mut user = UserInfo::new(
            format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")],
        );
        uid.clone_into(&mut user.uid);
        user
    }

    /// The agent of a node: `system:node:NAME` in `system:nodes`. It may do what the pods that are bound to the node need.
    pub fn node(name: &str) -> UserInfo {
        UserInfo::new(format!("system:node:{name}"), &["system:nodes"])
    }

    /// Somebody who did not say who they are.
    pub fn anonymous() -> UserInfo {
        UserInfo {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..UserInfo::default()
        }
    }

    /// Whether the user is in this group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|other| other == group)
    }

    /// Whether the user may do everything.
    pub fn is_master(&self) -> bool {
        self.in_group(MASTERS)
    }

    /// Puts the user into a group once.
    pub fn add_group(&mut self, group: &str) {
        if !self.in_group(group) {
            self.groups.push(group.to_owned());
        }
    }
}
