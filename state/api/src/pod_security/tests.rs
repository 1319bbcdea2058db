use serde_json::{Value, json};

use super::{Level, Policy, Standard, details, evaluate, policy, reasons};

const BASELINE: Standard = Standard {
    level: Level::Baseline,
    version: None,
};
const RESTRICTED: Standard = Standard {
    level: Level::Restricted,
    version: None,
};

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "web"}, "spec": spec})
}

fn one(container: Value) -> Value {
    let mut container = container;
    container["name"] = "x".into();
    pod(json!({"containers": [container]}))
}

fn said(standard: Standard, pod: &Value) -> String {
    details(&evaluate(standard, pod))
}

fn hardened() -> Value {
    one(json!({"securityContext": {
        "allowPrivilegeEscalation": false,
        "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }}))
}

#[test]
fn a_plain_pod_is_fine_at_baseline_and_told_everything_at_restricted() {
    let plain = one(json!({}));
    assert_eq!(said(BASELINE, &plain), "");
    assert_eq!(
        said(RESTRICTED, &plain),
        "allowPrivilegeEscalation != false (container \"x\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"x\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or container \"x\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or container \"x\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    assert_eq!(said(RESTRICTED, &hardened()), "");
    assert_eq!(
        said(
            Standard::PRIVILEGED,
            &one(json!({"securityContext": {"privileged": true}}))
        ),
        ""
    );
}

#[test]
fn every_check_of_the_baseline_speaks_as_kubernetes_does() {
    let cases = [
        (
            pod(json!({"containers": [{"name": "x"}], "securityContext": {"appArmorProfile": {"type": "Unconfined"}}})),
            "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            one(json!({"securityContext": {"capabilities": {"add": ["NET_RAW", "CHOWN", "BPF"]}}})),
            "non-default capabilities (container \"x\" must not include \"BPF\", \"NET_RAW\" in securityContext.capabilities.add)",
        ),
        (
            pod(json!({"containers": [], "hostNetwork": true, "hostPID": true, "hostIPC": true})),
            "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)",
        ),
        (
            pod(
                json!({"containers": [], "volumes": [{"name": "a", "hostPath": {}}, {"name": "b", "hostPath": {}}, {"name": "c"}]}),
            ),
            "hostPath volumes (volumes \"a\", \"b\")",
        ),
        (
            one(json!({"ports": [{"hostPort": 90}, {"hostPort": 8080}, {"hostPort": 0}]})),
            "hostPort (container \"x\" uses hostPorts 8080, 90)",
        ),
        (
            one(
                json!({"livenessProbe": {"httpGet": {"host": "b"}}, "lifecycle": {"preStop": {"tcpSocket": {"host": "a"}}}}),
            ),
            "probe or lifecycle host (container \"x\" uses probe or lifecycle hosts \"a\", \"b\")",
        ),
        (
            one(json!({"securityContext": {"privileged": true}})),
            "privileged (container \"x\" must not set securityContext.privileged=true)",
        ),
        (
            one(json!({"securityContext": {"procMount": "Unmasked"}})),
            "procMount (container \"x\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            one(json!({"securityContext": {"seLinuxOptions": {"type": "spc_t", "user": "u", "role": "r"}}})),
            "seLinuxOptions (container \"x\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set; role may not be set)",
        ),
        (
            one(json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}})),
            "seccompProfile (container \"x\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            pod(
                json!({"containers": [], "securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
            ),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            pod(json!({
                "containers": [{"name": "x", "securityContext": {"windowsOptions": {"hostProcess": true}}}],
                "securityContext": {"windowsOptions": {"hostProcess": true}},
            })),
            "hostProcess (pod and container \"x\" must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ];
    for (pod, wanted) in cases {
        assert_eq!(said(BASELINE, &pod), wanted);
    }
}

#[test]
fn every_check_of_the_restricted_level_speaks_as_kubernetes_does() {
    let changed = |change: fn(&mut Value)| {
        let mut pod = hardened();
        change(&mut pod);
        said(RESTRICTED, &pod)
    };
    let cases: [(String, &str); 6] = [
        (
            changed(|pod| pod["spec"]["volumes"] = json!([{"name": "v", "nfs": {}}, {"name": "w", "emptyDir": {}}])),
            "restricted volume types (volume \"v\" uses restricted volume type \"nfs\")",
        ),
        (
            changed(|pod| pod["spec"]["securityContext"] = json!({"runAsNonRoot": false, "runAsUser": 0})),
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod must not set runAsUser=0)",
        ),
        (
            changed(|pod| pod["spec"]["securityContext"] = json!({"seccompProfile": {"type": "Unconfined"}})),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            changed(|pod| {
                pod["spec"]["containers"][0]["securityContext"]["capabilities"] =
                    json!({"drop": ["KILL"], "add": ["CHOWN"]});
            }),
            "unrestricted capabilities (container \"x\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"x\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (changed(|pod| pod["spec"]["hostUsers"] = false.into()), ""),
        (
            changed(|pod| pod["spec"]["ephemeralContainers"] = json!([{"name": "debug"}])),
            "allowPrivilegeEscalation != false (container \"debug\" must set securityContext.allowPrivilegeEscalation=false), \
             unrestricted capabilities (container \"debug\" must set securityContext.capabilities.drop=[\"ALL\"]), \
             runAsNonRoot != true (pod or container \"debug\" must set securityContext.runAsNonRoot=true), \
             seccompProfile (pod or container \"debug\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        ),
    ];
    for (found, wanted) in cases {
        assert_eq!(found, wanted);
    }
}

#[test]
fn a_version_forbids_what_it_forbade_then() {
    let at = |level, minor| Standard {
        level,
        version: Some(minor),
    };
    let probe = one(json!({"livenessProbe": {"httpGet": {"host": "example.com"}}}));
    assert_eq!(said(at(Level::Baseline, 33), &probe), "");
    assert_ne!(said(at(Level::Baseline, 34), &probe), "");
    assert_ne!(
        said(at(Level::Baseline, 99), &probe),
        "",
        "a later version is the newest"
    );
    let plain = one(json!({}));
    assert_eq!(
        reasons(&evaluate(at(Level::Restricted, 7), &plain)),
        "runAsNonRoot != true"
    );
    let windows = pod(json!({"os": {"name": "windows"}, "containers": [{"name": "x"}]}));
    assert_eq!(
        reasons(&evaluate(at(Level::Restricted, 25), &windows)),
        "runAsNonRoot != true"
    );
    assert_eq!(
        reasons(&evaluate(at(Level::Restricted, 24), &windows)),
        "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile"
    );
    let rooted =
        pod(json!({"hostUsers": false, "containers": [{"name": "x", "securityContext": {"procMount": "Unmasked"}}]}));
    assert_eq!(reasons(&evaluate(at(Level::Baseline, 34), &rooted)), "procMount");
    assert_eq!(reasons(&evaluate(at(Level::Baseline, 35), &rooted)), "");
    assert!(reasons(&evaluate(at(Level::Restricted, 35), &rooted)).contains("procMount"));
    let annotated = json!({
        "metadata": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}},
        "spec": {"containers": []},
    });
    assert_eq!(
        said(at(Level::Baseline, 18), &annotated),
        "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")"
    );
    assert_eq!(said(at(Level::Baseline, 19), &annotated), "");
}

#[test]
fn labels_are_read_and_what_cannot_be_read_is_strict_where_it_is_enforced() {
    let read = |labels: Value| policy(labels.as_object());
    assert_eq!(read(json!({"team": "a"})), (Policy::PRIVILEGED, Vec::new()));
    let (found, errors) = read(json!({
        "pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/enforce-version": "v1.30",
        "pod-security.kubernetes.io/audit": "restricted",
    }));
    assert!(errors.is_empty());
    assert_eq!(found.enforce.to_string(), "baseline:v1.30");
    assert_eq!(found.warn.to_string(), "baseline:v1.30", "as enforced");
    assert_eq!(found.audit.to_string(), "restricted:latest");
    let (found, errors) = read(json!({
        "pod-security.kubernetes.io/enforce": "strict",
        "pod-security.kubernetes.io/warn": "strict",
        "pod-security.kubernetes.io/warn-version": "v1.030",
    }));
    assert_eq!(found.enforce, RESTRICTED);
    assert_eq!(found.warn, Standard::PRIVILEGED);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"strict\": must be one of privileged, baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.030\": must be \"latest\" or \"v1.x\"",
        ]
    );
}
