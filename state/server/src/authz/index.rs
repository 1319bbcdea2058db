//! The roles and bindings of the cluster, sorted by whom they are about.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;
use setpoint_api::LabelSelector;

use super::{Attributes, Rule};
use crate::cache::Cache;
use crate::request::UserInfo;

/// The kinds in the order of [`Sources::revisions`].
const KINDS: [&str; 4] = [
    "rbac.authorization.k8s.io/clusterroles",
    "rbac.authorization.k8s.io/roles",
    "rbac.authorization.k8s.io/clusterrolebindings",
    "rbac.authorization.k8s.io/rolebindings",
];

/// The objects that an [`Index`] is made from.
#[derive(Default)]
pub(crate) struct Sources {
    /// All ClusterRoles.
    pub cluster_roles: Vec<Value>,
    /// All Roles.
    pub roles: Vec<Value>,
    /// All ClusterRoleBindings.
    pub cluster_bindings: Vec<Value>,
    /// All RoleBindings.
    pub bindings: Vec<Value>,
}

impl Sources {
    /// When each kind last changed.
    pub(crate) fn revisions(cache: &Cache) -> [u64; 4] {
        KINDS.map(|kind| cache.kind_revision(kind))
    }

    /// Everything that there is now.
    pub(crate) fn read(cache: &Cache) -> Sources {
        let [cluster_roles, roles, cluster_bindings, bindings] =
            KINDS.map(|kind| cache.list(kind, None).iter().map(|stored| stored.value()).collect());
        Sources {
            cluster_roles,
            roles,
            cluster_bindings,
            bindings,
        }
    }
}

/// Whom a binding is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

type Rules = Arc<Vec<Rule>>;

/// What a binding gives to one of its subjects.
struct Grant {
    rules: Rules,
    /// The binding, its role and the subject, in words.
    via: String,
}

/// The rules by subject.
#[derive(Default)]
pub(crate) struct Index {
    cluster_roles: HashMap<String, Rules>,
    roles: HashMap<(String, String), Rules>,
    everywhere: HashMap<Subject, Vec<Grant>>,
    /// By namespace.
    inside: HashMap<String, HashMap<Subject, Vec<Grant>>>,
}

impl Index {
    /// Sorts roles and bindings.
    pub(crate) fn build(sources: &Sources) -> Index {
        let mut index = Index::default();
        let by_name: HashMap<&str, &Value> = sources.cluster_roles.iter().map(|role| (name(role), role)).collect();
        for (&name, role) in &by_name {
            let mut rules = Vec::new();
            aggregate(role, &by_name, &mut HashSet::new(), &mut rules);
            index.cluster_roles.insert(name.to_owned(), Arc::new(rules));
        }
        for role in &sources.roles {
            index.roles.insert(
                (namespace(role).to_owned(), name(role).to_owned()),
                Arc::new(Rule::read_all(role)),
            );
        }
        for binding in &sources.cluster_bindings {
            if let Some(rules) = index.referenced(&binding["roleRef"], "") {
                for (subject, words) in subjects(binding, "") {
                    let grant = Grant::new(&rules, binding, name(binding), &words);
                    index.everywhere.entry(subject).or_default().push(grant);
                }
            }
        }
        for binding in &sources.bindings {
            let namespace = namespace(binding);
            if let Some(rules) = index.referenced(&binding["roleRef"], namespace) {
                let inside = index.inside.entry(namespace.to_owned()).or_default();
                let called = format!("{}/{namespace}", name(binding));
                for (subject, words) in subjects(binding, namespace) {
                    let grant = Grant::new(&rules, binding, &called, &words);
                    inside.entry(subject).or_default().push(grant);
                }
            }
        }
        index
    }

