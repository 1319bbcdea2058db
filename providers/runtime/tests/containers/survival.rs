//! Shims that hang, that nobody knows of, and whose numbers others have.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use setpoint_runtime::RuntimeError;
use setpoint_runtime::spec::{ContainerSpec, ExecSpec};

use crate::trial;
use crate::world::{World, is_alive, open, script};

pub fn tests() -> Vec<Trial> {
    vec![
        trial(
            "a_hung_shim_holds_up_no_start_and_is_adopted_when_it_goes_on",
            hung_at_start,
        ),
        trial("a_container_whose_shim_hangs_can_be_stopped", hung_at_stop),
        trial("a_shim_that_nothing_is_known_of_is_killed_at_open", stray),
        trial(
            "a_shim_that_ends_because_it_was_to_be_closed_keeps_logs_and_exit_codes",
            closing,
        ),
        trial(
            "logs_and_exit_codes_outlive_a_sandbox_that_died_until_it_is_removed",
            past,
        ),
        trial(
            "a_shim_that_can_write_nothing_goes_on_and_records_what_happened_when_it_can",
            unwritable,
        ),
        trial("the_number_of_a_dead_shim_says_nothing_about_who_has_it_now", reused),
    ]
}

fn signal(pid: i32, signal: &str) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

fn lives(pid: i32) -> bool {
    is_alive(Path::new(&format!("/proc/{pid}")))
}

async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let waiting = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    reached.unwrap_or_else(|_| panic!("waited too long for {what}"));
}

async fn unwritable() {
    let world = World::new().await;
    let folder = world.folder.join("data/sandboxes/a");
    std::fs::create_dir_all(folder.join("logs")).unwrap();
    // Its own log and the container's, on a disk that is full.
    for log in ["shim.log", "logs/app-0.log"] {
        std::os::unix::fs::symlink("/dev/full", folder.join(log)).unwrap();
    }
    let shim = world.sandbox("a").await.pid;
    let started = world.start("a", script("app", "echo lost; echo lost >&2; exit 3"));
    // In the way of the record that follows.
    std::fs::create_dir(folder.join("state.json.new")).unwrap();
    let started = started.await.unwrap();
    let ended = world.ended("a", &started.id()).await;
    assert_eq!(ended.exit.unwrap().code, 3);
    let again = world.start("a", script("other", "exit 4")).await.unwrap();
    assert_eq!(world.ended("a", &again.id()).await.exit.unwrap().code, 4);
    assert!(lives(shim));
    let recorded = || std::fs::read_to_string(folder.join("state.json")).unwrap_or_default();
    assert!(!recorded().contains("\"code\":4"), "{}", recorded());
    std::fs::remove_dir(folder.join("state.json.new")).unwrap();
    until("the record", || recorded().contains("\"code\":4")).await;
    world.finish().await;
}

async fn hung_at_start() {
    let mut world = World::new().await;
    let shim = world.sandbox("a").await.pid;
    world.sandbox("b").await;
    let started = world.start("a", script("app", "sleep 1000; exit 3")).await.unwrap();
    // No runtime looks while it hangs.
    (world.runtime, _) = open(&world.folder.join("elsewhere"), "tnone").await;
    signal(shim, "-STOP");
    (world.runtime, world.adopted) = open(&world.folder, &world.instance).await;
    let mut ids: Vec<&str> = world.adopted.iter().map(|state| state.spec.id.as_str()).collect();
    ids.sort();
    assert_eq!(ids, ["a", "b"]);
    let refused = world.runtime.exec("a", "app-0", ExecSpec::default()).await;
    assert!(matches!(refused.map(drop), Err(RuntimeError::Unreached(_))));
    assert!(lives(shim) && lives(started.pid), "it was killed though it only hangs");
    signal(shim, "-CONT");
    let adopted = || {
        let spec = ExecSpec {
            command: vec!["true".to_owned()],
            ..ExecSpec::default()
        };
        world.runtime.exec("a", "app-0", spec)
    };
    let mut session = adopted().await;
    while session.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        session = adopted().await;
    }
    assert_eq!(session.unwrap().exit.await.unwrap(), 0);
    assert_eq!(world.runtime.sandbox("a").unwrap().containers[0].pid, started.pid);
    world.finish().await;
}

async fn hung_at_stop() {
    let world = World::new().await;
    let shim = world.sandbox("a").await.pid;
    let started = world.start("a", script("app", "exec sleep 1000")).await.unwrap();
    signal(shim, "-STOP");
    let ended = world.runtime.stop_container("a", "app-0", Duration::from_secs(1)).await;
    assert_eq!(ended.unwrap().exit.unwrap().code, 137);
    until("the end of the container", || !lives(started.pid)).await;
    until("the end of the sandbox", || world.runtime.sandbox("a").is_none()).await;
    // In its place another one can be made.
    world.sandbox("a").await;
    world.finish().await;
}

