//! What pods live through: a daemon that is killed over and over, reboots, another release, and want.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{DEADLINE, World, alive, is_ready, items, kubectl_path, program, text, wait_for};
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
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let own = format!("{}/", world.data_dir().display());
        let volatile = format!("{own}volatile ");
        left += mounts
            .lines()
            .filter(|line| line.contains(&own) && !line.contains(&volatile))
            .count();
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

/// Somebody who makes pods, looks at how they ended, and deletes them, some of them at once, while the daemon comes and goes.
struct Churn {
    stop: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<u32>,
}

impl Churn {
    fn start(world: &World, name: &'static str, keep: &Path, seed: u64) -> Churn {
        let (stop, stopped) = mpsc::channel();
        let client = Client {
            kubeconfig: world.data_dir().join("kubeconfig"),
            home: world.folder().to_owned(),
        };
        let keep = keep.to_owned();
        let thread = std::thread::spawn(move || churn(&client, name, &keep, Dice(seed), &stopped));
        Churn { stop, thread }
    }

    /// Lets it come to its end; returns how many pods it made.
    fn finish(self) -> u32 {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}

/// As [`wait_for`], of something that the daemon is killed over: it gets on between two kills, or after the last one.
fn patiently<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < 10 * DEADLINE, "waited too long for {what}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// kubectl on an instance that is there only now and then.
struct Client {
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Client {
    fn try_once(&self, args: &[&str], input: &str) -> Result<String, String> {
        let mut child = Command::new(kubectl_path())
            .args(args)
            .args(["--request-timeout", "10s"])
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", self.home.join("kubecache"))
            .env("HOME", &self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that does not even get so far as to read it has failed.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    /// Tries until it succeeds, or what it wanted is so already.
    fn run(&self, args: &[&str], input: &str, already: &str) -> Option<String> {
        patiently(&args.join(" "), || match self.try_once(args, input) {
            Ok(output) => Some(Some(output)),
            Err(error) if error.contains(already) => Some(None),
            Err(_) => None,
        })
    }
}

fn churn(client: &Client, own: &str, keep: &Path, mut dice: Dice, stopped: &mpsc::Receiver<()>) -> u32 {
    let mut number = 0;
    while stopped.try_recv().is_err() {
        let (name, code) = (format!("{own}-{number}"), number % 90 + 10);
        number += 1;
        let pod = format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{ name: {name} }}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes: [{{ name: keep, hostPath: {{ path: {} }} }}]
  containers: [{{ name: app, image: "test/busybox:1", command: [sh, -c, 'echo {name} >> /keep/churn; echo {name}; seq 40; exit {code}'], volumeMounts: [{{ name: keep, mountPath: /keep }}] }}]
"#,
            keep.display()
        );
        client.run(&["create", "-f", "-"], &pod, "AlreadyExists");
        if dice.below(3) > 0 {
            let status = patiently("the pod's end", || {
                let pod = client.try_once(&["get", "pod", &name, "-o", "json"], "").ok()?;
                let pod: Value = serde_json::from_str(&pod).unwrap();
                (pod["status"]["phase"] == "Failed").then(|| status(&pod).clone())
            });
            assert_eq!(status["restartCount"], 0, "{name}: {status}");
            assert_eq!(status["state"]["terminated"]["exitCode"], code, "{name}: {status}");
            let log = client.run(&["logs", &name], "", "no error is expected").unwrap();
            assert_eq!(assert_whole(&log, &name), 40, "{name}");
        }
        client.run(&["delete", "pod", &name, "--wait=false"], "", "NotFound");
        let starts = lines(&keep.join("churn"));
        assert!(
            starts.iter().filter(|start| **start == name).count() < 2,
            "{name} was started again"
        );
    }
    number
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
    world.demo("web", 2);
    let web = |world: &World| -> Vec<(String, i32)> {
        let pods = world.ready_pods("app=web", 2);
        let identity = |pod: &Value| (pod["metadata"]["uid"].as_str().unwrap().to_owned(), world.pid_of(pod));
        pods.iter().map(identity).collect()
    };
    let web_before = web(&world);
    let keep = world.folder().join("keep");
    std::fs::create_dir_all(&keep).unwrap();
    let volumes = format!("volumes: [{{ name: keep, hostPath: {{ path: {} }} }}]", keep.display());
    let mounts = "volumeMounts: [{ name: keep, mountPath: /keep }]";
    world.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: crash }}
spec:
  {volumes}
  containers: [{{ name: app, image: "test/busybox:1", command: [sh, -c, 'echo start >> /keep/crashes; echo began $(wc -l < /keep/crashes); seq 50; sleep 0.2; exit 3'], {mounts} }}]
---
apiVersion: v1
kind: Pod
metadata: {{ name: thrice }}
spec:
  restartPolicy: OnFailure
  {volumes}
  containers: [{{ name: app, image: "test/busybox:1", command: [sh, -c, 'echo start >> /keep/thrice; seq 20; [ $(wc -l < /keep/thrice) = 3 ] || exit 4'], {mounts} }}]
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
    let churns = ["left", "right"].map(|name| Churn::start(&world, name, &keep, dice.below(u64::MAX)));
    for _ in 0..kills {
        let mut daemon = world.up_command(program()).stdout(Stdio::null()).spawn().unwrap();
        // Mostly amid its start; now and then it gets some work done.
        let longer = if dice.below(4) == 0 { dice.below(4000) } else { 0 };
        let after = dice.below(2 * start.as_millis() as u64 + 500) + longer;
        std::thread::park_timeout(Duration::from_millis(after));
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }
    world.up();
    let came_and_went: u32 = churns.map(Churn::finish).iter().sum();
    println!("{came_and_went} pods came and went");
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
    assert_eq!(web(&world), web_before, "a replica was started again");
    // As many starts as are told of, the last one perhaps just now.
    let crash = world.until(&["pod", "crash"], "counted", |pod| {
        let counted = status(pod)["restartCount"].as_u64().unwrap_or(0) + 1;
        let started = lines(&keep.join("crashes")).len() as u64;
        counted == started && status(pod)["lastState"]["terminated"]["exitCode"] == 3
    });
    println!("{} crashes", status(&crash)["restartCount"]);
    wait_for("the log of the last crash", || {
        let log = world.kubectl(&["logs", "crash", "--previous"]);
        let attempt: usize = log.lines().next()?.strip_prefix("began ")?.parse().ok()?;
        assert_eq!(assert_whole(&log, &format!("began {attempt}")), 50);
        // While it runs that is the one before.
        (attempt + 1 >= lines(&keep.join("crashes")).len()).then_some(())
    });
    let thrice = world.until(&["pod", "thrice"], "done", |pod| pod["status"]["phase"] == "Succeeded");
    assert_eq!(status(&thrice)["restartCount"], 2, "{thrice}");
    assert_eq!(status(&thrice)["state"]["terminated"]["exitCode"], 0);
    assert_eq!(lines(&keep.join("thrice")).len(), 3);
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

#[test]
fn a_container_that_needs_more_than_the_release_before_can_gets_a_sandbox_of_this_one() {
    let Some(previous) = previous() else { return };
    let mut world = World::prepare();
    let command = world.up_command(Command::new(&previous));
    world.up_by(command);
    import_busybox(&world);
    // Writable parts of volumes are mounted in another way by now.
    world.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: sub }
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{ name: own, emptyDir: {} }]
  containers:
    - name: app
      image: test/busybox:1
      command: [sh, -c, 'echo start >> /own/starts; echo began $(wc -l < /own/starts); while [ ! -e /tmp/stop ]; do sleep 0.05; done; exit 5']
      volumeMounts: [{ name: own, mountPath: /own, subPath: deep }]
    - name: beside
      image: test/busybox:1
      command: [sh, -c, 'trap "exit 0" TERM; echo beside; while :; do sleep 0.05; done']
