//! Steps that fail, panic or hang: what becomes of the pod, and that nothing of it is left.

use super::*;

/// What a step does instead of its work.
#[derive(Clone)]
pub(super) enum Fault {
    /// Fails so many times.
    Fail(u32),
    /// Panics so many times.
    Panic(u32),
    /// Asks so many times for a sandbox of this build.
    Outdated(u32),
    /// Waits until it is told to go on.
    Hang(Arc<Notify>),
}

impl World {
    /// Does what a test has planned for a step.
    pub(super) async fn step(&self, name: &'static str) -> Result<(), RuntimeFailure> {
        let fault = match self.faults.lock().get_mut(name) {
            None | Some(Fault::Fail(0) | Fault::Panic(0) | Fault::Outdated(0)) => return Ok(()),
            Some(fault) => {
                let now = fault.clone();
                if let Fault::Fail(left) | Fault::Panic(left) | Fault::Outdated(left) = fault {
                    *left -= 1;
                }
                now
            }
        };
        match fault {
            Fault::Fail(_) => Err(RuntimeFailure::new(format!("no space left for {name}"))),
            Fault::Panic(_) => panic!("{name} panics, as planned"),
            Fault::Outdated(_) => Err(RuntimeFailure {
                reason: crate::containers::OUTDATED,
                ..RuntimeFailure::new("begun by an earlier version")
            }),
            Fault::Hang(go_on) => {
                self.note(format!("{name} hangs"));
                go_on.notified().await;
                Ok(())
            }
        }
    }

    pub(super) fn plan(&self, step: &'static str, fault: Fault) {
        self.faults.lock().insert(step, fault);
    }
}

impl Rig {
    fn delete(&self) {
        self.update(|update| {
            let mut pod = (*update.pod).clone();
            pod.metadata.deletion_timestamp = Some(crate::status::whole_seconds((self.shared.now)()));
            pod.metadata.deletion_grace_period_seconds = Some(1);
            update.pod = Arc::new(pod);
        });
    }