async fn stray() {
    let mut world = World::new().await;
    let shim = world.sandbox("a").await.pid;
    let kept = world.sandbox("b").await.pid;
    (world.runtime, _) = open(&world.folder.join("elsewhere"), "tnone").await;
    std::fs::remove_dir_all(world.folder.join("data/sandboxes/a")).unwrap();
    std::fs::remove_file(world.folder.join("run/shims/a.sock")).unwrap();
    (world.runtime, world.adopted) = open(&world.folder, &world.instance).await;
    until("the end of the stray shim", || !lives(shim)).await;
    assert_eq!(world.adopted.len(), 1);
    assert!(lives(kept));
    world.finish().await;
}

async fn reused() {
    let mut world = World::new().await;
    let dead = world.sandbox("a").await.pid;
    let living = world.sandbox("b").await.pid;
    let container = world.start("b", script("app", "exec sleep 1000")).await.unwrap().pid;
    (world.runtime, _) = open(&world.folder.join("elsewhere"), "tnone").await;
    signal(dead, "-KILL");
    until("the end of the shim", || !lives(dead)).await;
    let record = world.folder.join("data/sandboxes/a/state.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let text = text.replace(&format!("\"pid\":{dead}"), &format!("\"pid\":{living}"));
    assert!(text.contains(&living.to_string()));
    std::fs::write(&record, text).unwrap();
    (world.runtime, world.adopted) = open(&world.folder, &world.instance).await;
    assert!(lives(living) && lives(container));
    assert_eq!(world.adopted.len(), 1);
    assert!(world.runtime.sandbox("a").is_none());
    world.runtime.remove_sandbox("a").await.unwrap();
    assert!(lives(living) && lives(container));
    world.finish().await;
}

async fn closing() {
    let mut world = World::new().await;
    let shim = world.sandbox("a").await.pid;
    let (ended, _) = world.run("a", script("app", "echo done; exit 3")).await;
    (world.runtime, world.adopted) = open(&world.folder, &world.instance).await;
    // What a daemon leaves that is killed when it has written that it closes the sandbox, and the shim has not yet heard of it.
    let mut closed = world.adopted[0].clone();
    closed.pid = 0;
    let record = world.folder.join("data/sandboxes/a/closed.json");
    std::fs::write(record, serde_json::to_vec(&closed).unwrap()).unwrap();
    signal(shim, "-KILL");
    until("the end of the shim to be known", || {
        world.runtime.sandbox("a").is_some_and(|state| state.pid == 0)
    })
    .await;
    let kept = world.runtime.sandbox("a").unwrap();
    assert_eq!(kept.containers[0].exit.as_ref().unwrap().code, 3);
    assert_eq!(world.log("a", &ended).await, "done\n");
    world.finish().await;
}

async fn past() {
    let mut world = World::new().await;
    let shim = world.sandbox("a").await.pid;
    let (first, _) = world.run("a", script("app", "echo one; exit 3")).await;
    let second = ContainerSpec {
        attempt: 1,
        ..script("app", "echo two; exec sleep 1000")
    };
    let second = world.start("a", second).await.unwrap();
    let log = world.runtime.log_path("a", "app", 1);
    until("the line", || std::fs::read_to_string(&log).unwrap().contains("two")).await;
    signal(shim, "-KILL");
    until("the end of the sandbox", || world.runtime.sandbox("a").is_none()).await;
    for _ in 0..2 {
        let past = world.runtime.past("a");
        let codes: Vec<i32> = past.iter().map(|state| state.exit.as_ref().unwrap().code).collect();
        assert_eq!(codes, [3, 137]);
        // Also for the next daemon, and beside a new sandbox.
        world.sandbox("a").await;
        assert_eq!(world.log("a", &first).await, "one\n");
        assert_eq!(world.log("a", &second).await, "two\n");
        world.runtime.clear_sandbox("a").await.unwrap();
        (world.runtime, world.adopted) = open(&world.folder, &world.instance).await;
        assert_eq!(world.adopted, []);
    }
    world.runtime.remove_container("a", &first.id()).await.unwrap();
    assert_eq!(world.runtime.past("a").len(), 1);
    assert!(!world.runtime.log_path("a", "app", 0).exists());
    world.runtime.forget_all_but(&["a".to_owned()].into()).await;
    assert!(log.exists());
    world.runtime.forget_all_but(&Default::default()).await;
    assert_eq!(world.runtime.past("a"), []);
    assert!(!world.folder.join("data/sandboxes/a").exists());
    world.finish().await;
}
