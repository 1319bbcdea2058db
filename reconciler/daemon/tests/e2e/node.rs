//! The node itself: how it is configured, what it reports, and what it runs by a folder of its own.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{World, alive, is_ready, text, wait_for};
use crate::images::import_busybox;

fn node(world: &World) -> Value {
    world.get(&["nodes"]).unwrap()["items"][0].clone()
}

fn name(node: &Value) -> String {
    node["metadata"]["name"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_reserved_is_taken_off_what_pods_get() {
    let mut world = World::prepare();
    std::fs::create_dir(world.data_dir()).unwrap();
    let file = world.data_dir().join("node.toml");
    std::fs::write(
        &file,
        "[reserved]\ncpu = \"300m\"\nmemory = \"1Gi\"\n\n[pods]\nmax = 7\n",
    )
    .unwrap();
    world.up();
    let status = node(&world)["status"].clone();
    let number = |value: &Value, unit: &str| {
        value
            .as_str()
            .unwrap()
            .strip_suffix(unit)
            .unwrap()
            .parse::<i64>()
            .unwrap()
    };
    let (capacity, allocatable) = (&status["capacity"], &status["allocatable"]);
    let cores: i64 = capacity["cpu"].as_str().unwrap().parse().unwrap();
    assert_eq!(allocatable["cpu"], format!("{}m", cores * 1000 - 300));
    assert_eq!(
        number(&capacity["memory"], "Ki") - number(&allocatable["memory"], "Ki"),
        1 << 20
    );
    assert_eq!((&capacity["pods"], &allocatable["pods"]), (&"7".into(), &"7".into()));

    world.end_daemon(Signal::SIGTERM);
    std::fs::write(&file, "[reserved]\nmemroy = \"1Gi\"\n").unwrap();
    let refused = world.setpoint(&["up"]);
    let said = text(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    for part in ["node.toml", "line 2", "memroy"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

const STATIC: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: proxy, labels: { app: proxy } }
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - { name: app, image: "test/busybox:1", imagePullPolicy: Never, command: [sh, -c, "echo begun; exec sleep 1000"] }
"#;

#[test]
fn a_static_pod_runs_by_its_file_whatever_the_api_is_told() {
    let mut world = World::start();
    import_busybox(&world);
    let pod = format!("proxy-{}", name(&node(&world)).to_lowercase());
    let file = world.data_dir().join("static-pods/proxy.yaml");
    let ready = |world: &World| world.until(&["pod", &pod], "the static pod to be ready", is_ready);
    std::fs::write(&file, STATIC).unwrap();
    let first = ready(&world);
    let process = world.pid_of(&first);
    assert_eq!(first["metadata"]["ownerReferences"][0]["kind"], "Node");
    assert!(world.kubectl(&["logs", &pod]).contains("begun"));
    assert!(world.kubectl(&["exec", &pod, "--", "hostname"]).contains("proxy"));

    // Its mirror is deleted: it is written again, and the process runs on.
    world.kubectl(&["delete", "pod", &pod, "--wait=false"]);
    let second = world.until(&["pod", &pod], "the mirror to be there again", |mirror| {
        mirror["metadata"]["uid"] != first["metadata"]["uid"] && is_ready(mirror)
    });
    assert_eq!(world.pid_of(&second), process);
    assert_eq!(second["status"]["containerStatuses"][0]["restartCount"], 0);

    // So does it over a restart of the daemon, even if the mirror went meanwhile.
    world.end_daemon(Signal::SIGKILL);
    world.up();
    let third = ready(&world);
    assert_eq!(world.pid_of(&third), process);

    // The file changes: another pod takes its place.
    std::fs::write(&file, STATIC.replace("begun", "changed")).unwrap();
    let fourth = world.until(&["pod", &pod], "the changed pod", |mirror| {
        mirror["metadata"]["uid"] != third["metadata"]["uid"] && is_ready(mirror)
    });
    assert!(!alive(process));
    assert!(world.kubectl(&["logs", &pod]).contains("changed"));

    // A file that makes no sense stops nothing, and is complained of by its name.
    std::fs::write(world.data_dir().join("static-pods/broken.yaml"), "kind: {").unwrap();
    wait_for("the complaint", || world.log().contains("broken.yaml").then_some(()));

    // The file goes, and everything with it.
    let process = world.pid_of(&fourth);
    std::fs::remove_file(&file).unwrap();
    wait_for("the static pod to be gone", || {
        (world.get(&["pod", &pod]).is_none() && !alive(process)).then_some(())
    });
}

#[test]
fn scrapers_of_cadvisor_find_what_containers_use() {
    let world = World::start();
    world.demo("web", 1);
    let pod = world.ready_pods("app=web", 1)[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/api/v1/nodes/{}/proxy/metrics/cadvisor", name(&node(&world)));
    let page = world.kubectl(&["get", "--raw", &path]);
    for figure in [
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "container_memory_rss",
        "container_start_time_seconds",
        "container_network_receive_bytes_total",
        "container_threads",
    ] {
        let container = if figure.contains("network") { "POD" } else { "app" };
        let found = page.lines().find(|line| {
            line.starts_with(&format!("{figure}{{"))
                && line.contains(&format!("pod=\"{pod}\""))
                && line.contains(&format!("container=\"{container}\""))
        });
        let value: f64 = found
            .unwrap_or_else(|| panic!("{figure} in {page}"))
            .rsplit_once(' ')
            .unwrap()
            .1
            .parse()
            .unwrap();
        assert!(value > 0.0, "{figure}: {value}");
    }
}

#[test]
fn a_node_tells_which_images_it_has() {
    let world = World::start();
    import_busybox(&world);
    let name = name(&node(&world));
    world.until(&["node", &name], "the image to be told", |node| {
        let images = node["status"]["images"].as_array().cloned().unwrap_or_default();
        images.iter().any(|image| {
            let names = image["names"].as_array().unwrap();
            names.contains(&"docker.io/test/busybox:1".into()) && image["sizeBytes"].as_u64() > Some(0)
        })
    });
}
