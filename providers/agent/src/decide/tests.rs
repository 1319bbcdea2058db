use std::net::Ipv4Addr;

use serde_json::{Value, json};
use setpoint_runtime::spec::{ContainerState, Exit};

use super::*;
use crate::containers::ReadyImage;
use crate::observed::Kill;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).expect("a time")
}

fn pod(spec: Value) -> Pod {
    let meta = json!({"name": "web", "namespace": "default", "uid": "u"});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod")
}

fn deleted(mut pod: Pod, grace: i64) -> Pod {
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    pod.metadata.deletion_grace_period_seconds = Some(grace);
    pod
}

fn image() -> Image {
    Image::Ready(ReadyImage {
        id: "sha256:1".to_owned(),
        digest: String::new(),
        user: None,
        size: 0,
    })
}

fn state(name: &str, attempt: u32, exit: Option<(i32, i64)>) -> ContainerState {
    let exit = exit.map(|(code, second)| Exit {
        code,
        signal: None,
        oom_killed: false,
        finished_at: at(second),
    });
    ContainerState {
        mounted: Vec::new(),
        name: name.to_owned(),
        attempt,
        image: "sha256:1".to_owned(),
        pid: 1,
        started_at: at(0),
        exit,
    }
}

/// A world whose sandbox and volumes stand and whose containers have their images.
fn ready(names: &[&str]) -> Observed {
    let mut observed = Observed {
        sandbox: Sandbox::Ready {
            addresses: Some(Ipv4Addr::new(10, 42, 0, 2).into()),
        },
        volumes: Step::Done,
        started_at: Some(at(0)),
        ..Observed::default()
    };
    for name in names {
        observed.containers.insert(
            (*name).to_owned(),
            Container {
                image: image(),
                hook: Hook::Done,
                ..Container::default()
            },
        );
    }
    observed
}

fn with(observed: &mut Observed, state: ContainerState) {
    let container = observed.containers.entry(state.name.clone()).or_default();
    container.take(state);
    container.started = container.running();
    container.ready = container.running();
}

fn start(name: &str) -> Action {
    Action::StartContainer(name.to_owned())
}

fn stop(name: &str, seconds: u64) -> Action {
    Action::StopContainer {
        container: name.to_owned(),
        grace: Duration::from_secs(seconds),
        message: format!("Stopping container {name}"),
    }
}

#[test]
fn sandbox_volumes_and_image_are_begun_side_by_side() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let decision = decide(&pod, &Observed::default(), at(0));
    assert_eq!(
        decision.actions,
        [
            Action::CreateSandbox,
            Action::PrepareVolumes,
            Action::ResolveImage("a".to_owned())
        ]
    );
}

#[test]
fn a_pod_that_must_not_run_here_fails_before_anything_is_made() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let observed = Observed {
        rejected: Some(("SysctlForbidden".to_owned(), "Pod was rejected: x".to_owned())),
        ..Observed::default()
    };
    let expected = Action::Fail {
        reason: "SysctlForbidden".to_owned(),
        message: "Pod was rejected: x".to_owned(),
    };
    assert_eq!(decide(&pod, &observed, at(0)).actions, [expected]);
}

#[test]
fn nothing_is_begun_twice() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let mut observed = Observed {
        sandbox: Sandbox::Creating,
        volumes: Step::Doing,
        ..Observed::default()
    };
    observed.containers.insert(
        "a".to_owned(),
        Container {
            image: Image::Resolving,
            ..Container::default()
        },
    );
    assert_eq!(decide(&pod, &observed, at(0)), Decision::default());
}

#[test]
fn a_container_starts_once_everything_stands() {
    let pod = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    let mut observed = ready(&["a", "b"]);
    assert_eq!(decide(&pod, &observed, at(0)).actions, [start("a"), start("b")]);
    observed.volumes = Step::Doing;
    assert_eq!(decide(&pod, &observed, at(0)).actions, []);
}

#[test]
fn a_first_crash_restarts_at_once_and_a_second_waits_ten_seconds() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let mut observed = ready(&["a"]);
    with(&mut observed, state("a", 0, Some((137, 5))));
    assert_eq!(decide(&pod, &observed, at(5)).actions, [start("a")]);
    with(&mut observed, state("a", 1, None));
    assert_eq!(decide(&pod, &observed, at(5)).actions, []);
    with(&mut observed, state("a", 1, Some((1, 6))));
    assert_eq!(
        decide(&pod, &observed, at(6)),
        Decision {
            actions: vec![],
            wake: Some(at(16)),
            ..Decision::default()
        }
    );
    assert_eq!(decide(&pod, &observed, at(16)).actions, [start("a")]);
}

