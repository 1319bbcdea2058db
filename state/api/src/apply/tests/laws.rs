//! What holds for every object, checked on many.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::differ::field_set;
use super::super::fields::{PathElement, Set};
use super::super::managed::Managers;
use super::super::node::Node;
use super::super::{server_side, track_update};
use super::random::{self, Dice};
use super::{apply, deployment, deployments, writer};
use crate::schema::{Schema, builtin};

fn element() -> impl Strategy<Value = PathElement> {
    prop_oneof![
        "[a-z.:\\\\\"]{1,4}".prop_map(PathElement::Field),
        ("[a-z]{1,3}", 0_i64..9)
            .prop_map(|(name, value)| PathElement::key([("name", &Value::from(name)), ("port", &Value::from(value))])),
        "[a-z\"]{0,3}".prop_map(|value| PathElement::value(&Value::from(value))),
        (0_i64..9).prop_map(PathElement::Index),
    ]
}

fn set() -> impl Strategy<Value = Set> {
    let leaf = proptest::collection::btree_set(element(), 0..4).prop_map(|members| Set {
        members,
        ..Set::default()
    });
    leaf.prop_recursive(3, 24, 3, |inner| {
        (
            proptest::collection::btree_set(element(), 0..3),
            proptest::collection::btree_map(element(), inner, 0..3),
        )
            .prop_map(|(members, children)| {
                let children = children.into_iter().filter(|(_, below)| !below.is_empty()).collect();
                Set { members, children }
            })
    })
}

/// A configuration that says some of: replicas, paused, labels, containers with images and env.
fn configuration() -> impl Strategy<Value = Value> {
    let containers = proptest::collection::btree_map(
        "[a-d]",
        (0_u8..3, proptest::collection::btree_map("[P-R]", 0_u8..3, 0..3)),
        0..4,
    );
    (
        proptest::option::of(0_u8..4),
        proptest::option::of(any::<bool>()),
        proptest::collection::btree_map("[x-z]", 0_u8..3, 0..3),
        containers,
    )
        .prop_map(|(replicas, paused, labels, containers)| {
            let mut spec = json!({});
            if let Some(replicas) = replicas {
                spec["replicas"] = replicas.into();
            }
            if let Some(paused) = paused {
                spec["paused"] = paused.into();
            }
            let list: Vec<Value> = containers
                .iter()
                .map(|(name, (image, env))| {
                    let env: Vec<Value> = env
                        .iter()
                        .map(|(name, value)| json!({"name": name, "value": value.to_string()}))
                        .collect();
                    let mut container = json!({"name": name, "image": image.to_string()});
                    if !env.is_empty() {
                        container["env"] = env.into();
                    }
                    container
                })
                .collect();
            if !list.is_empty() {
                spec["template"] = json!({"spec": {"containers": list}});
            }
            let mut object = deployment(spec);
            drop_empty_spec(&mut object);
            if !labels.is_empty() {
                object["metadata"]["labels"] = labels
                    .into_iter()
                    .map(|(key, value)| (key, Value::from(value.to_string())))
                    .collect::<Map<_, _>>()
                    .into();
            }
            object
        })
}

fn forced(live: Option<&Value>, applied: &Value, manager: &str) -> Value {
    server_side(&deployments(), live, applied, true, &writer(manager)).expect("force leaves no conflict")
}

