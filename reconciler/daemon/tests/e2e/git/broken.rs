//! What is pushed broken: what ran keeps running, the reason is named, and the next good commit goes through.

use super::{Fleet, WEB, following, good, toml, values};
use crate::harness::{World, http_get};
use crate::images::Registry;

/// Pushes something broken, waits until it is given up, looks that nothing was lost, mends it.
fn breaks(world: &World, fleet: &Fleet, before: &str, files: &[(&str, &str)], reason: &[&str]) -> String {
    let address = format!("http://{}/", world.cluster_ip("web"));
    let bad = fleet.commit(files);
    let failed = world.failed_at("web", &bad);
    assert_eq!(failed["revision"], before, "{failed}");
    for part in reason {
        assert!(
            failed["reason"].as_str().unwrap().contains(part),
            "{part:?} is missing: {failed}"
        );
    }
    assert!(http_get(&address).unwrap().contains("MESSAGE=one"));
    // It is not tried again: another commit that leaves the app alone changes nothing.
    let unrelated = fleet.commit(&[("unrelated.txt", &bad)]);
    world.until_app("web", "looked at again", |app| {
        app["wanted"] == unrelated && app["health"] == "Failed"
    });
    let good = fleet.commit(&[
        ("web.yaml", &good("one")),
        ("web/web.yaml.hbs", WEB),
        ("setpoint.toml", &toml(&["web"], "")),
    ]);
    world.healthy_at("web", &good);
    good
}

#[test]
fn whatever_is_broken_goes_back_by_itself_with_its_reason() {
    let (world, fleet) = following(&["web"], "");
    let before = fleet.git(&["rev-parse", "HEAD"]);
    let registry = Registry::start();
    let image = format!("{}/no/such:v1", registry.address);
    let absent = values(&image, "two", "/healthz");
    let before = breaks(
        &world,
        &fleet,
        &before,
        &[("web.yaml", &absent)],
        &[&image, "does not exist"],
    );
    let crash = values("setpoint.dev/demo:crash", "two", "/healthz");
    let before = breaks(
        &world,
        &fleet,
        &before,
        &[("web.yaml", &crash)],
        &["container app", "crashed 3 times"],
    );
    let impatient = toml(&["web"], "sync = { deadline = \"5s\" }");
    let probe = values("setpoint.dev/demo:v1", "two", "/nowhere");
    let before = breaks(
        &world,
        &fleet,
        &before,
        &[("web.yaml", &probe), ("setpoint.toml", &impatient)],
        &["Deployment default/web"],
    );
    let template = WEB.replace("{{Values.image}}", "{{Values.imago}}");
    let before = breaks(
        &world,
        &fleet,
        &before,
        &[("web/web.yaml.hbs", &template)],
        &["web/web.yaml.hbs:15:20", "imago"],
    );
    let refused = WEB.replace("containerPort: 8080", "containerPort: 99999");
    breaks(
        &world,
        &fleet,
        &before,
        &[("web/web.yaml.hbs", &refused)],
        &["web/web.yaml.hbs", "containerPort"],
    );
    let history = world.setpoint_json(&["history", "web"]);
    let outcomes: Vec<&str> = history["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["outcome"].as_str().unwrap())
        .collect();
    assert!(
        outcomes.iter().filter(|outcome| **outcome == "failed").count() >= 4,
        "{history}"
    );
}

#[test]
fn other_apps_go_on_while_one_is_broken() {
    let (world, fleet) = following(&["web", "other"], "");
    let bad = fleet.commit(&[
        ("web.yaml", &values("setpoint.dev/demo:crash", "two", "/healthz")),
        ("other.yaml", &good("two")),
    ]);
    world.healthy_at("other", &bad);
    world.failed_at("web", &bad);
    assert!(
        http_get(&format!("http://{}/", world.cluster_ip("other")))
            .unwrap()
            .contains("MESSAGE=two")
    );
}

#[test]
fn a_registry_that_is_down_is_tried_again_later() {
    let (world, fleet) = following(&["web"], "sync = { deadline = \"5s\" }");
    // Nobody listens on this port.
    let bad = fleet.commit(&[("web.yaml", &values("127.0.0.1:1/app:v1", "two", "/healthz"))]);
    let failed = world.failed_at("web", &bad);
    assert!(
        failed["reason"].as_str().unwrap().contains("tried again in"),
        "{failed}"
    );
}

#[test]
fn a_declaration_that_does_not_parse_leaves_the_last_good_one_in_force() {
    let (world, fleet) = following(&["web"], "");
    let before = fleet.git(&["rev-parse", "HEAD"]);
    fleet.commit(&[("setpoint.toml", "[[app]]\nname = \"web\"\nnonsense = 1\n")]);
    let repository = world.until(
        &["repository", "repo", "-n", "setpoint-system"],
        "wrong",
        |repository| {
            repository["status"]["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("setpoint.toml:3:1"))
        },
    );
    assert_eq!(repository["status"]["inForce"], before);
    assert_eq!(world.app("web").unwrap()["health"], "Healthy");
    let twice = format!("{}{}", toml(&["web"], ""), toml(&["web"], ""));
    fleet.commit(&[("setpoint.toml", &twice)]);
    world.until(
        &["repository", "repo", "-n", "setpoint-system"],
        "wrong about names",
        |repository| {
            repository["status"]["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("web") && reason.contains("two"))
        },
    );
    let mended = fleet.commit(&[("setpoint.toml", &toml(&["web"], ""))]);
    world.healthy_at("web", &mended);
}

#[test]
fn what_is_gone_back_to_runs_its_image_although_the_tag_means_another_now() {
    let (world, fleet) = following(&["web"], "sync = { deadline = \"5s\" }");
    let registry = Registry::start();
    let image = format!("{}/team/app:live", registry.address);
    let first = registry.push_demo(&world, 0, "team/app", "live");
    let before = fleet.commit(&[("web.yaml", &values(&image, "one", "/healthz"))]);
    world.healthy_at("web", &before);
    let second = registry.push_demo(&world, 1, "team/app", "live");
    assert_ne!(first, second);
    let pulled = world.setpoint(&["image", "pull", &image]);
    assert!(pulled.status.success(), "{}", crate::harness::text(&pulled.stderr));
    drop(registry);

    let bad = fleet.commit(&[("web.yaml", &values(&image, "two", "/nowhere"))]);
    world.failed_at("web", &bad);
    let deployment = world.until(&["deployment", "web"], "back by its digest", |deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] == format!("{image}@{first}")
    });
    assert_eq!(
        deployment["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"],
        "one"
    );
    // New pods of it run that image too, without its registry.
    world.kubectl(&["delete", "pods", "--all", "--wait=false"]);
    let runs_first = |pod: &serde_json::Value| {
        let status = &pod["status"]["containerStatuses"][0];
        status["ready"] == true && status["imageID"].as_str().is_some_and(|id| id.ends_with(&first))
    };
    world.until(&["pods", "-l", "app=web"], "only the first image", |pods| {
        let pods = crate::harness::items(pods);
        let alive: Vec<_> = pods
            .iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .collect();
        pods.len() == alive.len() && alive.len() == 1 && alive.iter().all(|pod| runs_first(pod))
    });
    assert!(world.log().contains("means another image now"), "{}", world.log());
    assert_eq!(world.app("web").unwrap()["health"], "Failed");
}