    /// The rules of the role that a `roleRef` names, seen from a namespace; `None` when there is no such role.
    pub(crate) fn referenced(&self, role_ref: &Value, namespace: &str) -> Option<Rules> {
        let name = role_ref["name"].as_str()?;
        match role_ref["kind"].as_str()? {
            "ClusterRole" => self.cluster_roles.get(name).cloned(),
            "Role" => self.roles.get(&(namespace.to_owned(), name.to_owned())).cloned(),
            _ => None,
        }
    }

    fn grants<'a>(&'a self, user: &UserInfo, namespace: &str) -> impl Iterator<Item = &'a Grant> {
        let subjects: Vec<Subject> = std::iter::once(Subject::User(user.name.clone()))
            .chain(user.groups.iter().cloned().map(Subject::Group))
            .collect();
        let maps = [Some(&self.everywhere), self.inside.get(namespace)];
        subjects.into_iter().flat_map(move |subject| {
            maps.into_iter()
                .flatten()
                .filter_map(move |map| map.get(&subject))
                .flatten()
                .collect::<Vec<_>>()
        })
    }

    /// The rules that hold for a user in a namespace (empty: at the cluster's scope).
    pub(crate) fn rules<'a>(&'a self, user: &UserInfo, namespace: &str) -> impl Iterator<Item = &'a Rule> {
        self.grants(user, namespace).flat_map(|grant| grant.rules.iter())
    }

    /// Whether some rule allows the user this.
    pub(crate) fn allows(&self, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
        self.granted_by(user, attributes).is_some()
    }

    /// The binding by which the user may do this.
    pub(crate) fn granted_by(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Option<&str> {
        self.grants(user, attributes.namespace)
            .find(|grant| grant.rules.iter().any(|rule| rule.allows(attributes)))
            .map(|grant| &*grant.via)
    }
}

impl Grant {
    fn new(rules: &Rules, binding: &Value, called: &str, subject: &str) -> Grant {
        let role = &binding["roleRef"];
        let text = |key: &str| role[key].as_str().unwrap_or_default();
        let kind = if called.contains('/') {
            "RoleBinding"
        } else {
            "ClusterRoleBinding"
        };
        Grant {
            rules: Arc::clone(rules),
            via: format!("{kind} {called:?} of {} {:?} to {subject}", text("kind"), text("name")),
        }
    }
}

/// The rules of a cluster role: its own, or those that its `aggregationRule` selects.
fn aggregate<'a>(
    role: &'a Value,
    roles: &HashMap<&'a str, &'a Value>,
    seen: &mut HashSet<&'a str>,
    out: &mut Vec<Rule>,
) {
    if !seen.insert(name(role)) {
        return;
    }
    let Some(selectors) = role["aggregationRule"]["clusterRoleSelectors"].as_array() else {
        out.extend(Rule::read_all(role));
        return;
    };
    for selector in selectors {
        let Ok(selector) = LabelSelector::from_value(selector) else {
            continue;
        };
        let mut chosen: Vec<&&Value> = roles.values().filter(|other| selector.matches_object(other)).collect();
        chosen.sort_by_key(|other| name(other));
        for other in chosen {
            aggregate(other, roles, seen, out);
        }
    }
}

/// The subjects of a binding, each with the words for it.
fn subjects(binding: &Value, namespace: &str) -> Vec<(Subject, String)> {
    let list = binding["subjects"].as_array().map_or(&[][..], Vec::as_slice);
    list.iter()
        .filter_map(|subject| {
            let name = subject["name"].as_str()?;
            match subject["kind"].as_str()? {
                "User" => Some((Subject::User(name.to_owned()), format!("User {name:?}"))),
                "Group" => Some((Subject::Group(name.to_owned()), format!("Group {name:?}"))),
                "ServiceAccount" => {
                    let namespace = subject["namespace"].as_str().unwrap_or(namespace);
                    let user = Subject::User(format!("system:serviceaccount:{namespace}:{name}"));
                    Some((user, format!("ServiceAccount \"{name}/{namespace}\"")))
                }
                _ => None,
            }
        })
        .collect()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}
