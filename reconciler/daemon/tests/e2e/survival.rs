//! What pods live through: a daemon that is killed over and over, reboots, another release, and want.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{World, alive, is_ready, items, program, text, wait_for};
use crate::images::import_busybox;

/// A pod that counts its starts in `keep` of a folder of the host and in an emptyDir, and writes numbered lines until `stop` is there.
fn counting(world: &World, name: &str, policy: &str) -> String {
    let keep = world.folder().join(name);
    std::fs::create_dir_all(&keep).unwrap();
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, labels: {{ app: {name} }} }}
spec:
  restartPolicy: {policy}
  terminationGracePeriodSeconds: 1
  volumes: [{{ name: keep, hostPath: {{ path: {keep} }} }}, {{ name: own, emptyDir: {{}} }}]
  containers:
    - name: app
      image: test/busybox:1
      command: [sh, -c, 'echo start >> /keep/starts; echo start >> /own/starts; echo began $(wc -l < /own/starts); i=0; while [ ! -e /keep/stop ]; do i=$((i+1)); echo $i; sleep 0.05; done; echo last; exit 5']
      volumeMounts: [{{ name: keep, mountPath: /keep }}, {{ name: own, mountPath: /own }}]
"#,
        keep = keep.display()
    )
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Holds that a log has the first line, all numbers from 1 on in order, and perhaps `last`.
fn assert_whole(log: &str, first: &str) -> usize {
    let mut lines = log.lines();
    assert_eq!(lines.next(), Some(first), "{log}");
    let numbers: Vec<&str> = lines.filter(|line| *line != "last").collect();
    for (line, number) in numbers.iter().zip(1..) {
        assert_eq!(*line, number.to_string(), "a line is missing, or there twice");
    }
    numbers.len()
}

fn status(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

/// The processes that carry an instance's name in their cgroup.
fn processes(id: &str) -> Vec<i32> {
    let name = format!("/setpoint-{id}/");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let of_instance = |pid: &i32| {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups.contains(&name) && alive(*pid)
    };
    pids.filter(of_instance).collect()
}

fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    text(&output.stdout)
}

/// Ends everything of an instance at once, as the power does. What a kernel forgets with it is taken away only where that is wanted.
fn cut_the_power(world: &mut World, forget: bool) {
    let id = world.id();
    let (pods, services) = (
        world.announced["podRange"].as_str().unwrap().to_owned(),
        world.announced["serviceRange"].as_str().unwrap().to_owned(),
    );
    world.end_daemon(Signal::SIGKILL);
    wait_for("the end of every process", || {
        let left = processes(&id);
        left.iter()
            .for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap_or_default());
        left.is_empty().then_some(())
    });
    if !forget {
        return;
    }
    let data = world.data_dir().display().to_string();
    let gateway = pods.replace(".0/", ".1/").split('/').next().unwrap().to_owned();
    run(&format!(
        "umount {data}/volatile; rm -rf /run/setpoint-{id}; nft delete table ip setpoint_{id}
        for link in $(ip -o link | grep -o 'sp{id}[^:@ ]*'); do ip link delete $link; done
        ip route delete {services}; ip route delete unreachable {pods}; ip address delete {gateway}/32 dev lo
        find /sys/fs/cgroup -depth -type d -path '*/setpoint-{id}*' -exec rmdir {{}} ';'"
    ));
    assert_eq!(run(&format!("find /sys/fs/cgroup -type d -name 'setpoint-{id}'")), "");
}

fn survives_a_reboot(forget: bool) {
    let mut world = World::start();
    import_busybox(&world);
    world.apply(&counting(&world, "steady", "Always"));
    world.demo("web", 1);
    let before = world.until(&["pod", "steady"], "ready", is_ready);
    wait_for("some lines", || {
        (world.kubectl(&["logs", "steady"]).lines().count() > 5).then_some(())
    });
    let sandbox = world
        .data_dir()
        .join("sandboxes")
        .join(before["metadata"]["uid"].as_str().unwrap());
    let shim: Value = serde_json::from_slice(&std::fs::read(sandbox.join("state.json")).unwrap()).unwrap();
    cut_the_power(&mut world, forget);
    if !forget {
        // Somebody else has the shim's number by now.
        let record = std::fs::read_to_string(sandbox.join("state.json")).unwrap();
        let own = format!("\"pid\":{}", std::process::id());
        let record = record.replacen(&format!("\"pid\":{}", shim["pid"]), &own, 1);
        assert!(record.contains(&own));
        std::fs::write(sandbox.join("state.json"), record).unwrap();
    }
    world.up();
    let after = world.until(&["pod", "steady"], "running again", |pod| {
        is_ready(pod) && status(pod)["restartCount"] == 1
    });
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(status(&after)["lastState"]["terminated"]["exitCode"], 137, "{after}");
    wait_for("the first line", || {
        (!world.kubectl(&["logs", "steady"]).is_empty()).then_some(())
    });
    // What an emptyDir on the disk held is still there.
    assert_whole(&world.kubectl(&["logs", "steady"]), "began 2");
    assert!(assert_whole(&world.kubectl(&["logs", "steady", "--previous"]), "began 1") > 4);
    assert_eq!(lines(&world.folder().join("steady/starts")).len(), 2);
    let web = world.ready_pods("app=web", 1);
    assert_eq!(status(&web[0])["restartCount"], 1);
    crate::harness::http_get(&format!("http://{}/", world.cluster_ip("web"))).unwrap();
    nothing_is_left_of_deleted_pods(&world);
}

