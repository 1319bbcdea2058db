//! What outlives the daemon, and what does not outlive a shim.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use setpoint_runtime::logs::ReadOptions;
use setpoint_runtime::spec::RuntimeEvent;

use crate::trial;
use crate::world::{World, image, open, sandbox, script};

pub fn tests() -> Vec<Trial> {
    vec![
        trial("a_runtime_that_is_opened_again_adopts_what_runs", adopts),
        trial("killing_the_daemon_loses_no_container_log_or_exit_code", killed_daemon),
        trial("a_killed_shim_takes_its_containers_along_and_is_reported", killed_shim),
        trial(
            "a_killed_shim_takes_containers_of_other_users_along",
            killed_shim_of_a_user,
        ),
        trial("a_closed_sandbox_keeps_logs_and_exit_codes_and_nothing_else", closed),
        trial(
            "a_closed_sandbox_with_an_unreadable_record_keeps_logs_and_exit_codes",
            closed_with_damage,
        ),
        trial("logs_opened_while_a_sandbox_is_closed_are_whole", logs_amid_closing),
        trial("a_shim_is_called_after_its_pod", titled),
        trial("a_sandbox_that_died_meanwhile_is_taken_away_at_open", died_meanwhile),
        trial("a_removed_sandbox_leaves_nothing", removed),
        trial("ten_sandboxes_start_at_once_and_shims_are_small", many),
    ]
}

/// The role of a daemon that is killed: opens a runtime, starts a container, says so and waits.
pub fn daemon_main() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, role, folder, instance] = arguments.as_slice() else {
        return false;
    };
    if role != "daemon-to-be-killed" {
        return false;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (runtime, _) = open(&PathBuf::from(folder), instance).await;
        runtime.create_sandbox(sandbox("a")).await.unwrap();
        let text = "i=0; while [ ! -e /go ]; do i=$((i+1)); echo $i; sleep 0.02; done; echo last; exit 9";
        runtime
            .start_container_with("a", script("app", text), &image())
            .await
            .unwrap();
        println!("ready");
        std::future::pending::<()>().await;
    });
    true
}

async fn adopts() {
    let mut world = World::new().await;
    world.sandbox("a").await;
    let started = world.start("a", script("app", "exec sleep 1000")).await.unwrap();
    (world.runtime, world.adopted) = open(&world.folder, &world.instance).await;
    assert_eq!(world.adopted.len(), 1);
    assert_eq!(world.adopted[0].containers[0].pid, started.pid);
    let (code, ..) = world.exec("a", "app-0", &["true"]).await;
    assert_eq!(code, 0);
    world.finish().await;
}

async fn killed_daemon() {
    let mut world = World::new().await;
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["daemon-to-be-killed", world.folder.to_str().unwrap(), &world.instance])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    // The container writes on while there is no daemon.
    let log = world.runtime.log_path("a", "app", 0);
    let lines = || std::fs::read_to_string(&log).unwrap().lines().count();
    let written = Written::watch(&log);
    let before = lines();
    while lines() <= before + 3 {
        written.more().await;
    }

    (world.runtime, world.adopted) = open(&world.folder, &world.instance).await;
    assert_eq!(world.adopted.len(), 1);
    let (code, ..) = world.exec("a", "app-0", &["touch", "/go"]).await;
    // The container may end, and with it whatever runs in it, before `touch` does.
    assert!([0, 137].contains(&code), "{code}");
    let ended = world.ended("a", "app-0").await;
    assert_eq!(ended.exit.clone().unwrap().code, 9);
    let text = world.log("a", &ended).await;
    let numbers: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(
        numbers.iter().zip(1..).all(|(found, expected)| *found == expected),
        "{text}"
    );
    assert!(text.ends_with("last\n"));
    world.finish().await;
}

/// Tells when a file has been written to.
struct Written(Arc<OwnedFd>);

impl Written {
    fn watch(path: &Path) -> Written {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY).unwrap();
        Written(Arc::new(watch))
    }

    async fn more(&self) {
        readable(self.0.clone()).await;
        let mut events = [0; 4096];
        while rustix::io::read(&self.0, &mut events).is_ok() {}
    }
}

/// Waits until a process is gone.
async fn ended(pid: i32) {
    // Without a pidfd it is gone already.
    if let Ok(process) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) {
        readable(Arc::new(process)).await;
    }
    assert!(!is_alive(pid));
}

