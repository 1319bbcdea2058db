use super::*;
use crate::scheme::SubresourceAction;

/// What is said of a change through a path below a pod.
fn errors_through(path: &str, mut old: Value, change: impl FnOnce(&mut Value)) -> Vec<String> {
    let row = resource("", "pods");
    let Some(SubresourceAction::Part(part)) = row.subresource(path).map(|sub| sub.action.clone()) else {
        panic!("{path} is no part");
    };
    row.default(&mut old);
    let mut new = old.clone();
    change(&mut new);
    (part.prepare)(&mut new, &old);
    row.validate_part(&part, &new, &old)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_new_pod_has_no_ephemeral_containers() {
    let mut object = pod();
    object["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "i"}]);
    assert_eq!(
        errors("", "pods", object),
        ["spec.ephemeralContainers: Forbidden: cannot be set on create"]
    );
}

#[test]
fn ephemeral_containers_are_added_and_never_taken_away() {
    let none: Vec<String> = Vec::new();
    let debugger = || json!([{"name": "d", "image": "i", "targetContainerName": "a"}]);
    let add = |list: Value| move |new: &mut Value| new["spec"]["ephemeralContainers"] = list;
    assert_eq!(errors_through("ephemeralcontainers", pod(), add(debugger())), none);
    assert_eq!(
        errors_through(
            "ephemeralcontainers",
            pod(),
            add(json!([{"name": "a", "image": "i", "targetContainerName": "x",
            "ports": [{"containerPort": 1}], "livenessProbe": {"exec": {"command": ["a"]}}}]))
        ),
        [
            "spec.ephemeralContainers[0].name: Duplicate value: \"a\"",
            "spec.ephemeralContainers[0].targetContainerName: Not found: \"x\"",
            "spec.ephemeralContainers[0].livenessProbe: Forbidden: cannot be set for an Ephemeral Container",
            "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
        ]
    );
    let mut debugged = pod();
    debugged["spec"]["ephemeralContainers"] = debugger();
    assert_eq!(
        errors_through("ephemeralcontainers", debugged.clone(), add(json!([]))),
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be removed\n"]
    );
    let mut other = debugger();
    other[0]["image"] = "j".into();
    assert_eq!(
        errors_through("ephemeralcontainers", debugged, add(other)),
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be changed\n"]
    );
}

#[test]
fn ephemeral_containers_are_all_that_their_path_changes() {
    let row = resource("", "pods");
    let mut old = pod();
    row.default(&mut old);
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = "other".into();
    new["metadata"]["labels"] = json!({"a": "b"});
    (crate::strategy::pod::EPHEMERAL_CONTAINERS.prepare)(&mut new, &old);
    assert_eq!(new, old);
}

#[test]
fn a_resize_changes_cpu_and_memory_and_not_the_class() {
    let none: Vec<String> = Vec::new();
    let burstable = || {
        let mut object = pod();
        object["spec"]["containers"][0]["resources"] =
            json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}});
        object["status"] = json!({"containerStatuses": [{"name": "a", "state": {"running": {}}, "resources": {}}]});
        object
    };
    let set = |value: Value| move |new: &mut Value| new["spec"]["containers"][0]["resources"] = value;
    let resources = json!({"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "3Gi"}});
    assert_eq!(errors_through("resize", burstable(), set(resources)), none);
    assert_eq!(
        errors_through("resize", burstable(), set(json!({"requests": {"cpu": "1"}}))),
        [
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
            "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
        ]
    );
    let guaranteed = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
    assert_eq!(
        errors_through("resize", burstable(), set(guaranteed)),
        ["spec: Invalid value: \"Guaranteed\": Pod QOS Class may not change as a result of resizing"]
    );
    let more =
        json!({"requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}, "limits": {"memory": "2Gi"}});
    assert_eq!(
        errors_through("resize", burstable(), set(more)),
        ["spec: Forbidden: only cpu and memory resources are mutable"]
    );
    let mut elsewhere = burstable();
    elsewhere["status"]["containerStatuses"][0]["resources"] = Value::Null;
    assert_eq!(
        errors_through("resize", elsewhere, |_| {}),
        ["spec: Forbidden: Pod running on node without support for resize"]
    );
}

#[test]
fn what_a_pod_says_of_nodes_names_and_rights_is_checked_in_kubernetes_words() {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    table(
        "",
        "pods",
        pod(),
        &[
            (
                "/spec/affinity",
                json!({"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": []}}}),
                &[
                    "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
                ],
            ),
            (
                "/spec/affinity",
                json!({"podAntiAffinity": {PREFERRED: [{"weight": 0, "podAffinityTerm": {}}]}}),
                &[
                    "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100",
                    "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey: Required value: can not be empty",
                ],
            ),
            (
                "/spec/topologySpreadConstraints",
                json!([{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "Later"}]),
                &[
                    "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                    "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Later\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
                ],
            ),
            (
                "/spec/dnsPolicy",
                json!("None"),
                &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
            ),
            (
                "/spec/dnsConfig",
                json!({"nameservers": ["here"]}),
                &[
                    "spec.dnsConfig.nameservers[0]: Invalid value: \"here\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                ],
            ),
            (
                "/spec/securityContext",
                json!({"runAsUser": -1, "seccompProfile": {"type": "Localhost"}}),
                &[
                    "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                    "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
                ],
            ),
            (
                "/spec/containers/0/securityContext",
                json!({"privileged": true, "allowPrivilegeEscalation": false}),
                &[
                    "spec.containers[0].securityContext.allowPrivilegeEscalation: Invalid value: false: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
                ],
            ),
            (
                "/spec/preemptionPolicy",
                json!("Maybe"),
                &[
                    "spec.preemptionPolicy: Unsupported value: \"Maybe\": supported values: \"Never\", \"PreemptLowerPriority\"",
                ],
            ),
        ],
    );
}

#[test]
fn what_a_service_says_of_the_world_outside_is_checked_in_kubernetes_words() {
    table(
        "",
        "services",
        service(),
        &[
            (
                "/spec/externalTrafficPolicy",
                json!("Local"),
                &[
                    "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
                ],
            ),
            (
                "/spec/loadBalancerSourceRanges",
                json!(["10.0.0.0/33"]),
                &[
                    "spec.loadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                    "spec.loadBalancerSourceRanges[0]: Invalid value: \"10.0.0.0/33\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ],
            ),
            (
                "/spec/loadBalancerClass",
                json!("a/b"),
                &["spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"],
            ),
            (
                "/spec/trafficDistribution",
                json!("Far"),
                &[
                    "spec.trafficDistribution: Unsupported value: \"Far\": supported values: \"PreferClose\", \"PreferSameZone\", \"PreferSameNode\"",
                ],
            ),
            (
                "/spec/ipFamilies",
                json!(["IPv4", "IPv4"]),
                &["spec.ipFamilies[1]: Duplicate value: \"IPv4\""],
            ),
            (
                "/spec/ports/0/appProtocol",
                json!("a b"),
                &[
                    "spec.ports[0].appProtocol: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                ],
            ),
        ],
    );
}