"#,
    );
    world.until(&["pod", "sub"], "ready", is_ready);
    world.end_daemon(Signal::SIGKILL);
    world.up();
    let before = world.until(&["pod", "sub"], "ready", is_ready);
    assert_eq!(status(&before)["restartCount"], 0);
    world.kubectl(&["exec", "sub", "-c", "app", "--", "touch", "/tmp/stop"]);
    let again = world.until(&["pod", "sub"], "restarted", |pod| {
        is_ready(pod) && status(pod)["restartCount"] == 1
    });
    let statuses = again["status"]["containerStatuses"].as_array().unwrap();
    assert_eq!(statuses[0]["lastState"]["terminated"]["exitCode"], 5, "{again}");
    assert_eq!(statuses[1]["restartCount"], 1, "{again}");
    assert_eq!(statuses[1]["lastState"]["terminated"]["exitCode"], 0, "{again}");
    assert_eq!(world.kubectl(&["logs", "sub", "-c", "app", "--previous"]), "began 1\n");
    assert_eq!(world.kubectl(&["logs", "sub", "-c", "app"]), "began 2\n");
    wait_for("the event", || {
        let events = world.kubectl(&["get", "events", "--field-selector", "reason=SandboxChanged"]);
        events
            .contains("Pod sandbox changed, it will be killed and re-created.")
            .then_some(())
    });
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