    async fn leaves_nothing(&self) {
        self.until("the worker ends", |rig| rig.task.is_finished()).await;
        assert!(self.world.sandboxes.lock().is_empty());
        assert!(!self.shared.places.disk().join("u").exists());
        let addresses = self.shared.addresses.as_ref().expect("addresses");
        assert_eq!(addresses.taken(), [] as [Ipv4Addr; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_is_tried_again_and_nothing_is_left_at_the_end() {
    for step in ["sandbox", "image", "start"] {
        let rig = Rig::start(simple(json!({})), None);
        rig.world.plan(step, Fault::Fail(2));
        rig.until(step, Rig::ready).await;
        rig.world.plan("remove", Fault::Fail(1));
        rig.delete();
        rig.leaves_nothing().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_step_failed_for_is_in_the_status() {
    for step in ["sandbox", "start"] {
        let rig = Rig::start(simple(json!({})), None);
        rig.world.plan(step, Fault::Fail(1000));
        let cause = format!("no space left for {step}");
        rig.until(&cause, |rig| {
            let message = &rig.status()["containerStatuses"][0]["state"]["waiting"]["message"];
            message.as_str().is_some_and(|message| message.contains(&cause))
        })
        .await;
        rig.delete();
        rig.leaves_nothing().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_stands_has_its_files_whenever_the_agent_ends() {
    let rig = Rig::start(simple(json!({})), None);
    let go_on = Arc::new(Notify::new());
    rig.world.plan("sandbox", Fault::Hang(go_on.clone()));
    rig.until("the sandbox stands", |rig| rig.logged("sandbox hangs")).await;
    for name in ["hosts", "hostname", "resolv.conf"] {
        assert!(rig.shared.places.file("u", name).exists(), "{name}");
    }
    go_on.notify_one();
    rig.delete();
    rig.leaves_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn the_host_ports_of_a_pod_are_free_before_its_end_is_told() {
    let pod = simple(json!({"ports": [{"containerPort": 80, "hostPort": 8080}]}));
    let rig = Rig::start(pod.clone(), None);
    rig.until("running", Rig::ready).await;
    assert!(!rig.shared.host_ports.reserve("another", &pod));
    let go_on = Arc::new(Notify::new());
    rig.world.plan("remove", Fault::Hang(go_on.clone()));
    rig.delete();
    rig.until("the removal hangs", |rig| rig.logged("remove hangs")).await;
    assert!(rig.shared.host_ports.reserve("another", &pod));
    go_on.notify_one();
    rig.leaves_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_panics_is_replaced() {
    for step in ["sandbox", "image", "start", "remove"] {
        let rig = Rig::start(simple(json!({})), None);
        rig.world.plan(step, Fault::Panic(2));
        rig.until(step, Rig::ready).await;
        rig.delete();
        rig.leaves_nothing().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_in_the_middle_of_a_step_is_removed_after_it() {
    for step in ["sandbox", "image", "start"] {
        for by_force in [false, true] {
            let rig = Rig::start(simple(json!({})), None);
            let go_on = Arc::new(Notify::new());
            rig.world.plan(step, Fault::Hang(go_on.clone()));
            let hangs = format!("{step} hangs");
            rig.until(&hangs, |rig| rig.logged(&hangs)).await;
            if by_force {
                rig.update(|update| update.gone = true);
            } else {
                rig.delete();
            }
            go_on.notify_one();
            rig.leaves_nothing().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_two_containers_crashes_and_the_other_goes_on() {
    let containers = json!([{"name": "a", "image": "app:1"}, {"name": "b", "image": "app:1"}]);
    let rig = Rig::start(pod(json!({"containers": containers})), None);
    rig.until("running", |rig| rig.logged("start b-0") && rig.ready()).await;
    rig.world.end("a-0", 1);
    rig.wake.notify_one();
    rig.until("again", |rig| rig.logged("start a-1") && rig.ready()).await;
    assert!(!rig.logged("start b-1"));
    assert_eq!(rig.status()["containerStatuses"][1]["restartCount"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_first_crash_is_restarted_while_the_api_does_not_answer() {
    let rig = Rig::start(simple(json!({})), None);
    rig.until("running", Rig::ready).await;
    rig.api.silent.send_replace(true);
    let before = tokio::time::Instant::now();
    rig.world.end("a-0", 1);
    rig.wake.notify_one();
    rig.until("started again", |rig| rig.logged("start a-1")).await;
    assert!(before.elapsed() < Duration::from_millis(50), "{:?}", before.elapsed());
    rig.api.silent.send_replace(false);
    rig.until("said", |rig| {
        rig.status()["containerStatuses"][0]["restartCount"] == 1 && rig.ready()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_completed_pod_gives_its_sandbox_and_address_back_and_keeps_what_it_said() {
    for (code, phase) in [(0, "Succeeded"), (3, "Failed")] {
        let containers = json!([{"name": "a", "image": "app:1"}]);
        let rig = Rig::start(pod(json!({"containers": containers, "restartPolicy": "Never"})), None);
        rig.until("running", Rig::ready).await;
        rig.world.plan("close", Fault::Fail(1));
        rig.world.end("a-0", code);
        rig.wake.notify_one();
        let addresses = rig.shared.addresses.clone().expect("addresses");
        rig.until("closed", |rig| {
            rig.status()["phase"] == phase && addresses.taken().is_empty()
        })
        .await;
        assert_eq!(rig.world.sandboxes.lock()["u"].pid, 0);
        assert_eq!(rig.status()["podIP"], "10.42.0.2", "it is shown as on Kubernetes");
        let exit = rig.status()["containerStatuses"][0]["state"]["terminated"]["exitCode"].clone();
        assert_eq!(exit, code);
        rig.delete();
        rig.leaves_nothing().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_completed_pod_is_found_again_and_left_alone() {
    let containers = json!([{"name": "a", "image": "app:1"}]);
    let pod = pod(json!({"containers": containers, "restartPolicy": "Never"}));
    let now = Timestamp::from_second(1_000_000).expect("a time");
    let state = ContainerState {
        mounted: Vec::new(),
        name: "a".to_owned(),
        attempt: 0,
        image: "sha256:1".to_owned(),
        pid: 9,
        started_at: now,
        exit: Some(Exit {
            code: 0,
            signal: None,
            oom_killed: false,
            finished_at: now,
        }),
    };
    let spec = SandboxSpec {
        id: "u".to_owned(),
        ..SandboxSpec::default()
    };
    let closed = SandboxState {
        spec,
        pid: 0,
        containers: vec![state],
    };
    let rig = Rig::start(pod, Some(closed));
    rig.until("a status", |rig| rig.status()["phase"] == "Succeeded").await;
    assert!(rig.world.log.lock().is_empty(), "{:?}", rig.world.log.lock());
    rig.delete();
    rig.leaves_nothing().await;
}

fn two(policy: &str) -> Pod {
    let container = |name: &str| json!({"name": name, "image": "app:1"});
    let containers = json!([container("a"), container("b")]);
    pod(json!({"containers": containers, "restartPolicy": policy, "terminationGracePeriodSeconds": 5}))
}

#[tokio::test(start_paused = true)]
async fn a_container_that_the_sandbox_is_too_old_for_gets_a_new_one_and_the_others_with_it() {
    let rig = Rig::start(two("Always"), None);
    rig.until("running", Rig::ready).await;
    rig.world.plan("start", Fault::Outdated(1));
    rig.world.end("a-0", 1);
    rig.wake.notify_one();
    rig.until("both run anew", |rig| {
        let statuses = &rig.status()["containerStatuses"];
        [0, 1]
            .iter()
            .all(|at| statuses[at]["restartCount"] == 1 && statuses[at]["ready"] == true)
    })
    .await;
    let log = rig.world.log.lock().clone();
    let at = |text: &str| {
        log.iter()
            .rposition(|line| line == text)
            .unwrap_or_else(|| panic!("{text}: {log:?}"))
    };
    assert!(
        at("stop b-0 within 5 s") < at("remove") && at("remove") < at("sandbox") && at("sandbox") < at("start b-1")
    );
    rig.delete();
    rig.leaves_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_started_again_is_not_ended_for_a_new_sandbox() {
    let rig = Rig::start(two("OnFailure"), None);
    rig.until("running", Rig::ready).await;
    rig.world.plan("start", Fault::Outdated(1));
    rig.world.end("a-0", 1);
    rig.wake.notify_one();
    rig.until("said why", |rig| {
        let waiting = &rig.status()["containerStatuses"][0]["state"]["waiting"];
        waiting["reason"] == "CreateContainerError" && waiting["message"] == "begun by an earlier version"
    })
    .await;
    assert!(!rig.logged("stop b-0 within 5 s") && !rig.logged("remove"));
}
