//! A daemon that is killed at random instants, over and over, while pods start, run, crash and stop.
//!
//! The daemon is this binary in a role of its own: it keeps a fixed set of pods as the agent would, and remembers nothing. What should be is told by
//! the containers themselves: each writes a line into a journal when it starts, numbered lines into its log, and ends with a code that follows from its
//! attempt. `SETPOINT_TEST_KILLS` says how often (40 unless told), `SETPOINT_TEST_SEED` repeats a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use setpoint_runtime::spec::{ContainerSpec, ContainerState, Mount, MountSource, SandboxState};
use setpoint_runtime::{Runtime, RuntimeError};

use crate::world::{World, image, is_alive, open, sandbox, script};

/// Pods with a container that runs and one that crashes.
const STEADY: [&str; 3] = ["steady-0", "steady-1", "steady-2"];

/// Pods whose shims are killed or stopped.
const VICTIMS: [&str; 2] = ["victim-0", "victim-1"];

/// How long everything may take per kill, on a busy machine.
const PER_KILL: Duration = Duration::from_secs(3);

pub fn tests() -> Vec<Trial> {
    let name = "a_daemon_killed_at_random_instants_loses_no_container_line_or_exit_code";
    vec![Trial::test(name, || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let kills = number("SETPOINT_TEST_KILLS").unwrap_or(40);
        let limit = Duration::from_secs(60) + PER_KILL * u32::try_from(kills)?;
        Ok(runtime.block_on(async { tokio::time::timeout(limit, killed(kills)).await })?)
    })]
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The role of the daemon.
pub fn keeper_main() -> bool {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, role, folder, instance] = arguments.as_slice() else {
        return false;
    };
    if role != "keeper" {
        return false;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let folder = PathBuf::from(folder);
        let (runtime, _) = open(&folder, instance).await;
        let mut pods = tokio::task::JoinSet::new();
        for id in STEADY.into_iter().chain(VICTIMS) {
            pods.spawn(keep(runtime.clone(), folder.clone(), id));
        }
        pods.spawn(churn(runtime, folder));
        while pods.join_next().await.is_some() {}
    });
    true
}

/// Keeps a pod: what is missing is made, what ended is started again.
async fn keep(runtime: Runtime, folder: PathBuf, id: &'static str) {
    let mut events = runtime.events();
    loop {
        let kept = keep_once(&runtime, &folder, id).await;
        match kept {
            Ok(true) => {}
            // Something has changed meanwhile; the next look tells.
            Ok(false) => continue,
            Err(error) => note(&folder, &format!("{id}: {error:?}")),
        }
        drop(tokio::time::timeout(Duration::from_millis(100), events.recv()).await);
    }
}

/// Does the next thing; returns whether there was none.
async fn keep_once(runtime: &Runtime, folder: &Path, id: &str) -> Result<bool, RuntimeError> {
    let Some(state) = runtime.sandbox(id) else {
        let made = runtime.create_sandbox(sandbox(id)).await?;
        assert_eq!(made.containers, []);
        return Ok(false);
    };
    let stopping = folder.join("stop").exists();
    let newest = |name: &str| state.containers.iter().rfind(|one| one.name == name);
    let mut next = Vec::new();
    if newest("run").is_none() {
        next.push(runs(folder, id));
    }
    match newest("crash") {
        None => next.push(crashes(folder, id, 0)),
        Some(last) if last.exit.is_some() && !stopping => next.push(crashes(folder, id, last.attempt + 1)),
        Some(_) => {}
    }
    let idle = next.is_empty();
    for spec in next {
        runtime.start_container_with(id, spec, &image()).await?;
    }
    Ok(idle)
}

