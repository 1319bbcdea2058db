//! The past: how things were, and who changed what.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::harness::{World, demo_yaml, program, text, wait_for};

fn map(value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: settings }}\ndata: {{ mode: {value} }}\n")
}

/// Runs a command that must succeed and returns what it printed.
fn printed(world: &World, args: &[&str]) -> String {
    let output = world.setpoint(args);
    assert!(
        output.status.success(),
        "setpoint {}: {}{}",
        args.join(" "),
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn json(world: &World, args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.extend(["-o", "json"]);
    serde_json::from_str(&printed(world, &all)).unwrap()
}

/// The newest revision, as `--at` takes it.
fn revision(world: &World) -> String {
    format!("@{}", json(world, &["status"])["history"]["newest"])
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the instance runs by the wall clock")]
fn get_shows_things_as_they_were_before_they_were_edited_or_deleted() {
    let world = World::start();
    world.apply(&map("calm"));
    world.apply(&demo_yaml("web", 1));
    world.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: { name: doomed }\ndata: { a: b }\n");
    let written: u64 = world.get(&["configmap", "doomed"]).unwrap()["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let before = revision(&world);
    // A time at which all of this was there: the log notes times beside its writes.
    let (mut number, mut seconds) = (0, 0);
    let noted = wait_for("a time after the writes", || {
        number += 1;
        world.kubectl(&[
            "annotate",
            "--overwrite",
            "configmap",
            "doomed",
            &format!("tick={number}"),
        ]);
        seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let answer = world.kubectl_output(&["get", "--raw", &format!("/setpoint/v1/log?at={}", rfc3339(seconds))]);
        let answer: Value = serde_json::from_slice(&answer.stdout).ok()?;
        answer["at"]["revision"]
            .as_u64()
            .filter(|revision| *revision >= written)
    });
    wait_for("the next second", || {
        (SystemTime::now() > UNIX_EPOCH + Duration::from_secs(seconds + 1)).then_some(())
    });

    world.apply(&map("wild"));
    world.kubectl(&["scale", "deployment/web", "--replicas=0"]);
    world.kubectl(&["delete", "configmap", "doomed"]);
    for at in [before.clone(), rfc3339(seconds), format!("@{noted}")] {
        assert_eq!(
            json(&world, &["get", "configmap", "settings", "--at", &at])["data"]["mode"],
            "calm",
            "{at}"
        );
        assert_eq!(
            json(&world, &["get", "deploy/web", "--at", &at])["spec"]["replicas"],
            1,
            "{at}"
        );
        assert_eq!(
            json(&world, &["get", "cm", "doomed", "--at", &at])["data"]["a"],
            "b",
            "{at}"
        );
        let table = printed(&world, &["get", "configmaps", "-A", "--at", &at]);
        assert!(table.starts_with("NAMESPACE") && table.contains("doomed"), "{table}");
    }
    assert_eq!(json(&world, &["get", "ConfigMap", "settings"])["data"]["mode"], "wild");
    let table = printed(&world, &["get", "configmaps.v1."]);
    assert!(table.contains("settings") && !table.contains("doomed"), "{table}");

    let fails = |args: &[&str], wanted: &str| {
        let output = world.setpoint(args);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        assert!(error.contains(wanted), "{args:?}: {error}");
    };
    fails(&["get", "configmap", "doomed"], "\"doomed\" not found");
    fails(
        &["get", "configmap", "nosuch", "--at", &before],
        "there was no ConfigMap \"nosuch\" in the namespace default at revision",
    );
    fails(&["get", "nosuchkind"], "no kind \"nosuchkind\"");
    fails(&["get", "pods", "--at", "soon"], "10 minutes ago");
    fails(&["get", "pods", "--at", "2999-01-01"], "is in the future");
    fails(&["get", "pods", "--at", "2001-01-01"], "history reaches back to");
}

/// Writes seconds since 1970 as the API takes them.
fn rfc3339(seconds: u64) -> String {
    jiff::Timestamp::from_second(i64::try_from(seconds).unwrap())
        .unwrap()
        .to_string()
}

#[test]
fn changes_tell_who_changed_what_and_hide_secrets() {
    let world = World::start();
    world.apply(&demo_yaml("web", 1));
    world.apply("apiVersion: v1\nkind: Secret\nmetadata: { name: password }\nstringData: { value: hunter2 }\n");
    let start = revision(&world);
    world.apply("apiVersion: v1\nkind: Secret\nmetadata: { name: password }\nstringData: { value: hunter3 }\n");
    world.kubectl(&["scale", "deployment/web", "--replicas=2"]);
    world.kubectl(&["delete", "service", "web"]);

    let all = printed(&world, &["changes", "--since", &start]);
    let scaled = printed(&world, &["changes", "deploy", "web", "--since", &start]);
    assert!(
        scaled.contains("~ changed Deployment default/web  by kubectl"),
        "{scaled}"
    );
    assert!(scaled.contains("    spec.replicas: 1 → 2"), "{scaled}");
    assert!(
        !scaled.contains("Secret") && !scaled.contains("readyReplicas"),
        "{scaled}"
    );
    let masked = printed(&world, &["changes", "secrets", "-n", "default", "--since", &start]);
    assert!(masked.contains("~ changed Secret default/password"), "{masked}");
    assert!(masked.contains("data.value: \"hidden, 7 bytes, "), "{masked}");
    assert!(all.contains("- deleted Service default/web  by ?"), "{all}");

    let told = json(&world, &["changes", "--since", &start]);
    let changes = told["changes"].as_array().unwrap();
    let scaled = changes
        .iter()
        .find(|change| change["kind"] == "Deployment" && change["diff"][0]["path"] == "spec.replicas")
        .unwrap_or_else(|| panic!("{told}"));
    assert_eq!(
        (
            &scaled["before"]["spec"]["replicas"],
            &scaled["after"]["spec"]["replicas"]
        ),
        (&1.into(), &2.into())
    );
    for secret in ["hunter", "aHVudGVy"] {
        assert!(!told.to_string().contains(secret) && !all.contains(secret), "{secret}");
    }
    // Of the status only who asks is told.
    let status = wait_for("the deployment's status to follow", || {
        let told = printed(&world, &["changes", "deploy", "--status", "--since", &start]);
        told.contains("status.").then_some(told)
    });
    assert!(status.contains("(status)"), "{status}");
    // To the moment before, nothing had changed.
    assert_eq!(
        printed(&world, &["changes", "--since", &start, "--until", &start]),
        "nothing changed\n"
    );
}

#[test]
fn status_shows_how_far_back_history_reaches() {
    let world = World::start();
    let history = &json(&world, &["status"])["history"];
    assert!(history["newest"].as_u64() > history["oldest"].as_u64(), "{history}");
    assert_eq!(history["keepBytes"], 1 << 30, "{history}");
    let plain = printed(&world, &["status"]);
    let line = plain
        .lines()
        .find(|line| line.starts_with("history  "))
        .unwrap_or_else(|| panic!("{plain}"));
    assert!(line.contains(" of 1 GiB, 24 h kept"), "{line}");
}

#[test]
fn the_past_needs_a_running_instance() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        ["get", "pods"].as_slice(),
        &["get", "pods", "--at", "1h ago"],
        &["changes"],
    ] {
        let output = program()
            .args(command)
            .arg("--data-dir")
            .arg(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{command:?}: {}", text(&output.stderr));
    }
}
