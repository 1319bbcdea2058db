//! Charts as apps of their own.

use crate::harness::{World, http_get, text, wait_for};

#[test]
fn charts_that_setpoint_carries_are_installed_healed_rolled_back_and_removed() {
    let world = World::start();
    for chart in ["demo", "web"] {
        let output = world.setpoint(&["chart", "install", chart, chart, "--set", "replicas=1", "-n", "shop"]);
        assert!(
            output.status.success(),
            "{}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        world.kubectl(&[
            "-n",
            "shop",
            "rollout",
            "status",
            &format!("deployment/{chart}"),
            "--timeout=90s",
        ]);
    }
    let list = world.setpoint_json(&["chart", "list"]);
    assert_eq!(list["installed"].as_array().unwrap().len(), 2);
    let again = world.setpoint(&["chart", "install", "demo", "demo"]);
    assert!(text(&again.stderr).contains("chart upgrade"), "{}", text(&again.stderr));
    world.kubectl(&["-n", "shop", "delete", "service", "demo"]);
    world.until(&["service", "demo", "-n", "shop"], "made again", |service| {
        service["spec"]["clusterIP"].is_string()
    });
    let upgrade = world.setpoint(&[
        "chart",
        "upgrade",
        "demo",
        "demo",
        "--reuse-values",
        "--set",
        "replicas=2",
    ]);
    assert!(upgrade.status.success(), "{}", text(&upgrade.stderr));
    assert_eq!(
        world.get(&["deployment", "demo", "-n", "shop"]).unwrap()["spec"]["replicas"],
        2
    );
    let broken = world.setpoint(&[
        "chart",
        "upgrade",
        "demo",
        "demo",
        "--reuse-values",
        "--set",
        "image=setpoint.dev/demo:crash",
    ]);
    assert!(!broken.status.success());
    let service = world.get(&["service", "demo", "-n", "shop"]).unwrap();
    let page = http_get(&format!("http://{}/", service["spec"]["clusterIP"].as_str().unwrap()));
    assert!(page.is_ok(), "{page:?}");
    let app = world.app("demo").unwrap();
    assert_eq!(app["health"], "Failed", "{app}");
    for chart in ["demo", "web"] {
        let gone = world.setpoint(&["chart", "uninstall", chart]);
        assert!(gone.status.success(), "{}", text(&gone.stderr));
        wait_for("its objects to go", || {
            world.get(&["deployment", chart, "-n", "shop"]).is_none().then_some(())
        });
    }
}

#[test]
fn a_chart_in_a_folder_takes_values_from_files_and_arguments() {
    let world = World::start();
    let folder = world.folder().join("mine");
    std::fs::create_dir_all(folder.join("templates")).unwrap();
    std::fs::write(
        folder.join("Chart.yaml"),
        "apiVersion: v2\nname: mine\nversion: 1.2.3\n",
    )
    .unwrap();
    std::fs::write(folder.join("values.yaml"), "a: 1\nb: 2\nc: 3\n").unwrap();
    std::fs::write(
        folder.join("templates/map.yaml"),
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\ndata:\n  all: \"{{ .Values.a }} {{ .Values.b }} {{ .Values.c }}\"\n",
    )
    .unwrap();
    let values = world.file("over.yaml", "b: two\n");
    let output = world.setpoint(&[
        "chart",
        "install",
        "one",
        folder.to_str().unwrap(),
        "-f",
        values.to_str().unwrap(),
        "--set",
        "c=three",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(world.get(&["configmap", "one"]).unwrap()["data"]["all"], "1 two three");
    let app = world.app("one").unwrap();
    assert_eq!(
        (&app["revision"], &app["health"]),
        (&"mine-1.2.3".into(), &"Healthy".into())
    );
    let nothing = world.setpoint(&["chart", "install", "two", "nowhere"]);
    assert!(text(&nothing.stderr).contains("demo"), "{}", text(&nothing.stderr));
}
