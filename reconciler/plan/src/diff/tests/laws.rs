//! What holds for every object: the answer is what an apply does.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{apply, edit, ignoring, policy};
use crate::diff::changes;
use crate::ignore::body;
use crate::policy::Policy;

fn texts(keys: &'static str) -> impl Strategy<Value = Value> {
    btree_map(keys, 0_u8..3, 0..3).prop_map(|map| {
        map.into_iter()
            .map(|(key, value)| (key, Value::from(value.to_string())))
            .collect::<Map<_, _>>()
            .into()
    })
}

/// Something, null, or nothing.
fn perhaps(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Option<Value>> {
    option::weighted(0.8, prop_oneof![8 => value, 1 => Just(Value::Null)])
}

fn object(fields: Vec<(&'static str, Option<Value>)>) -> Value {
    fields
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect::<Map<_, _>>()
        .into()
}

fn env() -> impl Strategy<Value = Value> {
    btree_map("[P-R]", option::of(0_u8..2), 0..3).prop_map(|env| {
        let items = env.into_iter().map(|(name, value)| match value {
            Some(value) => json!({"name": name, "value": value.to_string()}),
            None => json!({"name": name, "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}),
        });
        items.collect()
    })
}

fn container() -> impl Strategy<Value = Value> {
    let amount = prop_oneof![Just("1"), Just("1000m"), Just("500m"), Just("0.5")];
    let port = (80_u16..82, option::of(prop_oneof![Just("TCP"), Just("UDP")])).prop_map(|(port, protocol)| {
        object(vec![
            ("containerPort", Some(port.into())),
            ("protocol", protocol.map(Value::from)),
        ])
    });
    let security = prop_oneof![Just(json!({})), Just(json!({"readOnlyRootFilesystem": true}))];
    (
        0_u8..3,
        perhaps(env()),
        perhaps(vec(0_u8..2, 0..3).prop_map(|args| args.iter().map(ToString::to_string).collect())),
        perhaps(port.prop_map(|port| json!([port]))),
        perhaps(amount.prop_map(|amount| json!({"limits": {"cpu": amount}}))),
        option::of(security),
    )
        .prop_map(|(image, env, args, ports, resources, security)| {
            object(vec![
                ("image", Some(image.to_string().into())),
                ("env", env),
                ("args", args),
                ("ports", ports),
                ("resources", resources),
                ("securityContext", security),
            ])
        })
}

fn deployment() -> impl Strategy<Value = Value> {
    let containers = btree_map("[a-c]", container(), 1..4).prop_shuffle_items();
    let tolerations = vec(0_u8..2, 0..3).prop_map(|keys| {
        keys.iter()
            .map(|key| json!({"key": key.to_string(), "operator": "Exists"}))
            .collect::<Value>()
    });
    (
        perhaps((0_u8..4).prop_map(Value::from)),
        option::of(any::<bool>().prop_map(Value::from)),
        perhaps(texts("[x-z]|[a-b]\\.io/[a-b]")),
        perhaps(texts("[x-z]")),
        containers,
        perhaps(tolerations),
        perhaps(texts("[a-b]")),
    )
        .prop_map(|(replicas, paused, annotations, labels, containers, tolerations, selector)| {
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": object(vec![("name", Some("d".into())), ("namespace", Some("n".into())), ("annotations", annotations), ("labels", labels)]),
                "spec": object(vec![
                    ("replicas", replicas),
                    ("paused", paused),
                    ("selector", Some(json!({"matchLabels": {"app": "d"}}))),
                    ("template", Some(json!({
                        "metadata": {"labels": {"app": "d"}},
                        "spec": object(vec![("containers", Some(containers)), ("tolerations", tolerations), ("nodeSelector", selector)]),
                    }))),
                ]),
            })
        })
}

trait ShuffleItems {
    fn prop_shuffle_items(self) -> BoxedStrategy<Value>;
}

impl<S: Strategy<Value = std::collections::BTreeMap<String, Value>> + 'static> ShuffleItems for S {
    fn prop_shuffle_items(self) -> BoxedStrategy<Value> {
        self.prop_map(|items| {
            items
                .into_iter()
                .map(|(name, mut item)| {
                    item["name"] = name.into();
                    item
                })
                .collect::<Vec<_>>()
        })
        .prop_shuffle()
        .prop_map(Value::Array)
        .boxed()
    }
}

fn config_map() -> impl Strategy<Value = Value> {
    (perhaps(texts("[a-c](\\.txt)?")), perhaps(texts("[x-z]")), option::of(any::<bool>())).prop_map(
        |(data, labels, immutable)| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": object(vec![("name", Some("c".into())), ("labels", labels)]),
                "data": data, "immutable": immutable,
            })
        },
    )
}

