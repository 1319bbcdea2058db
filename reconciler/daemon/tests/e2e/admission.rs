//! Who may do what, what pods may ask for, and what is kept of it.

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{World, demo_yaml, items, text, wait_for};

fn audit_events(world: &World) -> Vec<Value> {
    let log = std::fs::read_to_string(world.data_dir().join("audit/audit.log")).unwrap();
    // The last line may be under way.
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn a_restricted_namespace_gets_no_pod_that_is_not_hardened_until_it_is_relaxed() {
    let world = World::start();
    world.kubectl(&["create", "namespace", "guarded"]);
    let enforce = "pod-security.kubernetes.io/enforce";
    world.kubectl(&["label", "namespace", "guarded", &format!("{enforce}=restricted")]);
    let yaml = world.file("demo.yaml", &demo_yaml("hello", 1));
    let applied = world.kubectl_output(&["apply", "-n", "guarded", "-f", yaml.to_str().unwrap()]);
    assert!(applied.status.success(), "{}", text(&applied.stderr));
    let warning = text(&applied.stderr);
    assert!(
        warning.contains("Warning: would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false"),
        "{warning}"
    );
    // Whoever makes the pods is told, and goes on trying.
    world.until(&["events", "-n", "guarded"], "a refusal that says why", |events| {
        items(events).iter().any(|event| {
            event["reason"] == "FailedCreate"
                && event["message"]
                    .as_str()
                    .is_some_and(|message| message.contains("violates PodSecurity \"restricted:latest\""))
        })
    });
    assert!(items(&world.get(&["pods", "-n", "guarded"]).unwrap()).is_empty());
    let wrong = world.kubectl_fails(&[
        "label",
        "--overwrite",
        "namespace",
        "guarded",
        &format!("{enforce}=lax"),
    ]);
    assert!(
        wrong.contains("must be one of privileged, baseline, restricted"),
        "{wrong}"
    );
    world.kubectl(&[
        "label",
        "--overwrite",
        "namespace",
        "guarded",
        &format!("{enforce}=baseline"),
    ]);
    world.until(&["pods", "-n", "guarded"], "one pod", |pods| items(pods).len() == 1);
}

#[test]
fn the_audit_log_has_who_did_what_and_only_its_owner_reads_it() {
    let world = World::start_with(&["--audit-level", "Request"]);
    world.kubectl(&["create", "namespace", "watched"]);
    world.kubectl(&["create", "secret", "generic", "hidden", "--from-literal=word=xyzzy"]);
    let path = world.data_dir().join("audit/audit.log");
    let created = wait_for("the namespace in the audit log", || {
        audit_events(&world)
            .into_iter()
            .find(|event| event["verb"] == "create" && event["requestObject"]["metadata"]["name"] == "watched")
    });
    assert_eq!(created["responseStatus"]["code"], 201);
    assert_eq!(created["objectRef"]["resource"], "namespaces");
    assert!(created["userAgent"].as_str().unwrap().starts_with("kubectl"));
    wait_for("the secret in the audit log", || {
        audit_events(&world)
            .into_iter()
            .find(|event| event["verb"] == "create" && event["objectRef"]["resource"] == "secrets")
    });
    let log = std::fs::read_to_string(&path).unwrap();
    assert!(
        !log.contains("xyzzy") && !log.contains("eHl6enk"),
        "a secret is in the log"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_policy_for_the_audit_log_that_cannot_be_meant_stops_the_start() {
    let world = World::prepare();
    let policy = world.file(
        "policy.yaml",
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Some\n",
    );
    let output = world.setpoint(&["up", "--audit-policy", policy.to_str().unwrap()]);
    let said = text(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("policy.yaml is not a policy for the audit log"), "{said}");
}

#[test]
fn default_roles_are_whole_again_after_a_restart_unless_they_are_not_to_be() {
    let mut world = World::start();
    let empty = r#"{"rules": []}"#;
    for role in ["system:basic-user", "system:discovery"] {
        world.kubectl(&["patch", "clusterrole", role, "--type=merge", "-p", empty]);
    }
    let annotation = "rbac.authorization.kubernetes.io/autoupdate=false";
    world.kubectl(&["annotate", "--overwrite", "clusterrole", "system:discovery", annotation]);
    world.end_daemon(Signal::SIGTERM);
    world.up();
    let rules = |role: &str| world.get(&["clusterrole", role]).unwrap()["rules"].clone();
    assert!(
        rules("system:basic-user")
            .as_array()
            .is_some_and(|rules| !rules.is_empty())
    );
    let kept = rules("system:discovery");
    assert!(kept.is_null() || kept.as_array().is_some_and(Vec::is_empty), "{kept}");
}
