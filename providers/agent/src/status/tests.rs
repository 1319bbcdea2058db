use std::net::Ipv4Addr;

use serde_json::{Value, json};
use setpoint_runtime::spec::Exit;

use super::*;
use crate::containers::ReadyImage;
use crate::observed::{Failure, Step};

const HOST: AddressPair = AddressPair {
    ipv4: Ipv4Addr::new(192, 0, 2, 1),
    ipv6: None,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).expect("a time")
}

fn pod(spec: Value) -> Pod {
    let meta = json!({"name": "web", "namespace": "default", "uid": "u", "generation": 3});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod")
}

fn state(attempt: u32, exit: Option<(i32, i64)>) -> ContainerState {
    let exit = exit.map(|(code, second)| Exit {
        code,
        signal: None,
        oom_killed: false,
        finished_at: at(second),
    });
    ContainerState {
        mounted: Vec::new(),
        name: "a".to_owned(),
        attempt,
        image: "sha256:c".to_owned(),
        pid: 1,
        started_at: at(0),
        exit,
    }
}

fn observed(states: &[ContainerState]) -> Observed {
    let image = ReadyImage {
        id: "sha256:c".to_owned(),
        digest: "sha256:d".to_owned(),
        user: None,
        size: 0,
    };
    let mut container = Container {
        image: Image::Ready(image),
        hook: Hook::Done,
        ..Container::default()
    };
    for state in states {
        container.take(state.clone());
    }
    container.started = container.running();
    container.ready = container.running();
    Observed {
        sandbox: Sandbox::Ready {
            addresses: Some(Ipv4Addr::new(10, 42, 0, 2).into()),
        },
        volumes: Step::Done,
        containers: [("a".to_owned(), container)].into(),
        started_at: Some(at(0)),
        ..Observed::default()
    }
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == kind)
        .expect("the condition")
}

fn simple() -> Pod {
    pod(json!({"containers": [{"name": "a", "image": "reg/app:1"}]}))
}

#[test]
fn a_running_pod_looks_as_in_kubernetes() {
    let status = build(
        &simple(),
        &observed(&[state(0, None)]),
        &PodStatus::default(),
        HOST,
        at(1),
    );
    let shown = serde_json::to_value(&status).expect("json");
    assert_eq!(shown["phase"], "Running");
    assert_eq!(shown["podIP"], "10.42.0.2");
    assert_eq!(shown["podIPs"], json!([{"ip": "10.42.0.2"}]));
    assert_eq!(shown["hostIP"], "192.0.2.1");
    assert_eq!(shown["qosClass"], "BestEffort");
    assert_eq!(shown["observedGeneration"], 3);
    assert_eq!(
        shown["containerStatuses"],
        json!([{
            "name": "a", "image": "reg/app:1", "imageID": "reg/app@sha256:d", "containerID": "setpoint://u-a-0", "ready": true, "started": true,
            "restartCount": 0, "lastState": {}, "state": {"running": {"startedAt": whole_seconds(at(0))}},
        }])
    );
    for kind in OWN_CONDITIONS {
        assert_eq!(condition(&status, kind).status, "True", "{kind}");
    }
}

#[test]
fn a_pod_on_its_way_is_pending_and_may_wait() {
    let observed = Observed {
        started_at: Some(at(0)),
        ..Observed::default()
    };
    let status = build(&simple(), &observed, &PodStatus::default(), HOST, at(0));
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert!(is_only_beginning(&status));
    assert_eq!(
        condition(&status, "Ready").message.as_deref(),
        Some("containers with unready status: [a]")
    );
}

#[test]
fn building_again_changes_nothing_and_a_turn_gets_a_new_time() {
    let mut world = observed(&[state(0, None)]);
    let first = build(&simple(), &world, &PodStatus::default(), HOST, at(1));
    assert_eq!(build(&simple(), &world, &first, HOST, at(50)), first);
    world.containers.get_mut("a").expect("a").ready = false;
    let second = build(&simple(), &world, &first, HOST, at(60));
    assert_eq!(
        condition(&second, "Ready").last_transition_time,
        Some(whole_seconds(at(60)))
    );
    assert_eq!(
        condition(&second, "Initialized").last_transition_time,
        Some(whole_seconds(at(1)))
    );
}

#[test]
fn other_peoples_conditions_are_kept() {
    let old: PodStatus =
        serde_json::from_value(json!({"conditions": [{"type": "PodScheduled", "status": "True"}]})).expect("a status");
    let status = build(&simple(), &observed(&[state(0, None)]), &old, HOST, at(1));
    assert_eq!(condition(&status, "PodScheduled").status, "True");
    assert_eq!(status.conditions.map(|conditions| conditions.len()), Some(5));
}

