//! Other limits for what runs.

use super::*;

fn limited(cpu: &str, policy: Value) -> Pod {
    simple(json!({"resources": {"limits": {"cpu": cpu}, "requests": {"cpu": cpu}}, "resizePolicy": policy}))
}

fn rig() -> Rig {
    let rig = Rig::start(limited("500m", json!([])), None);
    assert_eq!(rig.shared.facts.cpus, 4);
    rig
}

fn resources(rig: &Rig) -> Value {
    rig.status()["containerStatuses"][0]["resources"]["limits"]["cpu"].clone()
}

fn has(rig: &Rig, condition: &str) -> bool {
    let status = rig.status();
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.any(|found| found["type"] == condition)
}

#[tokio::test(start_paused = true)]
async fn a_running_container_gets_other_limits_without_a_restart() {
    let rig = rig();
    rig.until("running", Rig::ready).await;
    assert_eq!(resources(&rig), "500m");
    rig.update(|update| update.pod = Arc::new(limited("1500m", json!([]))));
    rig.until("resized", |rig| {
        resources(rig) == "1500m" && !has(rig, resize::IN_PROGRESS)
    })
    .await;
    assert!(
        rig.logged("resize a-0 to 150000 of 150000"),
        "{:?}",
        rig.world.log.lock()
    );
    assert_eq!(rig.status()["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(
        rig.status()["containerStatuses"][0]["allocatedResources"]["cpu"],
        "1500m"
    );
}

#[tokio::test(start_paused = true)]
async fn a_policy_may_ask_for_a_restart() {
    let rig = rig();
    rig.until("running", Rig::ready).await;
    let policy = json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
    rig.update(|update| update.pod = Arc::new(limited("1500m", policy)));
    rig.until("restarted", |rig| {
        rig.status()["containerStatuses"][0]["restartCount"] == 1 && resources(rig) == "1500m"
    })
    .await;
    assert!(rig.logged("resize  of 150000") && rig.logged("stop a-0 within 5 s"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_granted_is_said_and_taken_back() {
    let rig = rig();
    rig.until("running", Rig::ready).await;
    rig.update(|update| update.pod = Arc::new(limited("64", json!([]))));
    rig.until("infeasible", |rig| has(rig, resize::PENDING)).await;
    assert_eq!(resources(&rig), "500m");
    rig.update(|update| update.pod = Arc::new(limited("500m", json!([]))));
    rig.until("settled", |rig| !has(rig, resize::PENDING)).await;
    rig.world.plan("resize", faults::Fault::Fail(1));
    rig.update(|update| update.pod = Arc::new(limited("2", json!([]))));
    rig.until("the failure is told", |rig| has(rig, resize::IN_PROGRESS))
        .await;
    rig.until("done in the end", |rig| {
        resources(rig) == "2" && !has(rig, resize::IN_PROGRESS)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_other_pods_have_is_waited_for() {
    let rig = rig();
    let has = |cpu_millis| resize::Capacity { cpu_millis, memory: 0 };
    rig.shared.allocations.note("other", has(3000));
    rig.until("running", Rig::ready).await;
    assert_eq!(rig.shared.allocations.others("other"), has(500));
    rig.update(|update| update.pod = Arc::new(limited("1500m", json!([]))));
    rig.until("deferred", |rig| has_reason(rig, "Deferred")).await;
    // It has what it had, also when it is started again.
    rig.world.end("a-0", 1);
    rig.wake.notify_one();
    rig.until("restarted", |rig| {
        rig.status()["containerStatuses"][0]["restartCount"] == 1
    })
    .await;
    let quota = rig.world.specs.lock().last().and_then(|spec| spec.resources.cpu_quota);
    assert_eq!(quota, Some(50_000));
    assert_eq!(resources(&rig), "500m");
    rig.shared.allocations.note("other", has(2500));
    rig.until("resized", |rig| {
        resources(rig) == "1500m" && !self::has(rig, resize::PENDING)
    })
    .await;
    assert_eq!(rig.shared.allocations.others("other"), has(1500));
    rig.update(|update| update.gone = true);
    rig.until("the worker ends", |rig| rig.task.is_finished()).await;
    assert_eq!(rig.shared.allocations.others("other"), has(0));
}

fn has_reason(rig: &Rig, reason: &str) -> bool {
    let status = rig.status();
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.any(|found| found["type"] == resize::PENDING && found["reason"] == reason)
}