/// `up` under a limit that a shell sets.
fn limited(world: &World, limit: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limit}; exec \"$@\""), "sh"]);
    shell.arg(program().get_program());
    world.up_command(shell)
}

#[test]
fn a_daemon_without_descriptors_says_so_and_goes_on_when_there_are_some_again() {
    let mut world = World::prepare();
    let command = limited(&world, "ulimit -n 256");
    world.up_by(command);
    import_busybox(&world);
    world.apply(&counting(&world, "steady", "Never"));
    let before = world.until(&["pod", "steady"], "ready", is_ready);
    let address = world.announced["api"].as_str().unwrap().replace("https://", "");
    let mut held = Vec::new();
    wait_for("a daemon that takes no connection any more", || {
        held.extend((0..50).filter_map(|_| TcpStream::connect(&address).ok()));
        world.log().contains("Too many open files").then_some(())
    });
    assert!(held.len() < 2000, "it took {} connections", held.len());
    println!(
        "{}",
        world
            .log()
            .lines()
            .find(|line| line.contains("Too many open files"))
            .unwrap()
    );
    assert!(alive(world.daemon_pid()) && alive(world.pid_of(&before)));
    drop(held);
    world.apply(&counting(&world, "later", "Never"));
    world.until(&["pod", "later"], "ready", is_ready);
    let after = world.until(&["pod", "steady"], "still ready", is_ready);
    assert_eq!(world.pid_of(&after), world.pid_of(&before));
    assert_eq!(status(&after)["restartCount"], 0);
    assert_whole(&world.kubectl(&["logs", "steady"]), "began 1");
    nothing_is_left_of_deleted_pods(&world);
}

#[test]
fn a_daemon_whose_log_cannot_be_written_goes_on() {
    let mut world = World::prepare();
    let mut command = world.up_command(program());
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    command.env("SETPOINT_LOG", "debug").stderr(full);
    world.up_by(command);
    import_busybox(&world);
    world.apply(&counting(&world, "steady", "Never"));
    world.until(&["pod", "steady"], "ready", is_ready);
    assert!(alive(world.daemon_pid()));
    nothing_is_left_of_deleted_pods(&world);
}

/// A cgroup that lets its processes make no further ones.
struct Crowded(PathBuf);

impl Crowded {
    fn new(name: &str) -> Crowded {
        let v1 = Path::new("/sys/fs/cgroup/pids");
        let base = if v1.exists() { v1 } else { Path::new("/sys/fs/cgroup") };
        let path = base.join(name);
        std::fs::create_dir(&path).unwrap();
        Crowded(path)
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.join(file), text).unwrap();
    }

    fn current(&self) -> String {
        std::fs::read_to_string(self.0.join("pids.current"))
            .unwrap()
            .trim()
            .to_owned()
    }
}

impl Drop for Crowded {
    fn drop(&mut self) {
        // Its processes may take a moment to be gone.
        wait_for("the cgroup to be removed", || std::fs::remove_dir(&self.0).ok());
    }
}

#[test]
fn a_daemon_without_processes_says_so_and_goes_on_when_there_are_some_again() {
    // Removed after the daemon that is in it.
    let crowded = Crowded::new(&format!("setpoint-crowded-{}", std::process::id()));
    // The pods' own groups are chosen at the first start, beside those of the daemon.
    let mut world = World::start();
    world.end_daemon(Signal::SIGTERM);
    let command = limited(&world, &format!("echo $$ > {}/cgroup.procs", crowded.0.display()));
    world.up_by(command);
    import_busybox(&world);
    world.apply(&counting(&world, "steady", "Never"));
    let before = world.until(&["pod", "steady"], "ready", is_ready);
    crowded.write("pids.max", &crowded.current());
    world.apply(&counting(&world, "later", "Never"));
    wait_for("the event", || {
        let events = world.kubectl(&["get", "events", "--field-selector", "involvedObject.name=later"]);
        let found = events
            .lines()
            .find(|line| line.contains("FailedCreatePodSandBox"))
            .map(str::to_owned);
        let found = found.filter(|line| line.contains("no more processes are allowed"));
        found.inspect(|line| println!("{line}"))
    });
    assert!(alive(world.daemon_pid()));
    crowded.write("pids.max", "max");
    world.until(&["pod", "later"], "ready", is_ready);
    let after = world.until(&["pod", "steady"], "still ready", is_ready);
    assert_eq!(world.pid_of(&after), world.pid_of(&before));
    assert_eq!(status(&after)["restartCount"], 0);
    nothing_is_left_of_deleted_pods(&world);
}