#[test]
fn a_long_run_makes_the_next_crash_a_first_one() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let mut observed = ready(&["a"]);
    with(&mut observed, state("a", 0, Some((1, 1))));
    with(&mut observed, state("a", 1, Some((1, 2))));
    with(&mut observed, state("a", 2, Some((1, 700))));
    assert_eq!(decide(&pod, &observed, at(700)).actions, [start("a")]);
}

#[test]
fn restart_policies_hold() {
    for (policy, code, again) in [
        ("Always", 0, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 0, false),
        ("Never", 1, false),
    ] {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}));
        let mut observed = ready(&["a"]);
        with(&mut observed, state("a", 0, Some((code, 1))));
        let expected = if again { start("a") } else { Action::CloseSandbox };
        assert_eq!(decide(&pod, &observed, at(1)).actions, [expected], "{policy} {code}");
    }
}

#[test]
fn a_containers_own_policy_and_rules_go_before_the_pods() {
    let rules = json!([
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}},
        {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0, 1, 42]}}
    ]);
    for (own, code, again) in [
        (json!({"restartPolicy": "Never"}), 1, false),
        (json!({"restartPolicy": "OnFailure"}), 0, false),
        (json!({"restartPolicy": "OnFailure"}), 7, true),
        (json!({"restartPolicy": "Never", "restartPolicyRules": rules}), 42, true),
        (json!({"restartPolicy": "Never", "restartPolicyRules": rules}), 7, true),
        (json!({"restartPolicy": "Never", "restartPolicyRules": rules}), 1, false),
        (json!({"restartPolicy": "Never", "restartPolicyRules": rules}), 0, false),
    ] {
        let mut container = json!({"name": "a"});
        let own_fields = own.as_object().expect("an object").clone();
        container.as_object_mut().expect("an object").extend(own_fields);
        let pod = pod(json!({"restartPolicy": "Always", "containers": [container]}));
        let mut observed = ready(&["a"]);
        with(&mut observed, state("a", 0, Some((code, 1))));
        let expected = if again { start("a") } else { Action::CloseSandbox };
        assert_eq!(decide(&pod, &observed, at(1)).actions, [expected], "{own} {code}");
    }
}

#[test]
fn a_container_to_debug_by_runs_once_beside_what_still_prepares_and_ends_with_the_pod() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}],
        "ephemeralContainers": [{"name": "look", "image": "x"}]});
    let pod = pod(spec);
    let mut observed = ready(&["i", "a", "look"]);
    assert_eq!(decide(&pod, &observed, at(0)).actions, [start("look"), start("i")]);
    with(&mut observed, state("look", 0, Some((1, 1))));
    with(&mut observed, state("i", 0, Some((0, 1))));
    assert_eq!(decide(&pod, &observed, at(1)).actions, [start("a")]);
    // One that runs keeps no pod from its end.
    let mut observed = ready(&["i", "a", "look"]);
    observed.initialized = true;
    with(&mut observed, state("look", 0, None));
    with(&mut observed, state("a", 0, Some((0, 2))));
    assert_eq!(decide(&pod, &observed, at(2)).actions, [stop("look", 30)]);
    let mut observed = ready(&["a", "look"]);
    observed.ending = Ending::Stopping;
    with(&mut observed, state("look", 0, None));
    with(&mut observed, state("a", 0, None));
    let ending = deleted(pod, 5);
    assert_eq!(
        decide(&ending, &observed, at(2)).actions,
        [stop("a", 5), stop("look", 5)]
    );
}

#[test]
fn init_containers_run_one_after_another_before_the_main_ones() {
    let pod = pod(json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]}));
    let mut observed = ready(&["i", "j", "a"]);
    assert_eq!(decide(&pod, &observed, at(0)).actions, [start("i")]);
    with(&mut observed, state("i", 0, None));
    assert_eq!(decide(&pod, &observed, at(0)).actions, []);
    with(&mut observed, state("i", 0, Some((0, 1))));
    assert_eq!(decide(&pod, &observed, at(1)).actions, [start("j")]);
    with(&mut observed, state("j", 0, Some((0, 2))));
    assert_eq!(decide(&pod, &observed, at(2)).actions, [start("a")]);
}

#[test]
fn a_failed_init_container_is_repeated_or_ends_the_pod_as_the_policy_says() {
    let spec = |policy: &str| {
        pod(json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}))
    };
    let mut observed = ready(&["i", "a"]);
    with(&mut observed, state("i", 0, Some((3, 1))));
    assert_eq!(decide(&spec("Always"), &observed, at(1)).actions, [start("i")]);
    assert_eq!(decide(&spec("Never"), &observed, at(1)).actions, [Action::CloseSandbox]);
}

