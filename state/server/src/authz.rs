//! Who may do what: RBAC over the cached roles and bindings, and rules of their own for the agents of nodes (`node`).
//!
//! `system:masters` may do everything. Everybody else may do what some rule of a role allows that is bound to them; nothing is
//! denied by a rule. The roles are read from the cache and indexed anew when one of their kinds has changed.
//! `rules` decides on one rule, `index` finds the rules of a user, `bootstrap` holds the roles that every cluster has and
//! `reconcile` brings them up to date, `aggregation` writes the rules of roles that are made of others, `escalation` keeps
//! a user from granting more than they have, `signers` decides who may approve and sign requests for certificates.

mod aggregation;
mod bootstrap;
mod escalation;
mod index;
mod node;
mod reconcile;
mod rules;
mod signers;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use parking_lot::Mutex;
use setpoint_api::Status;

pub(crate) use aggregation::follow as follow_aggregation;
pub(crate) use bootstrap::objects as bootstrap_objects;
pub(crate) use escalation::Escalation;
pub(crate) use index::{Index, Sources};
pub(crate) use node::{Restriction as NodeRestriction, identity as node_identity};
pub(crate) use reconcile::all as reconcile;
pub(crate) use rules::Rule;
pub(crate) use signers::Signers;

use crate::cache::Cache;
use crate::request::{RequestInfo, UserInfo};

/// What somebody wants to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes<'a> {
    /// The verb, as in [`RequestInfo`].
    pub verb: &'a str,
    /// The API group.
    pub group: &'a str,
    /// The plural.
    pub resource: &'a str,
    /// The part after the name.
    pub subresource: &'a str,
    /// The namespace; empty at the cluster's scope.
    pub namespace: &'a str,
    /// The object's name; empty when there is none.
    pub name: &'a str,
    /// The path, where this is no resource.
    pub path: Option<&'a str>,
    /// The field selector of a list or watch.
    pub fields: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    /// What a request wants.
    pub(crate) fn of(info: &'a RequestInfo) -> Attributes<'a> {
        if !info.is_resource {
            return Attributes {
                verb: &info.verb,
                path: Some(&info.path),
                ..Attributes::default()
            };
        }
        Attributes {
            verb: &info.verb,
            group: &info.group,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: info.namespace.as_deref().unwrap_or_default(),
            name: info.name.as_deref().unwrap_or_default(),
            path: None,
            fields: info.query.non_empty("fieldSelector"),
        }
    }
}

/// Decides by RBAC and by what runs on a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Authorizer {
    cache: Arc<Cache>,
    /// The index and the revisions of the four kinds that it was made from.
    index: Arc<Mutex<([u64; 4], Arc<Index>)>>,
    nodes: Arc<node::Graph>,
}

impl Authorizer {
    /// An authorizer over a cache.
    pub(crate) fn new(cache: Arc<Cache>) -> Authorizer {
        let index = (Sources::revisions(&cache), Index::build(&Sources::read(&cache)));
        let nodes = Arc::new(node::Graph::default());
        node::Graph::follow(&nodes, &cache);
        Authorizer {
            cache,
            nodes,
            index: Arc::new(Mutex::new((index.0, Arc::new(index.1)))),
        }
    }

    /// The index of what is in the cache now.
    pub(crate) fn index(&self) -> Arc<Index> {
        let mut index = self.index.lock();
        // The revisions are read before the objects, so that a change in between is seen the next time.
        let now = Sources::revisions(&self.cache);
        if index.0 != now {
            *index = (now, Arc::new(Index::build(&Sources::read(&self.cache))));
        }
        Arc::clone(&index.1)
    }

    /// Whether the user may do this.
    pub(crate) fn allows(&self, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
        self.refusal(user, attributes).is_none()
    }

    /// Why the user may not do this, as far as there is more to say than that no rule allows it; `None` when they may.
    fn refusal(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Option<String> {
        if user.is_master() {
            return None;
        }
        let why = match node::identity(user) {
            Some("") => format!("unknown node for user {:?}", user.name),
            Some(node) => node::decide(&self.cache, &self.nodes, node, attributes).err()?,
            None => String::new(),
        };
        (!self.index().allows(user, attributes)).then_some(why)
    }

    /// The objects that decisions are made from.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Why the user may do this, as reviews and the audit log say it; `None` where they may not. The reason is
    /// empty for masters and for nodes with what is theirs: they need no role.
    pub(crate) fn reason(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Option<String> {
        if user.is_master() {
            return Some(String::new());
        }
        if let Some(node) = node::identity(user).filter(|node| !node.is_empty())
            && node::decide(&self.cache, &self.nodes, node, attributes).is_ok()
        {
            return Some(String::new());
        }
        let index = self.index();
        let via = index.granted_by(user, attributes)?;
        Some(format!("RBAC: allowed by {via}"))
    }

    /// Refuses, in Kubernetes' words, what the user may not do.
    pub(crate) fn check(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Result<(), Status> {
        match self.refusal(user, attributes) {
            None => Ok(()),
            Some(why) => Err(forbidden(user, attributes, &why)),
        }
    }
}

/// The refusal of what a user wanted; `why` may be empty.
fn forbidden(user: &UserInfo, attributes: &Attributes<'_>, why: &str) -> Status {
    let Attributes {
        verb,
        group,
        resource,
        subresource,
        namespace,
        name,
        path,
        ..
    } = attributes;
    let user = &user.name;
    let why = if why.is_empty() {
        String::new()
    } else {
        format!(": {why}")
    };
    if let Some(path) = path {
        return Status::forbidden("", "", "", &format!("User {user:?} cannot {verb} path {path:?}{why}"));
    }
    let resource_path = if subresource.is_empty() {
        (*resource).to_owned()
    } else {
        format!("{resource}/{subresource}")
    };
    let scope = if namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {namespace:?}")
    };
    Status::forbidden(
        group,
        resource,
        name,
        &format!("User {user:?} cannot {verb} resource {resource_path:?} in API group {group:?} {scope}{why}"),
    )
}
