use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PodSpec;
use serde_json::json;

use super::table::KINDS;
use super::*;

/// The short name of the kind that a property refers to, directly, in a list, or with words around it.
fn referred(property: &Value) -> Option<String> {
    let places = [
        property,
        &property["items"],
        &property["allOf"][0],
        &property["anyOf"][0],
        &property["items"]["allOf"][0],
    ];
    let found = places.iter().find_map(|place| place["$ref"].as_str())?;
    found.rsplit(['.', '/']).next().map(str::to_owned)
}

#[test]
fn every_field_of_the_schema_has_a_row_and_every_row_a_field() {
    let schema = serde_json::to_value(schemars::schema_for!(PodSpec)).expect("a schema");
    let definitions = schema["$defs"].as_object().expect("definitions");
    let properties = |kind: &str| -> BTreeSet<String> {
        let of = if kind == "PodSpec" {
            &schema
        } else {
            let found = definitions
                .iter()
                .find(|(name, _)| name.rsplit('.').next() == Some(kind));
            found.unwrap_or_else(|| panic!("the schema has no {kind}")).1
        };
        of["properties"]
            .as_object()
            .expect("properties")
            .keys()
            .cloned()
            .collect()
    };
    let mut wrong = Vec::new();
    for (kind, rows) in KINDS {
        let named: BTreeSet<String> = rows.iter().map(|(name, _)| (*name).to_owned()).collect();
        let known = properties(kind);
        wrong.extend(named.symmetric_difference(&known).map(|name| format!("{kind}.{name}")));
        for (name, rule) in *rows {
            if let Rule::Into(next) = rule {
                let of = if *kind == "PodSpec" {
                    &schema["properties"][name]
                } else {
                    let found = definitions
                        .iter()
                        .find(|(known, _)| known.rsplit('.').next() == Some(kind))
                        .expect("known");
                    &found.1["properties"][name]
                };
                assert_eq!(referred(of).as_deref(), Some(*next), "{kind}.{name}");
                assert!(rules(next).is_some(), "{next} has no rows");
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Every kind that a part of a schema refers to.
fn references(part: &Value, found: &mut BTreeSet<String>) {
    match part {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str);
            found.extend(name.and_then(|name| name.rsplit('/').next()).map(str::to_owned));
            fields.values().for_each(|part| references(part, found));
        }
        Value::Array(parts) => parts.iter().for_each(|part| references(part, found)),
        _ => {}
    }
}

/// "Honoured" is said of everything below a field: what is there is pinned, so that a field that Kubernetes adds below one is decided on.
/// A line that is missing in `honoured.txt` is such a field: honour it and add the line, or give its kind rows of its own.
#[test]
fn what_lies_below_honoured_fields_is_known_by_name() {
    let schema = serde_json::to_value(schemars::schema_for!(PodSpec)).expect("a schema");
    let definitions = schema["$defs"].as_object().expect("definitions");
    let short = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let definition = |kind: &str| match kind {
        "PodSpec" => &schema,
        kind => {
            definitions
                .iter()
                .find(|(name, _)| short(name) == kind)
                .unwrap_or_else(|| panic!("the schema has no {kind}"))
                .1
        }
    };
    let mut open = BTreeSet::new();
    for (kind, rows) in KINDS {
        for (field, _) in rows.iter().filter(|(_, rule)| matches!(rule, Rule::Honoured)) {
            references(&definition(kind)["properties"][field], &mut open);
        }
    }
    let (mut seen, mut lines) = (BTreeSet::new(), BTreeSet::new());
    while let Some(name) = open.pop_first() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let kind = short(&name);
        assert!(rules(&kind).is_none(), "{kind} has rows, which a field above passes by");
        let properties = definitions[&name]["properties"].as_object();
        for (field, property) in properties.into_iter().flatten() {
            lines.insert(format!("{kind}.{field}"));
            references(property, &mut open);
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/pod_fields/honoured.txt");
    let text = std::fs::read_to_string(path).expect(path);
    let pinned: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let changed: Vec<&String> = lines.symmetric_difference(&pinned).collect();
    assert!(
        changed.is_empty(),
        "{}",
        changed.iter().map(|line| format!("{line}\n")).collect::<String>()
    );
}

#[test]
fn an_ordinary_pod_is_taken_without_a_word() {
    let spec = json!({
        "containers": [{"name": "a", "image": "x", "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "livenessProbe": {"httpGet": {"port": 80}}, "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent", "securityContext": {}}],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c", "defaultMode": 420}}],
        "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "priority": 0,
        "preemptionPolicy": "PreemptLowerPriority", "enableServiceLinks": true, "securityContext": {}, "ephemeralContainers": []
    });
    assert_eq!(check(&spec), Checked::default());
}

#[test]
fn what_cannot_be_honoured_is_refused_with_its_path() {
    let spec = json!({
        "containers": [{"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 81, "hostIP": "127.0.0.1"}], "volumeDevices": [{"name": "d", "devicePath": "/dev/d"}]}],
        "volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}],
        "hostUsers": false
    });
    let paths: Vec<String> = check(&spec).refused.into_iter().map(|(path, _)| path).collect();
    let expected: BTreeSet<&str> = [
        "spec.containers[0].volumeDevices",
        "spec.volumes[0].nfs",
        "spec.hostUsers",
    ]
    .into();
    assert_eq!(paths.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected);
}

#[test]
fn owners_of_files_and_protocols_of_probes_are_refused_wherever_they_stand() {
    let item = json!([{"key": "k", "path": "p", "user": 7}]);
    let spec = json!({
        "containers": [{"name": "a", "livenessProbe": {"httpGet": {"port": 80, "protocol": "HTTP2"}}}],
        "volumes": [
            {"name": "c", "configMap": {"name": "c", "defaultUser": 7, "items": item}},
            {"name": "s", "secret": {"secretName": "s", "items": item}},
            {"name": "p", "projected": {"sources": [{"downwardAPI": {"items": [{"path": "p", "user": 7}]}}, {"serviceAccountToken": {"path": "t", "user": 7}}]}},
        ],
    });
    let paths: Vec<String> = check(&spec).refused.into_iter().map(|(path, _)| path).collect();
    let expected: BTreeSet<&str> = [
        "spec.containers[0].livenessProbe.httpGet.protocol",
        "spec.volumes[0].configMap.defaultUser",
        "spec.volumes[0].configMap.items[0].user",
        "spec.volumes[1].secret.items[0].user",
        "spec.volumes[2].projected.sources[0].downwardAPI.items[0].user",
        "spec.volumes[2].projected.sources[1].serviceAccountToken.user",
    ]
    .into();
    assert_eq!(paths.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected);
}

#[test]
fn what_is_not_used_is_said() {
    let spec = json!({"containers": [], "priority": 5, "topologySpreadConstraints": [{"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}], "volumes": [{"name": "v", "emptyDir": {}}], "preemptionPolicy": "Never"});
    let checked = check(&spec);
    assert_eq!(checked.refused, []);
    assert_eq!(checked.warnings.len(), 3);
}

#[test]
fn what_the_scheduler_does_not_weigh_is_refused_where_it_is_required() {
    let required = json!([{"topologyKey": "kubernetes.io/hostname"}]);
    let preferred = json!([{"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}]);
    for kind in ["podAffinity", "podAntiAffinity"] {
        let spec = json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": required}}});
        assert_eq!(check(&spec).refused.len(), 1, "{kind}");
        let spec = json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}});
        let checked = check(&spec);
        assert_eq!((checked.refused.len(), checked.warnings.len()), (0, 1), "{kind}");
    }
    let spread = |word: &str| json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": word}]});
    assert_eq!(
        check(&spread("DoNotSchedule")).refused[0].0,
        "spec.topologySpreadConstraints[0].whenUnsatisfiable"
    );
    let checked = check(&spread("ScheduleAnyway"));
    assert_eq!((checked.refused.len(), checked.warnings.len()), (0, 1));
}
