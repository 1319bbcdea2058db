//! Start, stop, adoption, removal, two instances side by side.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::harness::{Guard, World, alive, http_get, is_ready, items, program, text, wait_for};

/// Everything on the host that carries an instance's name, so that nothing of it can be left behind unseen.
fn traces(world: &World) -> BTreeSet<String> {
    let id = world.id();
    let data_dir = world.data_dir().display().to_string();
    let mut found = BTreeSet::new();
    let mut lines = |what: &str, command: &[&str], needles: &[&str]| {
        let output = Command::new(command[0])
            .args(&command[1..])
            .output()
            .expect("installed by .ci/install");
        for line in text(&output.stdout)
            .lines()
            .filter(|line| needles.iter().any(|needle| line.contains(needle)))
        {
            found.insert(format!("{what}: {line}"));
        }
    };
    let link = format!("sp{id}");
    let range = world.announced["podRange"]
        .as_str()
        .unwrap()
        .split(".0/")
        .next()
        .unwrap()
        .to_string()
        + ".";
    let services = world.announced["serviceRange"].as_str().unwrap().to_string();
    lines("link", &["ip", "-o", "link"], &[&link]);
    lines("address", &["ip", "-o", "addr"], &[&range]);
    lines(
        "route",
        &["ip", "route", "show", "table", "all"],
        &[&range, &services, &link],
    );
    lines("neighbour", &["ip", "neigh", "show", "nud", "all"], &[&range]);
    lines("table", &["nft", "list", "tables"], &[&format!("setpoint_{id}")]);
    lines(
        "mount",
        &["cat", "/proc/mounts"],
        &[&data_dir, &format!("setpoint-{id}")],
    );
    lines(
        "cgroup",
        &[
            "find",
            "/sys/fs/cgroup",
            "-type",
            "d",
            "-name",
            &format!("setpoint-{id}"),
        ],
        &["/"],
    );
    lines(
        "process",
        &["ps", "-eo", "args"],
        &[&data_dir, &format!("setpoint-{id}")],
    );
    lines("run", &["find", "/run", "-maxdepth", "1"], &[&format!("setpoint-{id}")]);
    found
}

#[test]
fn up_announces_itself_and_keeps_its_secrets() {
    let world = World::start();
    assert_eq!(world.announced["ready"], true);
    let kubeconfig = world.data_dir().join("kubeconfig");
    assert_eq!(
        world.announced["kubeconfig"].as_str().unwrap(),
        kubeconfig.display().to_string()
    );
    for private in [
        kubeconfig,
        world.data_dir().join("store.db"),
        world.data_dir().join("instance.json"),
    ] {
        let mode = std::fs::metadata(&private).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", private.display());
    }
    assert!(world.kubectl(&["get", "nodes"]).contains("Ready"));
    // Nobody watches the log on a terminal here, so each of its lines is JSON.
    world.demo("web", 1);
    let log = world.log();
    assert!(
        log.lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "{log}"
    );
    // The API answers nobody without credentials.
    let url = format!("{}/api/v1/secrets", world.announced["api"].as_str().unwrap());
    let output = Command::new("curl")
        .args(["-sk", "-o", "/dev/null", "-w", "%{http_code}", &url])
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "401");
}

#[test]
fn a_second_up_on_the_same_folder_says_who_runs_there() {
    let world = World::start();
    let output = world.setpoint(&["up"]);
    assert!(!output.status.success());
    let error = text(&output.stderr);
    assert!(
        error.contains("already runs") && error.contains(&world.daemon_pid().to_string()),
        "{error}"
    );
}

#[test]
fn stopping_leaves_the_pods_and_the_next_up_adopts_them() {
    let mut world = World::start();
    world.demo("web", 3);
    let pods = world.ready_pods("app=web", 3);
    let pids: Vec<i32> = pods.iter().map(|pod| world.pid_of(pod)).collect();
    let url = format!("http://{}/", world.cluster_ip("web"));
    for signal in [Signal::SIGINT, Signal::SIGKILL, Signal::SIGTERM] {
        world.end_daemon(signal);
        assert!(pids.iter().all(|pid| alive(*pid)), "a container ended with the daemon");
        http_get(&url).expect("the service answers without the daemon");
        world.up();
        let after = world.until(&["pods", "-l", "app=web"], "three ready pods", |list| {
            items(list).len() == 3 && items(list).iter().all(is_ready)
        });
        for pod in &pods {
            let same = items(&after)
                .into_iter()
                .find(|p| p["metadata"]["uid"] == pod["metadata"]["uid"]);
            let same = same.expect("the pod is still there");
            assert_eq!(same["status"]["containerStatuses"][0]["restartCount"], 0);
            assert!(pids.contains(&world.pid_of(&same)), "the container was restarted");
        }
    }
}

#[test]
fn what_happens_while_the_daemon_is_dead_is_known_afterwards() {
    let mut world = World::start();
    world.demo("web", 1);
    let pod = world.ready_pods("app=web", 1).remove(0);
    let name = pod["metadata"]["name"].as_str().unwrap();
    let pid = world.pid_of(&pod);
    world.end_daemon(Signal::SIGKILL);
    let ip = pod["status"]["podIP"].as_str().unwrap();
    http_get(&format!("http://{ip}:8080/healthz")).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    wait_for("the container to end", || (!alive(pid)).then_some(()));
    world.up();
    let pod = world.until(&["pod", name], "running again", |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"] == 1 && is_ready(pod)
    });
    let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 137, "{last}");
    assert!(world.kubectl(&["logs", name, "--previous"]).contains("demo v1 listens"));
}

