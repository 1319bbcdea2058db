//! What somebody changes: fields that git sets are put back, others stay.

use super::{following, toml};
use crate::harness::wait_for;

#[test]
fn what_is_deleted_or_edited_is_put_back_and_what_others_set_stays() {
    let (world, _fleet) = following(&["web"], "");
    let before = world.get(&["service", "web"]).unwrap();
    world.kubectl(&["delete", "service", "web"]);
    world.until(&["service", "web"], "made again", |service| {
        service["metadata"]["uid"] != before["metadata"]["uid"]
    });
    world.kubectl(&["annotate", "deployment", "web", "example.com/mine=yes"]);
    world.kubectl(&["scale", "deployment", "web", "--replicas=3"]);
    world.until(&["deployment", "web"], "one replica again", |deployment| {
        deployment["spec"]["replicas"] == 1
    });
    world.kubectl(&["set", "image", "deployment/web", "app=setpoint.dev/demo:v2"]);
    let deployment = world.until(&["deployment", "web"], "the image of git", |deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "setpoint.dev/demo:v1"
    });
    assert_eq!(deployment["metadata"]["annotations"]["example.com/mine"], "yes");
    world.until_app("web", "healthy again", |app| app["health"] == "Healthy");
    let diff = world.setpoint(&["diff", "web", "--exit-code"]);
    assert!(diff.status.success(), "nothing differs any more: {diff:?}");
}

#[test]
fn an_ignored_field_is_left_to_others() {
    let (world, fleet) = following(&["web"], "ignore = [\"Deployment:spec.replicas\"]");
    world.kubectl(&["scale", "deployment", "web", "--replicas=2"]);
    world.ready_pods("app=web", 2);
    // A new revision leaves it alone as well.
    let commit = fleet.commit(&[("web.yaml", &super::good("two"))]);
    world.healthy_at("web", &commit);
    assert_eq!(world.get(&["deployment", "web"]).unwrap()["spec"]["replicas"], 2);
}

#[test]
fn what_git_no_longer_names_is_deleted_and_what_is_not_the_apps_stays() {
    let (world, fleet) = following(&["web", "other"], "");
    world.kubectl(&["create", "configmap", "mine"]);
    let with = format!(
        "{}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: extra }}\ndata: {{ a: b }}\n",
        super::WEB.replace("name: extra", "")
    );
    let with = with.replace("name: extra", "name: {{Release.Name}}-extra");
    let commit = fleet.commit(&[("web/web.yaml.hbs", &with)]);
    world.healthy_at("web", &commit);
    assert!(world.get(&["configmap", "web-extra"]).is_some());
    let commit = fleet.commit(&[("web/web.yaml.hbs", super::WEB)]);
    world.healthy_at("web", &commit);
    wait_for("the ConfigMap to go", || {
        world.get(&["configmap", "web-extra"]).is_none().then_some(())
    });
    fleet.commit(&[("setpoint.toml", &toml(&["web"], ""))]);
    wait_for("the app to go", || world.app("other").is_none().then_some(()));
    assert!(world.get(&["deployment", "other"]).is_none());
    assert!(world.get(&["configmap", "mine"]).is_some());
    assert_eq!(world.app("web").unwrap()["health"], "Healthy");
}

#[test]
fn an_app_object_that_is_edited_or_deleted_is_put_back_and_its_objects_stay() {
    let (world, _fleet) = following(&["web"], "");
    let before = world.get(&["deployment", "web"]).unwrap()["metadata"]["uid"].clone();
    world.kubectl(&[
        "-n",
        "setpoint-system",
        "patch",
        "app",
        "web",
        "--type=merge",
        "-p",
        r#"{"spec":{"namespace":"elsewhere"}}"#,
    ]);
    world.until(&["app", "web", "-n", "setpoint-system"], "as git says", |app| {
        app["spec"]["namespace"] == "default"
    });
    let uid = world.get(&["app", "web", "-n", "setpoint-system"]).unwrap()["metadata"]["uid"].clone();
    world.kubectl(&["-n", "setpoint-system", "delete", "app", "web", "--wait=false"]);
    world.until(&["app", "web", "-n", "setpoint-system"], "made again", |app| {
        app["metadata"]["uid"] != uid
    });
    world.until_app("web", "healthy again", |app| app["health"] == "Healthy");
    assert_eq!(world.get(&["deployment", "web"]).unwrap()["metadata"]["uid"], before);
}
