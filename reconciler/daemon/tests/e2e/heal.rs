//! What breaks is mended.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{World, alive, is_ready, items};

#[test]
fn a_killed_container_runs_again_in_the_same_pod() {
    let world = World::start();
    world.demo("web", 1);
    let pod = world.ready_pods("app=web", 1).remove(0);
    let name = pod["metadata"]["name"].as_str().unwrap();
    let pid = world.pid_of(&pod);
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let after = world.until(&["pod", name], "running again", |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"] == 1 && is_ready(pod)
    });
    assert_eq!(after["metadata"]["uid"], pod["metadata"]["uid"]);
    assert_eq!(after["status"]["podIP"], pod["status"]["podIP"]);
    assert_ne!(world.pid_of(&after), pid);
    let last = &after["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 137, "{last}");
}

#[test]
fn a_deleted_pod_is_replaced() {
    let world = World::start();
    world.demo("web", 2);
    let before = world.ready_pods("app=web", 2);
    let name = before[0]["metadata"]["name"].as_str().unwrap();
    world.kubectl(&["delete", "pod", name]);
    let after = world.ready_pods("app=web", 2);
    assert!(
        after
            .iter()
            .all(|pod| pod["metadata"]["name"] != before[0]["metadata"]["name"])
    );
    world.kubectl(&["delete", "pod", "--all", "--grace-period=0", "--force"]);
    let last = world.ready_pods("app=web", 2);
    assert!(
        last.iter()
            .all(|pod| after.iter().all(|old| old["metadata"]["uid"] != pod["metadata"]["uid"]))
    );
}

#[test]
fn a_killed_shim_is_cleaned_up_and_its_pod_runs_again() {
    let world = World::start();
    world.demo("web", 1);
    let pod = world.ready_pods("app=web", 1).remove(0);
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let state = std::fs::read(world.data_dir().join("sandboxes").join(uid).join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    let shim = i32::try_from(state["pid"].as_i64().unwrap()).unwrap();
    let pid = world.pid_of(&pod);
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    world.until(&["pods", "-l", "app=web"], "ready again", |list| {
        items(list).iter().any(|p| {
            is_ready(p) && (p["metadata"]["uid"] != uid || p["status"]["containerStatuses"][0]["restartCount"] != 0)
        })
    });
    assert!(!alive(pid), "the container outlived its shim");
}

#[test]
fn a_crashing_container_is_restarted_with_back_off_and_says_why() {
    let world = World::start();
    world.kubectl(&["create", "deployment", "bad", "--image=setpoint.dev/demo:crash"]);
    let list = world.until(&["pods", "-l", "app=bad"], "backing off", |list| {
        items(list).iter().any(|pod| {
            let status = &pod["status"]["containerStatuses"][0];
            status["state"]["waiting"]["reason"] == "CrashLoopBackOff" && status["restartCount"].as_i64() >= Some(1)
        })
    });
    let pod = &items(&list)[0];
    let name = pod["metadata"]["name"].as_str().unwrap();
    assert_eq!(
        pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"],
        1
    );
    assert!(
        world
            .kubectl(&["logs", name, "--previous"])
            .contains("cannot reach the database")
    );
    assert!(world.kubectl(&["get", "pods"]).contains("CrashLoopBackOff"));
    assert!(world.kubectl(&["events"]).contains("BackOff"));
}

#[test]
fn an_image_that_does_not_exist_is_a_named_reason() {
    let world = World::start();
    world.kubectl(&["create", "deployment", "bad", "--image=setpoint.dev/nosuch:v9"]);
    world.until(&["pods", "-l", "app=bad"], "failing to pull", |list| {
        items(list).iter().any(|pod| {
            let reason = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
            reason == "ErrImagePull" || reason == "ImagePullBackOff"
        })
    });
}

#[test]
fn a_failing_liveness_probe_restarts_the_container() {
    let world = World::start();
    world.apply(
        "
apiVersion: v1
kind: Pod
metadata: { name: sick }
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: app
      image: setpoint.dev/demo:v1
      livenessProbe: { httpGet: { path: /nosuch, port: 8080 }, periodSeconds: 1, failureThreshold: 1 }
",
    );
    world.until(&["pod", "sick"], "restarted", |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"].as_i64() >= Some(1)
    });
    let events = world.kubectl(&["events"]);
    assert!(
        events.contains("Unhealthy") && events.contains("statuscode: 404"),
        "{events}"
    );
}

#[test]
fn a_pod_that_is_never_ready_gets_no_traffic_and_stops_the_update() {
    let world = World::start();
    world.demo("web", 2);
    world.kubectl(&[
        "patch", "deployment", "web", "-p",
        r#"{"spec":{"progressDeadlineSeconds":3,"template":{"spec":{"containers":[{"name":"app","image":"setpoint.dev/demo:v2","readinessProbe":{"httpGet":{"path":"/nosuch"}}}]}}}}"#,
    ]);
    world.until(&["deployment", "web"], "past its progress deadline", |deployment| {
        let conditions = deployment["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        conditions.iter().any(|c| c["reason"] == "ProgressDeadlineExceeded")
    });
    let page = crate::harness::http_get(&format!("http://{}/", world.cluster_ip("web"))).unwrap();
    assert!(page.contains("version: v1"), "{page}");
    assert!(
        world
            .kubectl_fails(&["rollout", "status", "deployment/web"])
            .contains("exceeded its progress deadline")
    );
}