#[test]
fn ctrl_c_says_how_to_go_on_and_how_to_stop_the_pods() {
    let world = World::start();
    let folder = tempfile::tempdir().unwrap();
    // However this test ends, nothing of the second instance stays on the machine.
    let _guard = Guard::new(folder.path());
    let second = folder.path().join("data");
    let mut child = program()
        .args(["up", "--data-dir"])
        .arg(&second)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("Ctrl-C stops setpoint") {
        assert_ne!(
            stdout.read_line(&mut said).unwrap(),
            0,
            "it ended before it was ready: {said}"
        );
    }
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    wait_for("the end", || child.try_wait().unwrap());
    stdout.read_to_string(&mut said).unwrap();
    assert!(said.contains("is ready") && said.contains("KUBECONFIG="), "{said}");
    assert!(said.contains("has stopped") && said.contains("down"), "{said}");
    let down = program().args(["down", "--data-dir"]).arg(&second).output().unwrap();
    assert!(down.status.success(), "{}", text(&down.stderr));
    assert!(
        world.kubectl(&["get", "nodes"]).contains("Ready"),
        "the other instance is not touched"
    );
}

#[test]
fn down_amid_a_start_leaves_nothing_however_far_it_was() {
    let reached: [fn(&str) -> bool; 3] = [
        |_| true,
        |id| {
            let tables = Command::new("nft").args(["list", "tables"]).output().unwrap();
            text(&tables.stdout).contains(&format!("setpoint_{id}"))
        },
        |id| std::path::Path::new(&format!("/run/setpoint-{id}/api.sock")).exists(),
    ];
    for reached in reached {
        let folder = tempfile::tempdir().unwrap();
        let _guard = Guard::new(folder.path());
        let data_dir = folder.path().join("data");
        let command = |name: &str| {
            let mut command = program();
            command.args([name, "--data-dir"]).arg(&data_dir);
            command
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            command
        };
        let mut child = command("up").spawn().unwrap();
        let id = wait_for("an id", || {
            let instance = std::fs::read(data_dir.join("instance.json")).ok()?;
            let instance: serde_json::Value = serde_json::from_slice(&instance).ok()?;
            Some(instance["id"].as_str()?.to_string())
        });
        wait_for("the state", || reached(&id).then_some(()));
        let down = command("down").status().unwrap();
        assert!(down.success());
        wait_for("the end", || child.try_wait().unwrap());
        let tables = Command::new("nft").args(["list", "tables"]).output().unwrap();
        assert!(!text(&tables.stdout).contains(&format!("setpoint_{id}")));
        assert!(!std::path::Path::new(&format!("/run/setpoint-{id}")).exists());
    }
}

#[test]
fn a_test_that_is_killed_leaves_nothing_either() {
    let folder = tempfile::tempdir().unwrap();
    let guard = Guard::new(folder.path());
    let mut world_of_its_own = program();
    world_of_its_own
        .args(["up", "-o", "json", "--data-dir"])
        .arg(folder.path().join("data"));
    let mut child = world_of_its_own
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    let instance = std::fs::read(folder.path().join("data/instance.json")).unwrap();
    let instance: serde_json::Value = serde_json::from_slice(&instance).unwrap();
    let run = format!("/run/setpoint-{}", instance["id"].as_str().unwrap());
    assert!(std::path::Path::new(&run).exists());
    // As when the kernel closes what a killed process had open.
    drop(guard);
    child.wait().unwrap();
    assert!(!std::path::Path::new(&run).exists());
    assert!(!folder.path().exists());
}

#[test]
fn down_removes_everything_of_this_instance_and_nothing_of_another() {
    let mut one = World::start();
    let two = World::start();
    assert_ne!(one.announced["podRange"], two.announced["podRange"]);
    assert_ne!(one.announced["serviceRange"], two.announced["serviceRange"]);
    assert_ne!(one.announced["api"], two.announced["api"]);
    one.demo("web", 2);
    two.demo("web", 2);
    let (url_one, url_two) = (
        format!("http://{}/", one.cluster_ip("web")),
        format!("http://{}/", two.cluster_ip("web")),
    );
    http_get(&url_one).unwrap();
    http_get(&url_two).unwrap();
    assert!(traces(&one).len() > 5, "{:?}", traces(&one));
    let two_before = traces(&two);
    let pid = one.pid_of(&one.ready_pods("app=web", 2)[0]);
    one.end_daemon(Signal::SIGTERM);
    let down = one.setpoint(&["down"]);
    assert!(down.status.success(), "{}", text(&down.stderr));
    assert_eq!(traces(&one), BTreeSet::new());
    assert!(!alive(pid));
    assert_eq!(traces(&two), two_before, "the other instance lost something");
    http_get(&url_two).expect("the other instance still serves");
    // What was stored is kept: the next start brings the pods back.
    one.up();
    one.ready_pods("app=web", 2);
    http_get(&format!("http://{}/", one.cluster_ip("web"))).unwrap();
}
