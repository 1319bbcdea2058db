//! Containers that are added to a running pod.

use super::*;

fn add(rig: &Rig, container: Value) {
    rig.update(|update| {
        let mut pod = (*update.pod).clone();
        let spec = pod.spec.as_mut().expect("a spec");
        let added = serde_json::from_value(container).expect("a container");
        spec.ephemeral_containers.get_or_insert_default().push(added);
        update.pod = Arc::new(pod);
    });
}

#[tokio::test(start_paused = true)]
async fn an_added_container_starts_in_its_targets_processes_and_is_not_restarted() {
    let rig = Rig::start(simple(json!({})), None);
    rig.until("running", Rig::ready).await;
    add(
        &rig,
        json!({"name": "look", "image": "busybox:1", "targetContainerName": "a", "stdin": true}),
    );
    rig.until("it runs", |rig| {
        rig.status()["ephemeralContainerStatuses"][0]["state"]["running"].is_object()
    })
    .await;
    let spec = rig.world.specs.lock().last().cloned().expect("a started container");
    assert_eq!(
        (spec.name.as_str(), spec.target.as_deref(), spec.stdin),
        ("look", Some("a-0"), true)
    );
    rig.world.end("look-0", 3);
    rig.wake.notify_one();
    rig.until("its end is told", |rig| {
        rig.status()["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    })
    .await;
    assert!(rig.ready() && rig.status()["phase"] == "Running");
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert!(!rig.logged("start look-1"));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_does_not_run_is_said_and_waited_for() {
    let rig = Rig::start(simple(json!({"image": "none:1"})), None);
    add(
        &rig,
        json!({"name": "look", "image": "busybox:1", "targetContainerName": "a"}),
    );
    rig.until("the cause is told", |rig| {
        let waiting = &rig.status()["ephemeralContainerStatuses"][0]["state"]["waiting"];
        waiting["reason"] == "CreateContainerConfigError" && waiting["message"] == "unable to find target container a"
    })
    .await;
}