/// Deletes every pod and holds that nothing of them stays.
fn nothing_is_left_of_deleted_pods(world: &World) {
    world.kubectl(&["delete", "deployments,jobs,pods", "--all", "--wait=true"]);
    let id = world.id();
    wait_for("nothing to be left of the pods", || {
        let mut left = processes(&id).len();
        for folder in ["sandboxes", "pods", "volatile"] {
            left += std::fs::read_dir(world.data_dir().join(folder)).unwrap().count();
        }
        left += run(&format!("ip -o link | grep 'sp{id}'")).lines().count();
        left += run(&format!(
            "find /sys/fs/cgroup -path '*/setpoint-{id}/*' -type d -not -name _shims"
        ))
        .lines()
        .count();
        (left == 0).then_some(())
    });
}

#[test]
fn pods_start_again_after_a_reboot() {
    survives_a_reboot(true);
}

#[test]
fn pods_start_again_where_everything_stale_is_left() {
    survives_a_reboot(false);
}

/// A generator of its own, so that a seed repeats a run (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// `SETPOINT_TEST_KILLS` says how often (15 unless told), `SETPOINT_TEST_SEED` repeats a run.
#[test]
fn a_daemon_that_is_killed_at_random_instants_restarts_nothing_and_loses_nothing() {
    let kills = number("SETPOINT_TEST_KILLS").unwrap_or(15);
    let seed = number("SETPOINT_TEST_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("SETPOINT_TEST_SEED={seed} SETPOINT_TEST_KILLS={kills}");
    let mut dice = Dice(seed);
    let mut world = World::start();
    import_busybox(&world);
    let names = ["steady-0", "steady-1"];
    for name in names {
        world.apply(&counting(&world, name, "Never"));
    }
    // Most of them come and go amid the kills; the rest has to be done in time.
    let completions = 10 + kills / 2;
    let keep = world.folder().join("jobs");
    std::fs::create_dir_all(&keep).unwrap();
    let volumes = format!("volumes: [{{ name: keep, hostPath: {{ path: {} }} }}]", keep.display());
    let mounts = "volumeMounts: [{ name: keep, mountPath: /keep }]";
    world.apply(&format!(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {{ name: batch }}
spec:
  completions: {completions}
  parallelism: 2
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      {volumes}
      containers: [{{ name: app, image: "test/busybox:1", command: [sh, -c, 'echo $HOSTNAME >> /keep/starts; sleep 0.3'], {mounts} }}]
---
apiVersion: v1
kind: Pod
metadata: {{ name: crash }}
spec:
  {volumes}
  containers: [{{ name: app, image: "test/busybox:1", command: [sh, -c, 'echo start >> /keep/crashes; sleep 0.2; exit 3'], {mounts} }}]
"#
    ));
    for name in names {
        world.until(&["pod", name], "ready", is_ready);
    }
    world.end_daemon(Signal::SIGKILL);
    let began = Instant::now();
    world.up();
    let start = began.elapsed();
    world.end_daemon(Signal::SIGKILL);
    for _ in 0..kills {
        let mut daemon = world.up_command(program()).stdout(Stdio::null()).spawn().unwrap();
        let after = Duration::from_millis(dice.below(2 * start.as_millis() as u64 + 500));
        std::thread::park_timeout(after);
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }
    world.up();
    for name in names {
        std::fs::write(world.folder().join(name).join("stop"), "").unwrap();
        let pod = world.until(&["pod", name], "done", |pod| pod["status"]["phase"] == "Failed");
        assert_eq!(status(&pod)["restartCount"], 0);
        assert_eq!(status(&pod)["state"]["terminated"]["exitCode"], 5, "{pod}");
        assert_eq!(
            lines(&world.folder().join(name).join("starts")).len(),
            1,
            "{name} was started again"
        );
        let log = world.kubectl(&["logs", name]);
        assert!(log.ends_with("last\n"), "{log}");
        println!("{name}: {} lines", assert_whole(&log, "began 1"));
    }
    let job = world.until(&["job", "batch"], "complete", |job| {
        job["status"]["succeeded"] == completions || job["status"]["failed"].as_u64() > Some(0)
    });
    assert!(job["status"]["failed"].is_null(), "{job}");
    let mut starts: BTreeMap<String, u32> = BTreeMap::new();
    for line in lines(&keep.join("starts")) {
        *starts.entry(line).or_default() += 1;
    }
    assert!(starts.values().all(|count| *count == 1), "{starts:?}");
    assert_eq!(starts.len() as u64, completions);
    // As many starts as are told of, the last one perhaps just now.
    world.until(&["pod", "crash"], "counted", |pod| {
        let counted = status(pod)["restartCount"].as_u64().unwrap_or(0) + 1;
        let started = lines(&keep.join("crashes")).len() as u64;
        counted == started && status(pod)["lastState"]["terminated"]["exitCode"] == 3
    });
    nothing_is_left_of_deleted_pods(&world);
}

/// The release before this one, as `.ci/previous` has built it.
fn previous() -> Option<PathBuf> {
    let found = std::env::var_os("SETPOINT_TEST_PREVIOUS").map(PathBuf::from);
    if found.is_none() {
        eprintln!("SKIPPED: SETPOINT_TEST_PREVIOUS names no previous release; .ci/install builds it");
    }
    found
}

#[test]
fn another_release_takes_over_what_runs_and_gives_it_back() {
    let Some(previous) = previous() else { return };
    let mut world = World::prepare();
    let old = |world: &World| world.up_command(Command::new(&previous));
    let command = old(&world);
    world.up_by(command);
    import_busybox(&world);
    for (name, policy) in [("always", "Always"), ("never", "Never")] {
        world.apply(&counting(&world, name, policy));
        world.until(&["pod", name], "ready", is_ready);
    }
    let pids = |world: &World| -> Vec<i32> {
        let pods = ["always", "never"].map(|name| world.get(&["pod", name]).unwrap());
        pods.iter().map(|pod| world.pid_of(pod)).collect()
    };
    let before = pids(&world);
    // Up, down again, and up: each finds what the other one's shims hold.
    for forth in [true, false, true] {
        world.end_daemon(Signal::SIGKILL);
        let command = if forth {
            world.up_command(program())
        } else {
            old(&world)
        };
        world.up_by(command);
        for name in ["always", "never"] {
            let pod = world.until(&["pod", name], "ready", is_ready);
            assert_eq!(status(&pod)["restartCount"], 0, "{name}");
            assert_eq!(world.kubectl(&["exec", name, "--", "echo", "inside"]), "inside\n");
            assert_whole(&world.kubectl(&["logs", name]), "began 1");
        }
        assert_eq!(pids(&world), before, "something was restarted");
    }
    // What ends under the new one is recorded as it was, though the shim is the old one's; and what starts, is started by it.
    for name in ["always", "never"] {
        std::fs::write(world.folder().join(name).join("stop"), "").unwrap();
    }
    let ended = world.until(&["pod", "never"], "done", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(status(&ended)["state"]["terminated"]["exitCode"], 5);
    let again = world.until(&["pod", "always"], "restarted", |pod| {
        status(pod)["restartCount"].as_u64() > Some(0)
    });
    assert_eq!(status(&again)["lastState"]["terminated"]["exitCode"], 5);
    assert!(world.kubectl(&["logs", "never"]).ends_with("last\n"));
    nothing_is_left_of_deleted_pods(&world);
}

/// A data directory on a file system of its own.
struct Small {
    path: PathBuf,
}

impl Small {
    fn mount(path: &Path) -> Small {
        std::fs::create_dir_all(path).unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256m", "tmpfs"])
            .arg(path)
            .status();
        assert!(status.unwrap().success());
        Small { path: path.to_owned() }
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let filler = self.path.join("filler");
        run(&format!("cat /dev/zero > {}", filler.display()));
        filler
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.path).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.path.display());
        }
    }
}