/// Makes pods that end, and takes them away, one after the other.
async fn churn(runtime: Runtime, folder: PathBuf) {
    let path = folder.join("generation");
    while !folder.join("stop").exists() {
        let done = std::fs::read_to_string(&path).unwrap_or_default();
        let generation: u32 = done.trim().parse().unwrap_or(0);
        let id = format!("churn-{generation}");
        let turn = async {
            for old in runtime.sandboxes().into_iter().map(|state| state.spec.id) {
                if old.starts_with("churn-") && old != id {
                    runtime.remove_sandbox(&old).await?;
                }
            }
            match runtime.sandbox(&id) {
                None => drop(runtime.create_sandbox(sandbox(&id)).await?),
                Some(state) if state.containers.is_empty() => {
                    let text = format!("echo {id} short 0 >> /mnt/journal/starts; echo 1; exit 7");
                    let spec = journalled(&folder, script("short", &text));
                    runtime.start_container_with(&id, spec, &image()).await?;
                }
                Some(state) if state.pid != 0 => match &state.containers[0].exit {
                    None => drop(tokio::time::timeout(Duration::from_millis(20), runtime.events().recv()).await),
                    Some(exit) => {
                        assert_eq!(exit.code, 7);
                        runtime.close_sandbox(&id).await?;
                    }
                },
                Some(state) => {
                    assert_eq!(state.containers[0].exit.as_ref().map(|exit| exit.code), Some(7));
                    // It is gone where the daemon was killed amid the removal.
                    if let Ok(log) = std::fs::read_to_string(runtime.log_path(&id, "short", 0)) {
                        assert!(log.ends_with(" 1\n"), "{log:?}");
                    }
                    // First, or one that was removed would come again.
                    let new = folder.join("generation.new");
                    std::fs::write(&new, (generation + 1).to_string()).unwrap();
                    std::fs::rename(&new, &path).unwrap();
                }
            }
            Ok::<(), RuntimeError>(())
        };
        if let Err(error) = turn.await {
            note(&folder, &format!("{id}: {error:?}"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn note(folder: &Path, text: &str) {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).append(true).open(folder.join("notes")).unwrap();
    file.write_all(format!("{text}\n").as_bytes()).unwrap();
}

fn journalled(folder: &Path, spec: ContainerSpec) -> ContainerSpec {
    let path = folder.join("journal");
    let mount = Mount {
        target: PathBuf::from("/mnt/journal"),
        source: MountSource::Bind { path },
        read_only: false,
    };
    ContainerSpec {
        mounts: vec![mount],
        ..spec
    }
}

fn runs(folder: &Path, id: &str) -> ContainerSpec {
    let text = format!(
        "echo {id} run 0 >> /mnt/journal/starts; i=0
        while [ ! -e /mnt/journal/stop ]; do i=$((i+1)); echo $i; sleep 0.02; done; echo last; exit 5"
    );
    journalled(folder, script("run", &text))
}

fn crashes(folder: &Path, id: &str, attempt: u32) -> ContainerSpec {
    let (lines, code) = (lines_of(attempt), code_of(attempt));
    let text = format!(
        "echo {id} crash {attempt} >> /mnt/journal/starts; i=0
        while [ $i -lt {lines} ]; do i=$((i+1)); echo $i; done; sleep 0.{:02}; exit {code}",
        10 + attempt % 30
    );
    ContainerSpec {
        attempt,
        ..journalled(folder, script("crash", &text))
    }
}

fn lines_of(attempt: u32) -> u32 {
    1 + attempt % 7
}

fn code_of(attempt: u32) -> i32 {
    i32::try_from(attempt % 100).unwrap() + 1
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

async fn killed(kills: u64) {
    let mut world = World::new().await;
    (world.runtime, _) = open(&world.folder.join("elsewhere"), "tnone").await;
    std::fs::create_dir(world.folder.join("journal")).unwrap();
    let seed = number("SETPOINT_TEST_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("SETPOINT_TEST_SEED={seed} SETPOINT_TEST_KILLS={kills}");
    let mut dice = Dice(seed);
    let mut victims = 0;
    for _ in 0..kills {
        let mut daemon = keeper(&world);
        let mut left = 5 + dice.below(350);
        if dice.below(3) == 0 {
            let first = dice.below(left);
            left -= first;
            tokio::time::sleep(Duration::from_millis(first)).await;
            victims += u32::from(harm(&world, &daemon, &mut dice));
        }
        tokio::time::sleep(Duration::from_millis(left)).await;
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }
    println!("killed the daemon {kills} times, and shims and spawners {victims} times");
    compare(&mut world).await;
    world.finish().await;
}

fn keeper(world: &World) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["keeper", world.folder.to_str().unwrap(), &world.instance])
        .stdout(Stdio::null())
        .stderr(
            std::fs::File::options()
                .create(true)
                .append(true)
                .open(world.folder.join("notes"))
                .unwrap(),
        )
        .spawn()
        .unwrap()
}

/// Kills or stops the shim of a victim, or kills the spawner; returns whether there was one.
fn harm(world: &World, daemon: &Child, dice: &mut Dice) -> bool {
    let victim = VICTIMS[usize::try_from(dice.below(2)).unwrap()];
    let kind = dice.below(4);
    let pid = if kind == 0 {
        children(daemon.id()).first().copied()
    } else {
        let record = std::fs::read(world.folder.join("data/sandboxes").join(victim).join("state.json"));
        let state = record
            .ok()
            .and_then(|text| serde_json::from_slice::<SandboxState>(&text).ok());
        state.map(|state| state.pid)
    };
    let ours = |pid: &i32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("setpoint")
    };
    let Some(pid) = pid.filter(ours) else { return false };
    let signal = |name: &str| {
        // It may have ended.
        drop(
            Command::new("kill")
                .args([name, &pid.to_string()])
                .stderr(Stdio::null())
                .status(),
        );
    };
    if kind == 1 {
        signal("-STOP");
        std::thread::park_timeout(Duration::from_millis(dice.below(80)));
        signal("-CONT");
    } else {
        signal("-KILL");
    }
    true
}

fn children(pid: u32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Lets the last daemon come to rest, and compares what there is with what should be.
async fn compare(world: &mut World) {
    let mut daemon = keeper(world);
    let journal = world.folder.join("journal");
    let notes = || std::fs::read_to_string(world.folder.join("notes")).unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(500)).await;
    std::fs::write(world.folder.join("stop"), "").unwrap();
    std::fs::write(journal.join("stop"), "").unwrap();
    let state = |id: &str| -> Option<SandboxState> {
        let text = std::fs::read(world.folder.join("data/sandboxes").join(id).join("state.json")).ok()?;
        serde_json::from_slice(&text).ok()
    };
    let rested = |id: &str| {
        state(id)
            .is_some_and(|state| state.containers.len() >= 2 && state.containers.iter().all(|one| one.exit.is_some()))
    };
    let resting = async {
        while !STEADY.into_iter().chain(VICTIMS).all(rested) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let rest = tokio::time::timeout(Duration::from_secs(40), resting).await;
    rest.unwrap_or_else(|_| panic!("the pods do not come to rest; {}", notes()));
    daemon.kill().unwrap();
    daemon.wait().unwrap();

    let starts = std::fs::read_to_string(journal.join("starts")).unwrap();
    let mut counted: BTreeMap<&str, u32> = BTreeMap::new();
    for start in starts.lines() {
        *counted.entry(start).or_default() += 1;
    }
    let (runtime, adopted) = open(&world.folder, &world.instance).await;
    for id in STEADY {
        let found = adopted.iter().find(|state| state.spec.id == id).unwrap();
        let of = |name: &str| {
            found
                .containers
                .iter()
                .filter(|one| one.name == name)
                .collect::<Vec<&ContainerState>>()
        };
        let (run, crash) = (of("run"), of("crash"));
        assert_eq!(run.len(), 1, "{id}: {run:?}");
        assert_eq!(run[0].exit.as_ref().unwrap().code, 5, "{id}");
        assert_eq!(
            counted.get(format!("{id} run 0").as_str()),
            Some(&1),
            "{id}: the container was started again\n{}",
            notes()
        );
        let text = plain(&runtime.log_path(id, "run", 0));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.last(), Some(&"last"), "{id}");
        for (line, number) in lines[..lines.len() - 1].iter().zip(1..) {
            assert_eq!(*line, number.to_string(), "{id}: a line is missing or there twice");
        }
        assert!(crash.len() > 3, "{id} has hardly crashed: {}", crash.len());
        for (state, attempt) in crash.iter().zip(0..) {
            assert_eq!(state.attempt, attempt, "{id}");
            assert_eq!(state.exit.as_ref().unwrap().code, code_of(attempt), "{id}");
            let start = format!("{id} crash {attempt}");
            assert_eq!(counted.get(start.as_str()), Some(&1), "{start}\n{}", notes());
            let expected: String = (1..=lines_of(attempt)).map(|number| format!("{number}\n")).collect();
            assert_eq!(plain(&runtime.log_path(id, "crash", attempt)), expected, "{start}");
        }
        println!("{id}: {} lines, {} crashes", lines.len() - 1, crash.len());
    }
    let churned: Vec<u32> = counted
        .iter()
        .filter(|(start, _)| start.starts_with("churn-"))
        .map(|(_, count)| *count)
        .collect();
    let twice: Vec<_> = counted
        .iter()
        .filter(|(start, count)| start.starts_with("churn-") && **count != 1)
        .collect();
    assert!(twice.is_empty(), "{twice:?}\n{}", notes());
    println!("{} pods came and went", churned.len());
    // No container but of those that are known, no shim but of those.
    let known: Vec<i32> = adopted.iter().map(|state| state.pid).filter(|pid| *pid != 0).collect();
    let mut shims: Vec<i32> = shims(&world.instance);
    shims.retain(|pid| !known.contains(pid));
    assert_eq!(shims, Vec::<i32>::new(), "shims that belong to nothing; {}", notes());
    assert!(!notes().contains("panicked"), "{}", notes());
    world.runtime = runtime;
}

/// A log without its times.
fn plain(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap());
    lines.map(|line| format!("{line}\n")).collect()
}

/// The shims of an instance. In systemd's hierarchy containers are in the same group.
fn shims(instance: &str) -> Vec<i32> {
    let found = Command::new("find")
        .args([
            "/sys/fs/cgroup",
            "-path",
            &format!("*/setpoint-{instance}/_shims/cgroup.procs"),
        ])
        .output()
        .unwrap();
    let files = String::from_utf8(found.stdout).unwrap();
    let lists = files
        .lines()
        .map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let pids = lists.flat_map(|list| list.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>());
    let is_shim = |pid: &i32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name == "setpoint-shim\n" && is_alive(Path::new(&format!("/proc/{pid}")))
    };
    pids.filter(is_shim).collect()
}