fn service() -> impl Strategy<Value = Value> {
    let ports = btree_map(80_u16..83, option::of(8080_u16..8082), 1..3).prop_map(|ports| {
        ports
            .into_iter()
            .map(|(port, target)| {
                object(vec![
                    ("port", Some(port.into())),
                    ("name", Some(format!("p{port}").into())),
                    ("targetPort", target.map(Value::from)),
                ])
            })
            .collect::<Value>()
    });
    (ports, texts("[a-b]"), perhaps(texts("[x-z]"))).prop_map(|(ports, selector, labels)| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": object(vec![("name", Some("s".into())), ("labels", labels)]),
            "spec": {"ports": ports, "selector": selector},
        })
    })
}

/// Several objects of one kind.
fn several(count: usize) -> impl Strategy<Value = Vec<Value>> {
    prop_oneof![
        4 => vec(deployment().boxed(), count),
        1 => vec(config_map().boxed(), count),
        1 => vec(service().boxed(), count),
    ]
}

/// What people care about: without owners and without what says nothing.
fn content(object: &Value) -> Value {
    let mut out = object.clone();
    if let Some(metadata) = out["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    tidy(&mut out);
    out
}

fn tidy(value: &mut Value) {
    const DROPPED: [&str; 12] = [
        "annotations",
        "labels",
        "env",
        "args",
        "ports",
        "tolerations",
        "nodeSelector",
        "data",
        "limits",
        "resources",
        "selector",
        "metadata",
    ];
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(tidy);
            map.retain(|key, value| {
                let empty = value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
                let says_nothing = value.is_null() || (empty && DROPPED.contains(&key.as_str()));
                !says_nothing
            });
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Applies once more where an apply left out an empty object: it takes away what it empties, even where that is what was asked
/// for. The next one puts it there.
fn settled(after: Value, desired: &Value, policy: &Policy) -> Value {
    let left = changes(desired, &after, policy);
    if !left.is_empty()
        && left
            .iter()
            .all(|change| change.from.is_none() && change.to == Some(json!({})))
    {
        return apply(Some(&after), &body(desired, Some(&after), policy), "setpoint");
    }
    after
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn there_are_changes_exactly_when_an_apply_changes_something(objects in several(4), edited in any::<bool>()) {
        let [first, second, third, desired] = &objects[..] else { unreachable!("four were asked for") };
        let policy = policy();
        let mut live = apply(None, &body(first, None, &policy), "setpoint");
        live = if edited {
            edit(&live, "kubectl", |live| {
                let fields = live["metadata"]["managedFields"].take();
                *live = apply(None, &body(second, None, &policy), "nobody");
                live["metadata"]["managedFields"] = fields;
            })
        } else {
            apply(Some(&live), &body(second, None, &policy), "other")
        };
        live = apply(Some(&live), &body(third, None, &policy), "setpoint");
        for desired in [third, desired] {
            let found = changes(desired, &live, &policy);
            let after = apply(Some(&live), &body(desired, Some(&live), &policy), "setpoint");
            prop_assert_eq!(found.is_empty(), content(&after) == content(&live), "{:#?}\n{:#}\n{:#}", found, live, desired);
            let after = settled(after, desired, &policy);
            let left = changes(desired, &after, &policy);
            prop_assert!(left.is_empty(), "{:#?}\n{:#}\n{:#}", left, after, desired);
        }
    }

    #[test]
    fn what_is_ignored_is_left_as_it_is(objects in several(3)) {
        let [first, second, desired] = &objects[..] else { unreachable!("three were asked for") };
        let policy = ignoring(&["Deployment:spec.replicas", "Deployment:spec.template.spec.containers[name=a].image", "metadata.labels", "ConfigMap:data.a", "Service:spec.selector"]);
        let live = apply(None, &body(first, None, &policy), "setpoint");
        let live = apply(Some(&live), &body(second, None, &policy), "other");
        let after = apply(Some(&live), &body(desired, Some(&live), &policy), "setpoint");
        prop_assert_eq!(changes(desired, &live, &policy).is_empty(), content(&after) == content(&live));
        let after = settled(after, desired, &policy);
        let left = changes(desired, &after, &policy);
        prop_assert!(left.is_empty(), "{:#?}\n{:#}\n{:#}", left, after, desired);
        for pointer in ["/spec/replicas", "/metadata/labels", "/data/a", "/spec/selector"] {
            let (before, after) = (content(&live), content(&after));
            let (before, after) = (before.pointer(pointer), after.pointer(pointer));
            prop_assert_eq!(before, after, "{}", pointer);
        }
    }
}