/// Waits, on a thread that may, until there is something to read.
async fn readable(file: Arc<OwnedFd>) {
    let waiting = tokio::task::spawn_blocking(move || {
        let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
        poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&limit)).unwrap()
    });
    assert_eq!(waiting.await.unwrap(), 1, "the state in time");
}

fn kill(pid: i32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

fn is_alive(pid: i32) -> bool {
    crate::world::is_alive(std::path::Path::new(&format!("/proc/{pid}")))
}

/// What is left of a sandbox that died.
fn left_of_a(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.folder.join("data/sandboxes/a")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

async fn killed_shim() {
    let world = World::new().await;
    let shim = world.sandbox("a").await.pid;
    let container = world.start("a", script("app", "exec sleep 1000")).await.unwrap().pid;
    let mut events = world.runtime.events();
    kill(shim);
    loop {
        match tokio::time::timeout(Duration::from_secs(20), events.recv())
            .await
            .unwrap()
            .unwrap()
        {
            RuntimeEvent::SandboxDied { sandbox } => {
                assert_eq!(sandbox, "a");
                break;
            }
            RuntimeEvent::ContainerExited { .. } => {}
        }
    }
    ended(container).await;
    assert!(world.runtime.sandbox("a").is_none());
    assert_eq!(left_of_a(&world), ["logs", "past.json"]);
    // The id is free again.
    world.sandbox("a").await;
    world.finish().await;
}

async fn killed_shim_of_a_user() {
    let mut world = World::new().await;
    let shim = world.sandbox("a").await.pid;
    let mut spec = script("app", "exec sleep 1000");
    spec.security.run_as_user = Some(65532);
    let container = world.start("a", spec).await.unwrap().pid;
    let status = std::fs::read_to_string(format!("/proc/{container}/status")).unwrap();
    assert!(status.contains("Uid:\t65532\t65532\t65532"), "{status}");
    // Nobody cleans up after this shim, so that it can only be the kernel that ends the container.
    let (other, _) = open(&world.folder.join("elsewhere"), "tnone").await;
    world.runtime = other;
    kill(shim);
    ended(container).await;
    world.finish().await;
}

async fn closed() {
    let mut world = World::new().await;
    let shim = world.sandbox("a").await.pid;
    let (ended, _) = world.run("a", script("app", "echo done; exit 3")).await;
    let running = world.start("a", script("other", "exec sleep 1000")).await.unwrap();
    let refused = world.runtime.close_sandbox("a").await.unwrap_err();
    assert!(refused.to_string().contains("other-0 runs"), "{refused}");
    world
        .runtime
        .stop_container("a", &running.id(), Duration::ZERO)
        .await
        .unwrap();

    world.runtime.close_sandbox("a").await.unwrap();
    world.runtime.close_sandbox("a").await.unwrap();
    assert!(!is_alive(shim));
    assert_eq!(world.log("a", &ended).await, "done\n");
    let traces = world.traces();
    assert!(!traces.iter().any(|trace| trace.ends_with("/a")), "{traces:?}");

    (world.runtime, world.adopted) = open(&world.folder, &world.instance).await;
    let [kept] = world.adopted.as_slice() else {
        panic!("{:?}", world.adopted)
    };
    assert_eq!((kept.pid, kept.spec.ip), (0, None));
    assert_eq!(kept.containers[0].exit.as_ref().unwrap().code, 3);
    assert_eq!(world.log("a", &ended).await, "done\n");
    world.runtime.remove_sandbox("a").await.unwrap();
    assert!(world.runtime.sandbox("a").is_none());
    assert!(!world.folder.join("data/sandboxes/a").exists());
    world.finish().await;
}

async fn closed_with_damage() {
    let mut world = World::new().await;
    world.sandbox("a").await;
    let (ended, _) = world.run("a", script("app", "echo done; exit 3")).await;
    world.runtime.close_sandbox("a").await.unwrap();
    let directory = world.folder.join("data/sandboxes/a");
    // What a power cut leaves of a file that was not synced. The second time also of what the shim wrote.
    for (files, containers) in [(&["closed.json"][..], 1), (&["closed.json", "state.json"], 0)] {
        for file in files {
            std::fs::write(directory.join(file), "").unwrap();
        }
        (world.runtime, world.adopted) = open(&world.folder, &world.instance).await;
        let [kept] = world.adopted.as_slice() else {
            panic!("{:?}", world.adopted)
        };
        assert_eq!((kept.pid, kept.spec.ip, kept.spec.id.as_str()), (0, None, "a"));
        let codes = kept
            .containers
            .iter()
            .map(|container| container.exit.as_ref().unwrap().code);
        assert_eq!(codes.collect::<Vec<_>>(), vec![3; containers]);
        assert_eq!(world.log("a", &ended).await, "done\n");
    }
    world.runtime.remove_sandbox("a").await.unwrap();
    assert!(!directory.exists());
    world.finish().await;
}

async fn logs_amid_closing() {
    let world = World::new().await;
    for number in 0..15 {
        let id = format!("pod-{number}");
        world.sandbox(&id).await;
        let started = world.start(&id, script("app", "echo done")).await.unwrap();
        let closing = async {
            // As the agent does: it hears of the end and closes at once.
            world.ended(&id, "app-0").await;
            world.runtime.close_sandbox(&id).await.unwrap();
        };
        let mut closing = std::pin::pin!(closing);
        let (mut opened, mut closed) = (0, false);
        while !closed {
            let known = world.runtime.sandbox(&id).expect("it is known all the time");
            let ended = known.containers[0].exit.is_some();
            for follow in [true, false] {
                let options = ReadOptions {
                    follow,
                    ..ReadOptions::default()
                };
                let mut chunks = world.runtime.logs(&id, &started.name, 0, options);
                let reading = async {
                    let mut text = Vec::new();
                    while let Some(chunk) = chunks.recv().await {
                        text.extend_from_slice(&chunk.unwrap());
                    }
                    text
                };
                let mut reading = std::pin::pin!(reading);
                let text = tokio::select! {
                    text = &mut reading => text,
                    () = &mut closing, if !closed => {
                        closed = true;
                        reading.await
                    }
                };
                // Who follows waits for the end; who does not gets all of what has ended.
                assert!(
                    text == b"done\n" || (!follow && !ended && text.is_empty()),
                    "{follow} {ended} {text:?}"
                );
                opened += 1;
            }
        }
        assert_ne!(opened, 0);
    }
    world.finish().await;
}

async fn titled() {
    let world = World::new().await;
    let shim = world.sandbox("a").await.pid;
    let shown = std::fs::read(format!("/proc/{shim}/cmdline")).unwrap();
    let shown = String::from_utf8_lossy(&shown);
    assert_eq!(shown.trim_end_matches('\0'), "setpoint-shim default/web");
    let name = std::fs::read_to_string(format!("/proc/{shim}/comm")).unwrap();
    assert_eq!(name, "setpoint-shim\n");
    world.finish().await;
}

async fn died_meanwhile() {
    let mut world = World::new().await;
    let shim = world.sandbox("a").await.pid;
    world.sandbox("b").await;
    let container = world.start("a", script("app", "exec sleep 1000")).await.unwrap().pid;
    // No runtime looks while the shim dies.
    let (other, _) = open(&world.folder.join("elsewhere"), "tnone").await;
    world.runtime = other;
    kill(shim);
    ended(shim).await;
    ended(container).await;
    (world.runtime, world.adopted) = open(&world.folder, &world.instance).await;
    let ids: Vec<&str> = world.adopted.iter().map(|state| state.spec.id.as_str()).collect();
    assert_eq!(ids, ["b"]);
    assert_eq!(left_of_a(&world), ["logs", "past.json"]);
    world.finish().await;
}

async fn removed() {
    let world = World::new().await;
    let shim = world.sandbox("a").await.pid;
    let container = world
        .start("a", script("app", "sleep 1000 & exec sleep 1000"))
        .await
        .unwrap()
        .pid;
    world.runtime.remove_sandbox("a").await.unwrap();
    assert!(!is_alive(shim) && !is_alive(container));
    assert!(!world.folder.join("data/sandboxes/a").exists() && !world.folder.join("run/shims/a.sock").exists());
    world.runtime.remove_sandbox("a").await.unwrap();
    world.finish().await;
}

async fn many() {
    let world = World::new().await;
    let ids: Vec<String> = (0..10).map(|number| format!("pod-{number}")).collect();
    futures::future::join_all(ids.iter().map(|id| async {
        world.sandbox(id).await;
        world.start(id, script("app", "exec sleep 1000")).await.unwrap();
    }))
    .await;
    assert_eq!(world.runtime.sandboxes().len(), 10);
    world.finish().await;
}