/// A data directory on a disk of its own, which can fail.
struct Disk {
    image: PathBuf,
    path: PathBuf,
}

impl Disk {
    /// `None` where this machine cannot make one.
    fn make(folder: &Path, path: &Path) -> Option<Disk> {
        let disk = Disk {
            image: folder.join("disk.img"),
            path: path.to_owned(),
        };
        std::fs::create_dir_all(path).unwrap();
        std::fs::File::create(&disk.image).unwrap().set_len(512 << 20).unwrap();
        let made = disk.run("mkfs.ext4 -q -F $image") && disk.mount();
        if !made {
            eprintln!("SKIPPED: no disk can be made here (mkfs.ext4, loop devices)");
        }
        made.then_some(disk)
    }

    fn mount(&self) -> bool {
        // A device of its own each time, which goes with the last mount of it.
        self.run("device=$(losetup -f --show $image) && mount $device $path; done=$?; losetup -d $device; exit $done")
    }

    fn run(&self, script: &str) -> bool {
        let command = Command::new("sh")
            .args(["-c", script])
            .env("image", &self.image)
            .env("path", &self.path)
            .status();
        command.unwrap().success()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.run("umount -l $path");
    }
}

#[test]
fn a_disk_that_fails_is_named_and_what_was_written_is_there_when_it_is_mended() {
    let world = World::prepare();
    let Some(disk) = Disk::make(world.folder(), &world.data_dir()) else {
        return;
    };
    // Taken down before the disk goes.
    let mut world = world;
    world.up();
    import_busybox(&world);
    world.apply(&counting(&world, "steady", "Always"));
    let before = world.until(&["pod", "steady"], "ready", is_ready);
    world.kubectl(&["create", "configmap", "before", "--from-literal=a=b"]);
    let shim = |world: &World| {
        let folder = world
            .data_dir()
            .join("sandboxes")
            .join(before["metadata"]["uid"].as_str().unwrap());
        let state: Value = serde_json::from_slice(&std::fs::read(folder.join("state.json")).unwrap()).unwrap();
        i32::try_from(state["pid"].as_i64().unwrap()).unwrap()
    };
    let shim = shim(&world);
    // As the kernel does it when a disk answers with errors: nothing is written any more, by whoever has a file open either, and what is not in memory
    // cannot be read.
    assert!(disk.run("mount -o remount,abort $path"));
    let refused = world.kubectl_fails(&["create", "configmap", "amid", "--from-literal=a=b"]);
    println!("{refused}");
    assert!(refused.contains("the write was not made"), "{refused}");
    assert!(alive(world.daemon_pid()) && alive(shim));
    assert!(world.get(&["configmap", "before"]).is_some());
    let said = world
        .log()
        .lines()
        .rfind(|line| line.contains("the store failed"))
        .map(str::to_owned);
    println!("{}", said.expect("the daemon says what failed"));
    cut_the_power(&mut world, true);
    assert!(disk.run("umount $path && e2fsck -fy $image > /dev/null 2>&1; test $? -le 1") && disk.mount());
    world.up();
    assert!(world.get(&["configmap", "before"]).is_some());
    assert!(world.get(&["configmap", "amid"]).is_none());
    let after = world.until(&["pod", "steady"], "running again", |pod| {
        is_ready(pod) && status(pod)["restartCount"].as_u64() > Some(0)
    });
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    world.kubectl(&["create", "configmap", "amid", "--from-literal=a=b"]);
    nothing_is_left_of_deleted_pods(&world);
    let down = world.setpoint(&["down"]);
    assert!(down.status.success(), "{}", text(&down.stderr));
    // Before the folder that it is mounted in.
    drop(disk);
}
