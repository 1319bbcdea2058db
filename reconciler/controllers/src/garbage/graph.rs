//! Who owns whom: the graph that garbage collection decides upon. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster::Kind;

/// The finalizer of an object whose dependents go first.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents stay.
pub const ORPHAN: &str = "orphan";

/// An owner as a dependent names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The owner's uid: the only thing that counts.
    pub uid: Arc<str>,
    /// Its version as written.
    pub api_version: Arc<str>,
    /// Its kind.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Whether the owner, deleted in the foreground, waits for the dependent.
    pub blocks: bool,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its uid.
    pub uid: Arc<str>,
    /// Its kind.
    pub kind: Arc<Kind>,
    /// Its namespace; `None` for cluster-wide objects.
    pub namespace: Option<Arc<str>>,
    /// Its name.
    pub name: Arc<str>,
    /// Who owns it.
    pub owners: Vec<Owner>,
    /// Whether its deletion has begun.
    pub deleting: bool,
    /// Whether its dependents are to go first.
    pub foreground: bool,
    /// Whether its dependents are to stay.
    pub orphan: bool,
}

impl Node {
    /// Reads what matters of an object's metadata; `None` where the server sent no uid.
    pub fn of(kind: &Arc<Kind>, metadata: &ObjectMeta) -> Option<Node> {
        let has = |wanted: &str| {
            metadata
                .finalizers
                .iter()
                .flatten()
                .any(|finalizer| finalizer == wanted)
        };
        let owners = metadata.owner_references.iter().flatten().map(|owner| Owner {
            uid: owner.uid.as_str().into(),
            api_version: owner.api_version.as_str().into(),
            kind: owner.kind.as_str().into(),
            name: owner.name.as_str().into(),
            blocks: owner.block_owner_deletion == Some(true),
        });
        Some(Node {
            uid: metadata.uid.as_deref()?.into(),
            kind: kind.clone(),
            namespace: metadata.namespace.as_deref().map(Into::into),
            name: metadata.name.as_deref()?.into(),
            owners: owners.collect(),
            deleting: metadata.deletion_timestamp.is_some(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
        })
    }

    fn waits_for_dependents(&self) -> bool {
        self.deleting && self.foreground
    }
}

/// What an object calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Remove the object from its dependents' owners, then the finalizer.
    Orphan {
        /// The object.
        owner: Node,
        /// Those that it owns.
        dependents: Vec<Node>,
    },
    /// Nothing blocks it any longer: remove the finalizer.
    Release(Node),
    /// Some owners are unknown or wait for this object: look at them, then delete it or let them go.
    Check {
        /// The object.
        node: Node,
        /// Owners that the graph does not hold.
        unknown: Vec<Owner>,
        /// Owners that wait for this object to go.
        waiting: Vec<Owner>,
        /// How many owners are there for sure.
        present: usize,
        /// Whether the object owns others.
        has_dependents: bool,
    },
}

