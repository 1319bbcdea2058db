//! The commands that talk to an instance.

use serde_json::Value;

use crate::harness::{World, program, text};

#[test]
fn status_shows_the_node_and_the_workloads() {
    let world = World::start();
    world.demo("web", 2);
    let output = world.setpoint(&["status", "-o", "json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["nodes"][0]["ready"], true);
    assert_eq!(report["deployments"][0]["name"], "web");
    assert_eq!(report["deployments"][0]["ready"], 2);
    assert_eq!(report["pods"]["ready"], 2);
    let plain = text(&world.setpoint(&["status"]).stdout);
    assert!(plain.contains("web") && plain.contains("2/2"), "{plain}");
    // The same by a kubeconfig, as from another machine.
    let kubeconfig = world.data_dir().join("kubeconfig");
    let output = program()
        .args(["status", "--kubeconfig"])
        .arg(&kubeconfig)
        .output()
        .unwrap();
    assert!(text(&output.stdout).contains("2/2"), "{}", text(&output.stderr));
    let error = program()
        .args(["status", "--context", "nosuch", "--kubeconfig"])
        .arg(&kubeconfig)
        .output()
        .unwrap();
    assert!(text(&error.stderr).contains("nosuch"), "{}", text(&error.stderr));
}

#[test]
fn without_a_daemon_a_command_says_what_to_do_and_exits_with_3() {
    let folder = tempfile::tempdir().unwrap();
    for command in [["status"].as_slice(), &["metrics"], &["kubeconfig"]] {
        let output = program()
            .args(command)
            .arg("--data-dir")
            .arg(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{command:?}");
        assert!(text(&output.stderr).contains("setpoint up"), "{}", text(&output.stderr));
    }
    let by_variable = program()
        .arg("status")
        .env("SETPOINT_DATA_DIR", folder.path())
        .output()
        .unwrap();
    assert!(text(&by_variable.stderr).contains(&folder.path().display().to_string()));
}

#[test]
fn metrics_tell_of_the_api_the_store_the_controllers_and_the_pods() {
    let world = World::start();
    world.demo("web", 1);
    let output = world.setpoint(&["metrics"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let metrics = text(&output.stdout);
    for part in [
        "apiserver_request_total{",
        "setpoint_controller_reconciles_total{controller=\"deployment\"}",
        "setpoint_controller_queue",
        "setpoint_agent_container_restarts_total",
        "setpoint_agent_pods",
        "setpoint_store_writes_total",
    ] {
        assert!(metrics.contains(part), "no {part} in:\n{metrics}");
    }
    assert!(
        world
            .kubectl(&["get", "--raw", "/metrics"])
            .contains("apiserver_request_total")
    );
    let json: Value = serde_json::from_slice(&world.setpoint(&["metrics", "-o", "json"]).stdout).unwrap();
    assert!(json.as_array().unwrap().len() > 20);
}

#[test]
fn every_command_has_help_and_completion_knows_them() {
    let script = text(&program().args(["completion", "bash"]).output().unwrap().stdout);
    for command in [
        "up",
        "down",
        "status",
        "get",
        "changes",
        "image",
        "kubeconfig",
        "metrics",
        "check",
        "completion",
    ] {
        let output = program().args([command, "--help"]).output().unwrap();
        assert!(
            output.status.success() && text(&output.stdout).contains("--data-dir"),
            "{command}"
        );
        assert!(script.contains(command), "{command}");
    }
    assert_eq!(program().arg("nosuch").output().unwrap().status.code(), Some(2));
}

#[test]
fn up_without_root_says_so() {
    // The program is copied to where another user may read it.
    let folder = tempfile::Builder::new()
        .prefix("setpoint-test-")
        .tempdir_in("/tmp")
        .unwrap();
    let copy = folder.path().join("setpoint");
    std::fs::copy(env!("CARGO_BIN_EXE_setpoint"), &copy).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    use std::os::unix::process::CommandExt;
    let output = std::process::Command::new(&copy)
        .args(["up", "--data-dir", "/tmp/setpoint-test-nobody"])
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("root"), "{error}");
}