/// The part of an object that people care about.
fn content(object: &Value) -> Value {
    let mut out = object.clone();
    if let Some(metadata) = out["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    out
}

/// An empty object is a value of its own, which somebody owns.
fn drop_empty_spec(object: &mut Value) {
    if object["spec"].as_object().is_some_and(Map::is_empty) {
        object.as_object_mut().expect("an object").remove("spec");
    }
}

/// Kinds with every sort of field.
const KINDS: &[(&str, &str, &str)] = &[
    ("", "v1", "Pod"),
    ("", "v1", "Service"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "PersistentVolumeClaim"),
    ("", "v1", "Node"),
    ("apps", "v1", "StatefulSet"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
];

fn kind() -> impl Strategy<Value = (&'static str, &'static str, &'static str)> {
    proptest::sample::select(KINDS)
}

/// A kind with the objects that appliers say of it.
struct Typed {
    schema: std::sync::Arc<Schema>,
    api_version: String,
    kind: &'static str,
}

impl Typed {
    fn new((group, version, kind): (&str, &str, &'static str)) -> Typed {
        let api_version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        Typed {
            schema: builtin(group, version, kind).expect("a built-in kind"),
            api_version,
            kind,
        }
    }

    fn random(&self, seed: u64) -> Value {
        random::object(&self.schema, &self.api_version, self.kind, &mut Dice::new(seed))
    }

    fn bare(&self) -> Value {
        json!({"apiVersion": self.api_version, "kind": self.kind, "metadata": {"name": "x", "namespace": "n"}})
    }

    /// Applies, and decodes what came of it as the server does.
    fn apply(&self, live: Option<&Value>, applied: &Value, manager: &str, force: bool) -> Value {
        let mut writer = writer(manager);
        writer.api_version = &self.api_version;
        let mut out = server_side(&self.schema, live, applied, force, &writer).expect("no conflict");
        self.schema.prune(&mut out);
        self.schema.normalize(&mut out);
        out
    }

    fn sorted(&self, mut object: Value) -> Value {
        random::sort(&Node::root(&self.schema), &mut object);
        object
    }
}

proptest! {
    #[test]
    fn applying_any_object_twice_changes_nothing(kind in kind(), first: u64, second: u64) {
        let typed = Typed::new(kind);
        let live = typed.apply(None, &typed.random(first), "a", true);
        let once = typed.apply(Some(&live), &typed.random(second), "b", true);
        prop_assert_eq!(typed.apply(Some(&once), &typed.random(second), "b", true), once);
    }

    #[test]
    fn managers_that_do_not_overlap_commute(kind in kind(), whole: u64, cut: u64) {
        let typed = Typed::new(kind);
        let root = Node::root(&typed.schema);
        let whole = typed.random(whole);
        let mut parts = random::split(&root, &whole, &mut Dice::new(cut));
        for part in &mut parts {
            let mut named = typed.bare();
            if let (Value::Object(named), Value::Object(part)) = (&mut named, part.take()) {
                for (key, value) in part {
                    match (key.as_str(), value) {
                        ("apiVersion" | "kind", _) => {}
                        ("metadata", Value::Object(inner)) => {
                            named["metadata"].as_object_mut().expect("a map").extend(inner);
                        }
                        (_, value) => drop(named.insert(key, value)),
                    }
                }
            }
            *part = named;
        }
        let [a, b] = parts;
        let ab = typed.apply(Some(&typed.apply(None, &a, "a", false)), &b, "b", false);
        let ba = typed.apply(Some(&typed.apply(None, &b, "b", false)), &a, "a", false);
        prop_assert_eq!(typed.sorted(ab.clone()), typed.sorted(ba));
        let mut together = whole;
        typed.schema.normalize(&mut together);
        prop_assert_eq!(typed.sorted(content(&ab)), typed.sorted(together));
    }

    #[test]
    fn of_any_objects_what_nobody_owns_any_more_goes(kind in kind(), first: u64, second: u64) {
        let typed = Typed::new(kind);
        let live = typed.apply(None, &typed.random(first), "a", true);
        let live = typed.apply(Some(&live), &typed.random(second), "b", true);
        let live = typed.apply(Some(&live), &typed.bare(), "a", true);
        let live = typed.apply(Some(&live), &typed.bare(), "b", true);
        prop_assert_eq!(live, typed.bare());
    }

    #[test]
    fn fields_v1_is_read_as_it_was_written(set in set()) {
        prop_assert_eq!(Set::decode(&set.encode()), Some(set));
    }

    #[test]
    fn sets_obey_their_laws(a in set(), b in set()) {
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&a).is_empty());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
    }

    #[test]
    fn applying_twice_changes_nothing(first in configuration(), second in configuration()) {
        let live = forced(None, &first, "a");
        let once = forced(Some(&live), &second, "b");
        prop_assert_eq!(forced(Some(&once), &second, "b"), once);
    }

    #[test]
    fn what_one_manager_applies_last_is_what_is_there(first in configuration(), second in configuration()) {
        let live = forced(None, &first, "a");
        let live = forced(Some(&live), &second, "a");
        prop_assert_eq!(content(&live), content(&second));
    }

    #[test]
    fn what_nobody_owns_any_more_goes(first in configuration(), second in configuration()) {
        let live = forced(None, &first, "a");
        let live = forced(Some(&live), &second, "b");
        let mut nothing = deployment(json!({}));
        drop_empty_spec(&mut nothing);
        let live = forced(Some(&live), &nothing, "a");
        let live = forced(Some(&live), &nothing, "b");
        prop_assert_eq!(content(&live), content(&nothing));
        prop_assert_eq!(live["metadata"].get("managedFields"), None);
    }

    #[test]
    fn managers_of_different_fields_can_come_in_any_order(replicas in 0_u8..9, image in 0_u8..9, label in 0_u8..9) {
        let a = deployment(json!({"replicas": replicas, "template": {"spec": {"containers": [{"name": "a", "image": image.to_string()}]}}}));
        let mut b = deployment(json!({"paused": true, "template": {"spec": {"containers": [{"name": "a", "tty": true}]}}}));
        b["metadata"]["labels"] = json!({"l": label.to_string()});
        let ab = apply(Some(&apply(None, &a, "a").expect("first")), &b, "b").expect("no conflict");
        let ba = apply(Some(&apply(None, &b, "b").expect("first")), &a, "a").expect("no conflict");
        prop_assert_eq!(ab, ba);
    }

    #[test]
    fn an_update_leaves_every_field_with_the_owners_it_had_or_the_writer(first in configuration(), second in configuration()) {
        let live = forced(None, &first, "a");
        prop_assume!(live["metadata"]["managedFields"].is_array());
        let mut new = second;
        new["metadata"]["managedFields"] = live["metadata"]["managedFields"].clone();
        track_update(&deployments(), Some(&live), &mut new, &writer("b"));
        let managers = Managers::decode(&new).unwrap_or_default();
        let owned = managers.0.iter().fold(Set::default(), |all, entry| all.union(&entry.set));
        let root = deployments();
        let root = Node::root(&root);
        let mut all = field_set(&root, &new);
        writer("b").strip(&mut all);
        prop_assert!(all.difference(&owned).is_empty(), "{:?}", all.difference(&owned).paths());
    }
}