/// The objects and their ties.
#[derive(Default)]
pub struct Graph {
    nodes: HashMap<Arc<str>, Node>,
    dependents: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl Graph {
    /// Takes an object as it is now; returns the uids that need a look.
    pub fn apply(&mut self, node: Node) -> Vec<Arc<str>> {
        let uid = node.uid.clone();
        let before = self.nodes.get(&uid).cloned();
        if before.as_ref() == Some(&node) {
            return Vec::new();
        }
        if let Some(before) = &before {
            self.untie(before);
        }
        for owner in &node.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
        let mut look = Vec::new();
        if !node.owners.is_empty() || node.deleting {
            look.push(uid.clone());
        }
        // A new owner settles what its dependents wondered; one that waits asks its dependents to go.
        if node.waits_for_dependents() {
            look.extend(self.dependents_of(&uid));
        }
        // A dependent that no longer names an owner, or no longer blocks it, may have been the last.
        look.extend(before.iter().flat_map(|before| self.waiting_owners(before)));
        self.nodes.insert(uid, node);
        look
    }

    /// Forgets an object that is gone; returns it and the uids that need a look.
    pub fn remove(&mut self, uid: &str) -> (Option<Node>, Vec<Arc<str>>) {
        let Some(node) = self.nodes.remove(uid) else {
            return (None, Vec::new());
        };
        self.untie(&node);
        let mut look: Vec<Arc<str>> = self.dependents_of(uid).collect();
        look.extend(self.waiting_owners(&node));
        (Some(node), look)
    }

    /// Forgets the objects of a kind that are not in `present`; returns them and the uids that need a look.
    pub fn retain(&mut self, kind: &Kind, present: &HashSet<Arc<str>>) -> (Vec<Node>, Vec<Arc<str>>) {
        let gone: Vec<Arc<str>> = self
            .nodes
            .values()
            .filter(|node| *node.kind == *kind && !present.contains(&node.uid))
            .map(|node| node.uid.clone())
            .collect();
        let mut nodes = Vec::new();
        let mut look = Vec::new();
        for uid in gone {
            let (node, more) = self.remove(&uid);
            nodes.extend(node);
            look.extend(more);
        }
        (nodes, look)
    }

    /// Says what an object calls for.
    pub fn step(&self, uid: &str) -> Step {
        let Some(node) = self.nodes.get(uid) else {
            return Step::Nothing;
        };
        if node.deleting && node.orphan {
            let dependents = self
                .dependents_of(uid)
                .filter_map(|uid| self.nodes.get(&uid).cloned())
                .collect();
            return Step::Orphan {
                owner: node.clone(),
                dependents,
            };
        }
        if node.waits_for_dependents() {
            let blocked = self.dependents_of(uid).any(|dependent| {
                let node = self.nodes.get(&dependent);
                node.is_some_and(|node| node.owners.iter().any(|owner| owner.blocks && *owner.uid == *uid))
            });
            return if blocked {
                Step::Nothing
            } else {
                Step::Release(node.clone())
            };
        }
        if node.deleting {
            return Step::Nothing;
        }
        let (mut unknown, mut waiting, mut present) = (Vec::new(), Vec::new(), 0);
        for owner in &node.owners {
            match self.nodes.get(&owner.uid).filter(|found| reachable(found, node)) {
                None => unknown.push(owner.clone()),
                Some(found) if found.waits_for_dependents() => waiting.push(owner.clone()),
                Some(_) => present += 1,
            }
        }
        if unknown.is_empty() && waiting.is_empty() {
            return Step::Nothing;
        }
        let has_dependents = self.dependents_of(uid).next().is_some();
        Step::Check {
            node: node.clone(),
            unknown,
            waiting,
            present,
            has_dependents,
        }
    }

    /// Returns all uids, for a first look.
    pub fn owned(&self) -> Vec<Arc<str>> {
        let relevant = |node: &&Node| !node.owners.is_empty() || node.deleting;
        self.nodes
            .values()
            .filter(relevant)
            .map(|node| node.uid.clone())
            .collect()
    }

    fn dependents_of(&self, uid: &str) -> impl Iterator<Item = Arc<str>> {
        self.dependents.get(uid).into_iter().flatten().cloned()
    }

    fn waiting_owners(&self, node: &Node) -> Vec<Arc<str>> {
        node.owners
            .iter()
            .filter(|owner| self.nodes.get(&owner.uid).is_some_and(Node::waits_for_dependents))
            .map(|owner| owner.uid.clone())
            .collect()
    }

    fn untie(&mut self, node: &Node) {
        for owner in &node.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(&node.uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }
}

/// An owner is cluster-wide or lives in its dependent's namespace; a reference across namespaces is void.
fn reachable(owner: &Node, dependent: &Node) -> bool {
    owner.namespace.is_none() || owner.namespace == dependent.namespace
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind() -> Arc<Kind> {
        Arc::new(Kind {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            plural: "configmaps".into(),
        })
    }

    fn node(uid: &str, owners: &[&str]) -> Node {
        let owner = |uid: &&str| Owner {
            uid: (*uid).into(),
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: (*uid).into(),
            blocks: true,
        };
        Node {
            uid: uid.into(),
            kind: kind(),
            namespace: Some("default".into()),
            name: uid.into(),
            owners: owners.iter().map(owner).collect(),
            deleting: false,
            foreground: false,
            orphan: false,
        }
    }

    fn uids(look: Vec<Arc<str>>) -> Vec<String> {
        look.into_iter().map(|uid| uid.to_string()).collect()
    }

    #[test]
    fn a_dependent_is_looked_at_when_its_owner_goes() {
        let mut graph = Graph::default();
        graph.apply(node("owner", &[]));
        graph.apply(node("child", &["owner"]));
        assert_eq!(graph.step("child"), Step::Nothing);
        let (gone, look) = graph.remove("owner");
        assert_eq!(gone.map(|node| node.uid.to_string()).as_deref(), Some("owner"));
        assert_eq!(uids(look), ["child"]);
        assert!(matches!(graph.step("child"), Step::Check { present: 0, unknown, .. } if unknown.len() == 1));
    }

    #[test]
    fn a_dependent_stays_while_one_owner_stays() {
        let mut graph = Graph::default();
        graph.apply(node("a", &[]));
        graph.apply(node("b", &[]));
        graph.apply(node("child", &["a", "b"]));
        graph.remove("a");
        assert!(matches!(graph.step("child"), Step::Check { present: 1, .. }));
    }

    #[test]
    fn a_foreground_deletion_waits_for_what_blocks_it() {
        let mut graph = Graph::default();
        graph.apply(node("owner", &[]));
        graph.apply(node("child", &["owner"]));
        let look = graph.apply(Node {
            deleting: true,
            foreground: true,
            ..node("owner", &[])
        });
        assert_eq!(uids(look), ["owner", "child"]);
        assert_eq!(graph.step("owner"), Step::Nothing);
        assert!(matches!(graph.step("child"), Step::Check { present: 0, waiting, .. } if waiting.len() == 1));
        let (_, look) = graph.remove("child");
        assert_eq!(uids(look), ["owner"]);
        assert!(matches!(graph.step("owner"), Step::Release(_)));
    }

    #[test]
    fn an_owner_in_another_namespace_is_none() {
        let mut graph = Graph::default();
        graph.apply(Node {
            namespace: Some("other".into()),
            ..node("owner", &[])
        });
        graph.apply(node("child", &["owner"]));
        assert!(matches!(graph.step("child"), Step::Check { present: 0, .. }));
        graph.apply(Node {
            namespace: None,
            ..node("owner", &[])
        });
        assert_eq!(graph.step("child"), Step::Nothing);
    }

    #[test]
    fn orphans_lose_their_owner_and_stay() {
        let mut graph = Graph::default();
        graph.apply(node("child", &["owner"]));
        graph.apply(Node {
            deleting: true,
            orphan: true,
            ..node("owner", &[])
        });
        assert!(matches!(graph.step("owner"), Step::Orphan { dependents, .. } if dependents.len() == 1));
    }
}
