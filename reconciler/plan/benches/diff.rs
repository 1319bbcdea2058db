//! What it costs to find out that nothing changed: `cargo bench -p setpoint-plan`.
//!
//! A Deployment of about 2 KB against itself as the server keeps it (defaults and owners included), and a plan of 1000 objects of which
//! none changed. Wanted: a Deployment under 30 µs.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use setpoint_api::Scheme;
use setpoint_api::apply::{Writer, server_side};
use setpoint_api::schema;
use setpoint_plan::{Desired, Origin, Policy, changes, plan};

fn deployment(name: &str) -> Value {
    let variables: Vec<Value> = (0..12)
        .map(|n| json!({"name": format!("SETTING_{n}"), "value": format!("value of the setting {n}")}))
        .collect();
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": name, "namespace": "shop",
            "labels": {"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": "shop", "setpoint.dev/app": "shop"},
            "annotations": {"setpoint.dev/owner": "setpoint-system/shop"},
        },
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": "shop"}},
            "template": {
                "metadata": {"labels": {"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": "shop"}},
                "spec": {
                    "securityContext": {"runAsNonRoot": true, "fsGroup": 1000},
                    "containers": [{
                        "name": "web", "image": "registry.example.org/shop/web:1.2.3", "args": ["serve", "--port", "8080"],
                        "env": variables,
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1024Mi"}},
                        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5},
                        "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}},
                        "volumeMounts": [{"name": "config", "mountPath": "/etc/web"}, {"name": "tmp", "mountPath": "/tmp"}],
                    }],
                    "volumes": [{"name": "config", "configMap": {"name": "web"}}, {"name": "tmp", "emptyDir": {}}],
                },
            },
        },
    })
}

fn live(scheme: &Scheme, applied: &Value) -> Value {
    let schema = schema::builtin("apps", "v1", "Deployment").expect("a built-in kind");
    let writer = Writer {
        manager: "setpoint",
        api_version: "apps/v1",
        subresource: "",
        now: jiff::Timestamp::UNIX_EPOCH,
        scope: setpoint_api::apply::Scope::Without(&[&["status"]]),
    };
    let mut out = server_side(&schema, None, applied, true, &writer).expect("nothing to conflict with");
    scheme.for_object(applied).expect("a built-in kind").default(&mut out);
    out
}

fn each(rounds: u32, runs: u32, mut work: impl FnMut()) -> Duration {
    // The best of many short runs: what else the machine does only adds.
    let mut best = Duration::MAX;
    for _ in 0..runs {
        let begun = Instant::now();
        (0..rounds).for_each(|_| work());
        best = best.min(begun.elapsed() / rounds);
    }
    best
}

fn main() {
    let policy = Policy {
        manager: "setpoint".to_owned(),
        owner: "setpoint-system/shop".to_owned(),
        ignore: Vec::new(),
        prune: true,
    };
    let scheme = Scheme::builtin();
    let desired = deployment("web");
    let there = live(&scheme, &desired);
    assert!(changes(&desired, &there, &policy).is_empty());
    let none = each(10, 400, || {
        black_box(changes(black_box(&desired), black_box(&there), &policy));
    });
    let mut other = desired.clone();
    other["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.example.org/shop/web:1.2.4");
    assert_eq!(changes(&other, &there, &policy).len(), 1);
    let one = each(1, 200, || {
        black_box(changes(black_box(&other), black_box(&there), &policy));
    });
    let all: Vec<Desired> = (0..1000)
        .map(|n| Desired {
            object: deployment(&format!("web-{n}")),
            origin: Origin::default(),
        })
        .collect();
    let mut known = BTreeMap::new();
    let mut inventory = Vec::new();
    for each in &all {
        let reference = each.reference().expect("it has a name");
        known.insert(reference.key(), live(&scheme, &each.object));
        inventory.push(reference);
    }
    let whole = each(1, 20, || {
        assert!(plan(&all, &known, &inventory, &policy).expect("a plan").is_empty());
    });
    println!(
        "Deployment of {} bytes, live {} bytes",
        desired.to_string().len(),
        there.to_string().len()
    );
    println!("nothing changed   {none:?}   (wanted: under 30 µs)");
    println!("the image changed {one:?}");
    println!("plan of 1000      {whole:?}");
}