#[test]
fn a_full_disk_is_named_and_nothing_is_lost_when_there_is_room_again() {
    let mut world = World::prepare();
    let small = Small::mount(&world.data_dir());
    world.up();
    import_busybox(&world);
    world.apply(&counting(&world, "steady", "Never"));
    let before = world.until(&["pod", "steady"], "ready", is_ready);
    let pid = world.pid_of(&before);
    let filler = small.fill();
    let mut refused = String::new();
    wait_for("a write to be refused", || {
        let output = world.kubectl_output(&[
            "create",
            "configmap",
            &format!("some-{}", refused.len()),
            "--from-literal=a=b",
        ]);
        refused.push_str(&text(&output.stderr));
        (!output.status.success()).then_some(())
    });
    println!("{refused}");
    assert!(
        refused.contains("disk") || refused.contains("No space left"),
        "{refused}"
    );
    assert!(alive(pid));
    std::fs::remove_file(filler).unwrap();
    wait_for("writes to be taken again", || {
        let output = world.kubectl_output(&["create", "configmap", "again", "--from-literal=a=b"]);
        (output.status.success() || text(&output.stderr).contains("already exists")).then_some(())
    });
    world.apply(&counting(&world, "later", "Never"));
    world.until(&["pod", "later"], "ready", is_ready);
    let after = world.until(&["pod", "steady"], "still ready", is_ready);
    assert_eq!(world.pid_of(&after), pid);
    assert_eq!(status(&after)["restartCount"], 0);
    assert_eq!(items(&world.get(&["pods"]).unwrap()).len(), 2);
    nothing_is_left_of_deleted_pods(&world);
    let down = world.setpoint(&["down"]);
    assert!(down.status.success(), "{}", text(&down.stderr));
}
