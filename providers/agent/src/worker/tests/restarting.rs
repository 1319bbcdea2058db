//! Containers that restart the whole pod by how they end.

use super::*;

fn ruled() -> Pod {
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]);
    let plain = |name: &str| json!({"name": name, "image": "app:1"});
    let asks = json!({"name": "a", "image": "app:1", "restartPolicy": "Never", "restartPolicyRules": rules});
    pod(json!({
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 5,
        "initContainers": [plain("i")], "containers": [asks, plain("b"), plain("c")],
    }))
}

fn condition(rig: &Rig) -> Value {
    let status = rig.status();
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let found = conditions.find(|found| found["type"] == "AllContainersRestarting");
    found.map_or(Value::Null, |found| json!([found["status"], found["reason"]]))
}

async fn initialize(rig: &Rig, attempt: u32) {
    rig.until("the init container runs", |rig| {
        rig.logged(&format!("start i-{attempt}"))
    })
    .await;
    rig.world.end(&format!("i-{attempt}"), 0);
    rig.wake.notify_one();
    rig.until("all run", |rig| {
        let status = rig.status();
        let all = status["containerStatuses"].as_array().into_iter().flatten();
        let running = all.filter(|one| one["ready"] == true && one["restartCount"] == attempt);
        running.count() == 3
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn all_containers_begin_anew_in_the_same_sandbox() {
    let rig = Rig::start(ruled(), None);
    initialize(&rig, 0).await;
    assert_eq!(condition(&rig), json!(["False", null]));
    rig.world.end("b-0", 0);
    rig.wake.notify_one();
    rig.until("one is done", |rig| {
        rig.status()["containerStatuses"][1]["state"]["terminated"]["reason"] == "Completed"
    })
    .await;
    rig.world.end("a-0", 42);
    rig.wake.notify_one();
    initialize(&rig, 1).await;
    assert!(
        rig.logged("stop c-0 within 0 s") && !rig.logged("remove"),
        "{:?}",
        rig.world.log.lock()
    );
    assert_eq!(rig.world.log.lock().iter().filter(|line| *line == "sandbox").count(), 1);
    assert_eq!(condition(&rig), json!(["False", null]));
    // Any other end is none.
    rig.world.end("a-1", 1);
    for name in ["b-1", "c-1"] {
        rig.world.end(name, 0);
    }
    rig.wake.notify_one();
    rig.until("over", |rig| rig.status()["phase"] == "Failed").await;
    assert_eq!(condition(&rig), json!(["False", "PodFailed"]));
}