#[test]
fn a_sidecar_must_have_started_and_stays_until_the_others_are_done() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}]});
    let pod = pod(spec);
    let mut observed = ready(&["s", "a"]);
    assert_eq!(decide(&pod, &observed, at(0)).actions, [start("s")]);
    with(&mut observed, state("s", 0, None));
    observed.containers.get_mut("s").expect("s").started = false;
    assert_eq!(decide(&pod, &observed, at(0)).actions, []);
    observed.containers.get_mut("s").expect("s").started = true;
    assert_eq!(decide(&pod, &observed, at(0)).actions, [start("a")]);
    with(&mut observed, state("a", 0, Some((0, 1))));
    assert_eq!(decide(&pod, &observed, at(1)).actions, [stop("s", 30)]);
}

#[test]
fn sidecars_share_what_is_left_of_the_grace_and_have_a_moment_at_least() {
    let sidecar = |name: &str| json!({"name": name, "restartPolicy": "Always"});
    let spec = json!({"initContainers": [sidecar("s"), sidecar("t")], "containers": [{"name": "a"}]});
    let pod = deleted(pod(spec), 30);
    let mut observed = ready(&["s", "t", "a"]);
    observed.ending = Ending::Stopping;
    for name in ["s", "t", "a"] {
        with(&mut observed, state(name, 0, None));
    }
    let first = decide(&pod, &observed, at(0));
    assert_eq!((first.actions, first.stops), (vec![stop("a", 30)], true));
    observed.stopping_since = Some(at(0));
    with(&mut observed, state("a", 0, Some((137, 20))));
    assert_eq!(decide(&pod, &observed, at(20)).actions, [stop("t", 10)]);
    with(&mut observed, state("t", 0, Some((137, 30))));
    assert_eq!(decide(&pod, &observed, at(30)).actions, [stop("s", 2)]);
    let mut evicted = observed.clone();
    evicted.ending = Ending::None;
    evicted.stopping_since = None;
    evicted.failed = Some((EVICTED.to_owned(), String::new()));
    with(&mut evicted, state("a", 1, None));
    let mut left_alone = pod.clone();
    left_alone.metadata.deletion_timestamp = None;
    assert_eq!(decide(&left_alone, &evicted, at(31)).actions, [stop("a", 1)]);
}

#[test]
fn another_image_is_fetched_and_then_takes_the_place_of_what_runs_whatever_the_policy() {
    let pod = |image: &str| pod(json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": image}]}));
    let mut observed = ready(&["a"]);
    with(&mut observed, state("a", 0, None));
    let change = |observed: &mut Observed, change: fn(&mut Container)| {
        change(observed.containers.get_mut("a").expect("a"));
    };
    change(&mut observed, |a| {
        a.reference = Some("app:1".to_owned());
        a.asked = a.reference.clone();
    });
    assert_eq!(decide(&pod("app:1"), &observed, at(0)).actions, []);
    let resolve = Action::ResolveImage("a".to_owned());
    assert_eq!(decide(&pod("app:2"), &observed, at(0)).actions, [resolve]);
    change(&mut observed, |a| a.asked = Some("app:2".to_owned()));
    let replace = Action::Replace {
        container: "a".to_owned(),
        grace: Duration::from_secs(30),
    };
    assert_eq!(decide(&pod("app:2"), &observed, at(0)).actions, [replace]);
    change(&mut observed, |a| a.replaced = true);
    with(&mut observed, state("a", 0, Some((143, 1))));
    assert_eq!(decide(&pod("app:2"), &observed, at(1)).actions, [start("a")]);
    // One that had ended by itself is not started for another image.
    change(&mut observed, |a| a.replaced = false);
    assert_eq!(decide(&pod("app:2"), &observed, at(1)).actions, [Action::CloseSandbox]);
}

#[test]
fn a_failed_image_waits_for_its_back_off() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let mut observed = ready(&["a"]);
    let failure = Failure {
        reason: "ErrImagePull".to_owned(),
        message: String::new(),
        count: 1,
        failed_at: at(0),
        retry_at: at(10),
    };
    observed.containers.get_mut("a").expect("a").image = Image::Failed(failure);
    assert_eq!(
        decide(&pod, &observed, at(0)),
        Decision {
            actions: vec![],
            wake: Some(at(2)),
            ..Decision::default()
        }
    );
    assert_eq!(decide(&pod, &observed, at(3)).wake, Some(at(10)));
    assert_eq!(
        decide(&pod, &observed, at(10)).actions,
        [Action::ResolveImage("a".to_owned())]
    );
}