#[test]
fn a_crash_loop_waits_and_shows_the_last_state() {
    let world = observed(&[state(0, Some((1, 1))), state(1, Some((2, 2)))]);
    let status = build(&simple(), &world, &PodStatus::default(), HOST, at(3));
    let shown = serde_json::to_value(&status).expect("json");
    let container = &shown["containerStatuses"][0];
    assert_eq!(container["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(
        container["state"]["waiting"]["message"],
        "back-off 10s restarting failed container=a pod=web_default(u)"
    );
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 2);
    assert_eq!(container["restartCount"], 1);
    assert_eq!(shown["phase"], "Running");
}

#[test]
fn a_first_crash_shows_as_ended_until_it_runs_again() {
    let status = build(
        &simple(),
        &observed(&[state(0, Some((137, 1)))]),
        &PodStatus::default(),
        HOST,
        at(1),
    );
    let shown = serde_json::to_value(&status).expect("json");
    assert_eq!(shown["containerStatuses"][0]["state"]["terminated"]["reason"], "Error");
    let again = build(
        &simple(),
        &observed(&[state(0, Some((137, 1))), state(1, None)]),
        &status,
        HOST,
        at(1),
    );
    let shown = serde_json::to_value(&again).expect("json");
    assert_eq!(
        shown["containerStatuses"][0]["lastState"]["terminated"]["exitCode"],
        137
    );
    assert_eq!(shown["containerStatuses"][0]["restartCount"], 1);
}

#[test]
fn a_failed_pull_is_an_error_first_and_a_back_off_soon() {
    let mut world = observed(&[]);
    let failure = Failure {
        reason: "ErrImagePull".to_owned(),
        message: "no".to_owned(),
        count: 1,
        failed_at: at(0),
        retry_at: at(10),
    };
    world.containers.get_mut("a").expect("a").image = Image::Failed(failure);
    let reason = |second: i64| {
        let status = build(&simple(), &world, &PodStatus::default(), HOST, at(second));
        assert!(!is_only_beginning(&status));
        serde_json::to_value(&status).expect("json")["containerStatuses"][0]["state"]["waiting"]["reason"].clone()
    };
    assert_eq!(reason(0), "ErrImagePull");
    assert_eq!(reason(5), "ImagePullBackOff");
}

#[test]
fn phases_follow_policy_and_exit_codes() {
    for (policy, code, phase) in [
        ("Never", 0, "Succeeded"),
        ("Never", 1, "Failed"),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 1, "Running"),
        ("Always", 0, "Running"),
    ] {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}));
        let status = build(
            &pod,
            &observed(&[state(0, Some((code, 1)))]),
            &PodStatus::default(),
            HOST,
            at(1),
        );
        assert_eq!(status.phase.as_deref(), Some(phase), "{policy} {code}");
    }
}

#[test]
fn a_containers_own_policy_decides_the_phase_where_it_has_one() {
    for (own, code, phase) in [
        ("Never", 1, "Failed"),
        ("Never", 0, "Succeeded"),
        ("Always", 1, "Running"),
    ] {
        let of_pod = if own == "Always" { "Never" } else { "Always" };
        let pod = pod(json!({"restartPolicy": of_pod, "containers": [{"name": "a", "restartPolicy": own}]}));
        let ended = observed(&[state(0, Some((code, 1)))]);
        let status = build(&pod, &ended, &PodStatus::default(), HOST, at(1));
        assert_eq!(status.phase.as_deref(), Some(phase), "{own} {code}");
    }
}

#[test]
fn a_container_to_debug_by_has_a_status_of_its_own_and_counts_for_nothing() {
    let pod = pod(json!({"containers": [{"name": "a"}], "ephemeralContainers": [{"name": "look", "image": "x"}]}));
    let observed = observed(&[state(0, None)]);
    let waiting = build(&pod, &observed, &PodStatus::default(), HOST, at(1));
    assert_eq!(waiting.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&waiting, "Ready").status, "True");
    let shown = serde_json::to_value(&waiting).expect("json");
    let ephemeral = &shown["ephemeralContainerStatuses"][0];
    assert_eq!(
        (&ephemeral["name"], &ephemeral["ready"]),
        (&json!("look"), &json!(false))
    );
    assert_eq!(ephemeral["state"]["waiting"]["reason"], "ContainerCreating");
    assert_eq!(ephemeral.get("started"), None);
}

