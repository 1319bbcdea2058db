//! What happens to a container between its start and its end: hooks, another image, its image asked for again.

use super::*;

fn restarts(rig: &Rig) -> Value {
    rig.status()["containerStatuses"][0]["restartCount"].clone()
}

#[tokio::test(start_paused = true)]
async fn another_image_of_a_running_container_is_run_in_its_place() {
    let rig = Rig::start(simple(json!({})), None);
    rig.until("running", Rig::ready).await;
    rig.update(|update| {
        let mut pod = (*update.pod).clone();
        pod.spec.as_mut().expect("a spec").containers[0].image = Some("app:2".to_owned());
        update.pod = Arc::new(pod);
    });
    rig.until("replaced", |rig| restarts(rig) == 1 && rig.ready()).await;
    assert!(rig.logged("stop a-0 within 5 s"));
    assert_eq!(rig.status()["containerStatuses"][0]["image"], "app:2");
    let told = |rig: &Rig| {
        let wanted = "Container a definition changed, will be restarted";
        rig.api.events.lock().iter().any(|event| event["message"] == wanted)
    };
    rig.until("told", told).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_was_started_from_another_image_before_the_agent_is_replaced_once() {
    let mut pod = simple(json!({"image": "app:2"}));
    let started = json!("1970-01-12T13:46:40Z");
    let status = json!({"phase": "Running", "podIP": "10.42.0.9", "containerStatuses": [{
        "name": "a", "image": "app:1", "imageID": "app@sha256:2", "ready": true, "started": true, "restartCount": 0,
        "state": {"running": {"startedAt": started}}}]});
    pod.status = Some(serde_json::from_value(status).expect("a status"));
    let rig = Rig::start(pod, Some(running_sandbox(0)));
    rig.until("replaced", |rig| restarts(rig) == 1 && rig.ready()).await;
    assert_eq!(rig.status()["containerStatuses"][0]["image"], "app:2");
    assert!(!rig.logged("start a-2"));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_always_to_be_pulled_is_asked_for_at_each_start() {
    let rig = Rig::start(
        simple(json!({"imagePullPolicy": "Always", "image": "registry:1"})),
        None,
    );
    rig.until("running", Rig::ready).await;
    assert_eq!(rig.world.pulls.load(Ordering::SeqCst), 1);
    rig.world.end("a-0", 1);
    rig.wake.notify_one();
    rig.until("running again", |rig| restarts(rig) == 1 && rig.ready())
        .await;
    assert_eq!(rig.world.pulls.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_container_is_ready_after_its_post_start_hook_and_killed_when_that_fails() {
    let hook = json!({"postStart": {"exec": {"command": ["prepare"]}}});
    let rig = Rig::start(simple(json!({"lifecycle": hook})), None);
    rig.until("ready", Rig::ready).await;
    assert!(rig.logged("exec prepare in a-0"));
    rig.world.exec.store(3, Ordering::SeqCst);
    rig.world.end("a-0", 0);
    rig.wake.notify_one();
    rig.until("killed", |rig| rig.logged("stop a-1 within 5 s")).await;
    let told = |rig: &Rig, reason: &str| rig.api.events.lock().iter().any(|event| event["reason"] == reason);
    rig.until("told", |rig| told(rig, "FailedPostStartHook")).await;
    assert!(!rig.ready());
}

#[tokio::test(start_paused = true)]
async fn the_pre_stop_hook_comes_first_and_uses_up_the_grace() {
    let hook = json!({"preStop": {"sleep": {"seconds": 2}}});
    let rig = Rig::start(simple(json!({"lifecycle": hook})), None);
    rig.until("running", Rig::ready).await;
    rig.update(|update| {
        let mut pod = (*update.pod).clone();
        pod.metadata.deletion_timestamp = Some(crate::status::whole_seconds(
            Timestamp::from_second(1_000_000).expect("a time"),
        ));
        pod.metadata.deletion_grace_period_seconds = Some(5);
        update.pod = Arc::new(pod);
    });
    rig.until("deleted", |rig| rig.api.writes.lock().last() == Some(&json!("deleted")))
        .await;
    // The clock of these tests stands still while anybody works: two of five seconds are gone to the hook, and what it took to begin.
    let stopped = |seconds: u64| rig.logged(&format!("stop a-0 within {seconds} s"));
    assert!(stopped(3) || stopped(2), "{:?}", rig.world.log.lock());
}
