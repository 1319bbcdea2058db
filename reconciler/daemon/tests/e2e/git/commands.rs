//! The commands about apps.

use super::{following, good, values};
use crate::harness::{http_get, text};

#[test]
fn rollback_holds_until_git_changes_the_app_or_resume() {
    let (world, fleet) = following(&["web"], "");
    let first = fleet.git(&["rev-parse", "HEAD"]);
    let second = fleet.commit(&[("web.yaml", &good("two"))]);
    world.healthy_at("web", &second);
    let output = world.setpoint(&["rollback", "web"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let app = world.app("web").unwrap();
    assert_eq!(
        (&app["revision"], &app["held"]),
        (&first.clone().into(), &"rollback".into())
    );
    assert!(
        http_get(&format!("http://{}/", world.cluster_ip("web")))
            .unwrap()
            .contains("MESSAGE=one")
    );
    let unrelated = fleet.commit(&[("unrelated.txt", "x")]);
    world.until_app("web", "told of the commit", |app| {
        app["wanted"] == unrelated && app["revision"] == first
    });
    let resumed = world.setpoint(&["resume", "web"]);
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    world.healthy_at("web", &unrelated);
    let history = world.setpoint_json(&["history", "web"]);
    let number = history["entries"].as_array().unwrap().last().unwrap()["number"].to_string();
    assert!(world.setpoint(&["rollback", "web", &number]).status.success());
    assert_eq!(world.app("web").unwrap()["revision"], first);
    let third = fleet.commit(&[("web.yaml", &good("three"))]);
    world.healthy_at("web", &third);
    let unknown = world.setpoint(&["rollback", "web", "999"]);
    assert!(
        text(&unknown.stderr).contains("no revision 999"),
        "{}",
        text(&unknown.stderr)
    );
    assert!(world.setpoint(&["rollback", "web", &second[..10]]).status.success());
    assert_eq!(world.app("web").unwrap()["revision"], second);
}

#[test]
fn plan_and_diff_say_what_would_change_and_render_needs_no_cluster() {
    let (world, fleet) = following(&["web"], "");
    let path = fleet.path().to_str().unwrap();
    let nothing = world.setpoint(&["plan", path, "--exit-code"]);
    assert!(
        nothing.status.success(),
        "{}{}",
        text(&nothing.stdout),
        text(&nothing.stderr)
    );
    std::fs::write(
        fleet.path().join("web.yaml"),
        values("setpoint.dev/demo:v2", "one", "/healthz"),
    )
    .unwrap();
    let plan = world.setpoint(&["plan", path]);
    let shown = text(&plan.stdout);
    assert!(
        shown.contains("Deployment default/web") && shown.contains("setpoint.dev/demo:v2"),
        "{shown}"
    );
    assert!(!world.setpoint(&["plan", path, "--exit-code"]).status.success());
    std::fs::write(fleet.path().join("web.yaml"), "image: [").unwrap();
    let broken = world.setpoint(&["plan", path]);
    assert!(!broken.status.success());
    assert!(text(&broken.stdout).contains("web.yaml"), "{}", text(&broken.stdout));
    fleet.git(&["checkout", "--quiet", "."]);
    let rendered = world.setpoint_json(&["render", path]);
    let kinds: Vec<&str> = rendered
        .as_array()
        .unwrap()
        .iter()
        .map(|object| object["kind"].as_str().unwrap())
        .collect();
    assert!(kinds.contains(&"Deployment") && kinds.contains(&"Service"), "{kinds:?}");
    let diff = world.setpoint_json(&["diff"]);
    assert_eq!(diff["apps"][0]["name"], "web");
    let status = text(&world.setpoint(&["status"]).stdout);
    assert!(
        status.contains("repository repo") && status.contains("Healthy"),
        "{status}"
    );
    let nobody = world.setpoint(&["history", "nobody"]);
    assert!(
        text(&nobody.stderr).contains("no app nobody"),
        "{}",
        text(&nobody.stderr)
    );
}

#[test]
fn random_values_of_templates_stay_from_commit_to_commit() {
    let (world, fleet) = following(&["web"], "");
    let secret = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {{ .Release.Name }}\nstringData:\n  password: {{ randAlphaNum 24 | quote }}\n  when: {{ now | unixEpoch | quote }}\n";
    let toml = format!(
        "{}[[app]]\nname = \"vault\"\npath = \"vault\"\n",
        super::toml(&["web"], "")
    );
    let chart = "apiVersion: v2\nname: vault\nversion: 1.0.0\n";
    let commit = fleet.commit(&[
        ("setpoint.toml", &toml),
        ("vault/Chart.yaml", chart),
        ("vault/templates/secret.yaml", secret),
    ]);
    world.healthy_at("vault", &commit);
    let first = world.get(&["secret", "vault"]).unwrap();
    let commit = fleet.commit(&[("unrelated.txt", "x")]);
    world.healthy_at("vault", &commit);
    assert!(world.setpoint(&["sync", "vault"]).status.success());
    let second = world.get(&["secret", "vault"]).unwrap();
    assert_eq!(first["data"], second["data"]);
    assert_eq!(
        first["metadata"]["resourceVersion"],
        second["metadata"]["resourceVersion"]
    );
    let diff = text(&world.setpoint(&["plan", fleet.path().to_str().unwrap()]).stdout);
    assert!(
        !diff.contains("Secret default/vault") || diff.contains("when"),
        "{diff}"
    );
}