#[test]
fn init_containers_keep_the_pod_pending_and_a_failure_may_end_it() {
    let pod = |policy: &str| {
        pod(json!({"restartPolicy": policy, "initContainers": [{"name": "a"}], "containers": [{"name": "m"}]}))
    };
    let running = build(
        &pod("Always"),
        &observed(&[state(0, None)]),
        &PodStatus::default(),
        HOST,
        at(1),
    );
    assert_eq!(running.phase.as_deref(), Some("Pending"));
    assert_eq!(
        condition(&running, "Initialized").message.as_deref(),
        Some("containers with incomplete status: [a]")
    );
    let shown = serde_json::to_value(&running).expect("json");
    assert_eq!(
        shown["containerStatuses"][0]["state"]["waiting"]["reason"],
        "PodInitializing"
    );
    let failed = build(
        &pod("Never"),
        &observed(&[state(0, Some((1, 1)))]),
        &PodStatus::default(),
        HOST,
        at(1),
    );
    assert_eq!(failed.phase.as_deref(), Some("Failed"));
}

#[test]
fn a_deleted_pod_stays_ready_while_its_containers_serve() {
    let mut pod = simple();
    pod.metadata.deletion_timestamp = Some(whole_seconds(at(1)));
    let mut observed = observed(&[state(0, None)]);
    let status = build(&pod, &observed, &PodStatus::default(), HOST, at(1));
    assert_eq!(condition(&status, "Ready").status, "True");
    assert_eq!(status.phase.as_deref(), Some("Running"));
    observed.containers.get_mut("a").expect("a").ready = false;
    let status = build(&pod, &observed, &status, HOST, at(2));
    assert_eq!(condition(&status, "Ready").status, "False");
}

#[test]
fn a_pod_has_not_failed_before_its_containers_have_stopped() {
    let before = PodStatus {
        phase: Some("Running".to_owned()),
        ..PodStatus::default()
    };
    let mut world = observed(&[state(0, None)]);
    world.failed = Some((EVICTED.to_owned(), "it used more than it may".to_owned()));
    let stopping = build(&simple(), &world, &before, HOST, at(1));
    assert_eq!((stopping.phase.as_deref(), &stopping.reason), (Some("Running"), &None));
    let told = condition(&stopping, "DisruptionTarget");
    assert_eq!(
        (told.status.as_str(), told.reason.as_deref()),
        ("True", Some("TerminationByKubelet"))
    );
    world.containers.get_mut("a").expect("a").take(state(0, Some((137, 2))));
    let ended = build(&simple(), &world, &stopping, HOST, at(2));
    assert_eq!(
        (ended.phase.as_deref(), ended.reason.as_deref()),
        (Some("Failed"), Some(EVICTED))
    );
    let told = ended
        .conditions
        .iter()
        .flatten()
        .filter(|condition| condition.type_ == "DisruptionTarget");
    assert_eq!(told.count(), 1);
}

#[test]
fn the_image_is_that_of_the_attempt_and_not_what_the_object_asks_for_now() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "app:2"}]}));
    let mut world = observed(&[state(0, None)]);
    world.containers.get_mut("a").expect("a").reference = Some("app:1".to_owned());
    let status = build(&pod, &world, &PodStatus::default(), HOST, at(1));
    assert_eq!(status.container_statuses.expect("statuses")[0].image, "app:1");
}

#[test]
fn readiness_gates_hold_a_pod_back() {
    let mut pod = pod(json!({"readinessGates": [{"conditionType": "lb"}], "containers": [{"name": "a"}]}));
    let world = observed(&[state(0, None)]);
    let status = build(&pod, &world, &PodStatus::default(), HOST, at(1));
    assert_eq!(condition(&status, "ContainersReady").status, "True");
    assert_eq!(
        condition(&status, "Ready").reason.as_deref(),
        Some("ReadinessGatesNotReady")
    );
    pod.status =
        Some(serde_json::from_value(json!({"conditions": [{"type": "lb", "status": "True"}]})).expect("a status"));
    let status = build(&pod, &world, &PodStatus::default(), HOST, at(1));
    assert_eq!(condition(&status, "Ready").status, "True");
}

#[test]
fn last_words_and_memory_kills_are_told() {
    let mut world = observed(&[state(0, Some((137, 1))), state(1, None)]);
    let container = world.containers.get_mut("a").expect("a");
    container.messages.insert(0, "goodbye".to_owned());
    if let Some(exit) = container.previous.as_mut().and_then(|previous| previous.exit.as_mut()) {
        exit.oom_killed = true;
    }
    let status = build(&simple(), &world, &PodStatus::default(), HOST, at(2));
    let shown = serde_json::to_value(&status).expect("json");
    let last = &shown["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(
        (&last["reason"], &last["message"]),
        (&json!("OOMKilled"), &json!("goodbye"))
    );
}