#[test]
fn a_failed_liveness_probe_stops_the_container_with_the_probes_grace() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let mut observed = ready(&["a"]);
    with(&mut observed, state("a", 0, None));
    let kill = Kill {
        message: "Container a failed liveness probe, will be restarted".to_owned(),
        grace_seconds: Some(3),
    };
    observed.containers.get_mut("a").expect("a").kill = Some(kill.clone());
    let expected = Action::StopContainer {
        container: "a".to_owned(),
        grace: Duration::from_secs(3),
        message: kill.message,
    };
    assert_eq!(decide(&pod, &observed, at(1)).actions, [expected]);
}

#[test]
fn deletion_drains_stops_removes_and_finishes_in_this_order() {
    let pod = deleted(
        pod(
            json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}, {"name": "b"}]}),
        ),
        7,
    );
    let mut observed = ready(&["s", "a", "b"]);
    for name in ["s", "a", "b"] {
        with(&mut observed, state(name, 0, None));
    }
    assert_eq!(decide(&pod, &observed, at(0)).actions, [Action::Drain]);
    observed.ending = Ending::Draining;
    assert_eq!(decide(&pod, &observed, at(0)).actions, []);
    observed.ending = Ending::Stopping;
    assert_eq!(decide(&pod, &observed, at(0)).actions, [stop("a", 7), stop("b", 7)]);
    with(&mut observed, state("a", 0, Some((0, 1))));
    with(&mut observed, state("b", 0, Some((0, 1))));
    assert_eq!(decide(&pod, &observed, at(1)).actions, [stop("s", 7)]);
    with(&mut observed, state("s", 0, Some((0, 2))));
    assert_eq!(decide(&pod, &observed, at(2)).actions, [Action::Remove]);
    observed.ending = Ending::Removed;
    assert_eq!(decide(&pod, &observed, at(2)).actions, [Action::Finish]);
    observed.ending = Ending::Finished;
    assert_eq!(decide(&pod, &observed, at(2)).actions, []);
}

#[test]
fn a_shorter_grace_hastens_a_stop_that_is_under_way() {
    let pod = deleted(pod(json!({"containers": [{"name": "a"}]})), 0);
    let mut observed = ready(&["a"]);
    with(&mut observed, state("a", 0, None));
    observed.ending = Ending::Stopping;
    observed.containers.get_mut("a").expect("a").busy = Some(Busy::Stopping { by: at(30) });
    assert_eq!(decide(&pod, &observed, at(1)).actions, [stop("a", 0)]);
    observed.containers.get_mut("a").expect("a").busy = Some(Busy::Stopping { by: at(1) });
    assert_eq!(decide(&pod, &observed, at(1)).actions, []);
}

#[test]
fn a_pod_that_left_the_api_is_ended_quickly() {
    let pod = pod(json!({"terminationGracePeriodSeconds": 600, "containers": [{"name": "a"}]}));
    let mut observed = ready(&["a"]);
    with(&mut observed, state("a", 0, None));
    observed.gone = true;
    observed.ending = Ending::Stopping;
    assert_eq!(decide(&pod, &observed, at(0)).actions, [stop("a", 2)]);
}

#[test]
fn a_dead_sandbox_is_made_anew_and_its_containers_restart() {
    let pod = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}));
    let mut observed = ready(&["i", "a"]);
    with(&mut observed, state("i", 0, Some((0, 1))));
    with(&mut observed, state("a", 0, None));
    observed.lose_sandbox(at(9));
    assert_eq!(
        decide(&pod, &observed, at(9)).actions,
        [Action::CreateSandbox, start("i")][..1]
    );
    observed.sandbox = Sandbox::Ready { addresses: None };
    assert_eq!(decide(&pod, &observed, at(9)).actions, [start("i")]);
    with(&mut observed, state("i", 1, Some((0, 10))));
    assert_eq!(decide(&pod, &observed, at(10)).actions, [start("a")]);
}

#[test]
fn a_pod_whose_end_was_reported_is_not_run_again() {
    let mut pod = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}));
    pod.status = Some(serde_json::from_value(json!({"phase": "Succeeded"})).expect("a status"));
    let decision = decide(&pod, &Observed::default(), at(0));
    assert_eq!((decision.actions, decision.wake), (vec![], None));
}

#[test]
fn a_pod_over_its_deadline_fails_and_is_stopped() {
    let pod = pod(json!({"activeDeadlineSeconds": 5, "containers": [{"name": "a"}]}));
    let mut observed = ready(&["a"]);
    with(&mut observed, state("a", 0, None));
    assert_eq!(
        decide(&pod, &observed, at(1)),
        Decision {
            actions: vec![],
            wake: Some(at(5)),
            ..Decision::default()
        }
    );
    assert!(matches!(
        decide(&pod, &observed, at(5)).actions.as_slice(),
        [Action::Fail { .. }]
    ));
    observed.failed = Some(("DeadlineExceeded".to_owned(), String::new()));
    assert_eq!(decide(&pod, &observed, at(5)).actions, [stop("a", 30)]);
}
