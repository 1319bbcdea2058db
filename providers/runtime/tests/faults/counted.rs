//! What a pod is made of on this host, listed, to be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long what was taken away may take to be gone: the kernel ends namespaces in its own time.
const GONE: Duration = Duration::from_secs(10);

/// Everything that belongs to an instance, by kind.
#[derive(Debug)]
pub struct Counted {
    folder: PathBuf,
    instance: String,
    shims: Vec<i32>,
    things: BTreeMap<String, Vec<String>>,
}

impl Counted {
    /// Counts; of the shims also what they hold.
    pub fn of(folder: &Path, instance: &str, shims: &[i32]) -> Self {
        let mut counted = Self {
            folder: folder.to_owned(),
            instance: instance.to_owned(),
            shims: shims.to_vec(),
            things: BTreeMap::new(),
        };
        counted.things = counted.now();
        assert!(counted.things["files"].len() > 3, "{counted:?}");
        counted
    }

    fn now(&self) -> BTreeMap<String, Vec<String>> {
        let mut things = BTreeMap::from([
            ("links".to_owned(), printed(&["ip", "-o", "link"])),
            ("addresses".to_owned(), printed(&["ip", "-o", "address"])),
            ("routes".to_owned(), printed(&["ip", "route", "show", "table", "all"])),
            (
                "neighbours".to_owned(),
                printed(&["ip", "neighbour", "show", "nud", "all"]),
            ),
            ("firewall".to_owned(), printed(&["nft", "list", "ruleset"])),
            ("mounts".to_owned(), lines("/proc/self/mountinfo")),
            ("files".to_owned(), files(&self.folder)),
            ("cgroups".to_owned(), groups(&self.instance)),
            ("processes".to_owned(), processes(&self.instance)),
            ("descriptors".to_owned(), descriptors("self")),
        ]);
        for shim in &self.shims {
            things.insert(format!("descriptors of {shim}"), descriptors(&shim.to_string()));
            things.insert(format!("mounts of {shim}"), lines(&format!("/proc/{shim}/mountinfo")));
        }
        things
    }

    /// Waits until everything is as it was.
    pub async fn is_so_again(&self, after: &str) {
        let same = async {
            while self.now() != self.things {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(GONE, same).await.is_ok() {
            return;
        }
        let now = self.now();
        let mut found = String::new();
        for (kind, before) in &self.things {
            let (before, now): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), now[kind].iter().collect());
            for line in now.difference(&before) {
                found.push_str(&format!("\n{kind}: + {line}"));
            }
            for line in before.difference(&now) {
                found.push_str(&format!("\n{kind}: - {line}"));
            }
        }
        panic!("{after} left something:{found}");
    }
}

fn printed(command: &[&str]) -> Vec<String> {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .expect("installed by .ci/install");
    // `find` complains about what goes while it looks.
    assert!(output.status.success() || command[0] == "find", "{command:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn lines(path: &str) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // What is mounted in a sandbox is not of this folder.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&path));
        }
        found.push(path.display().to_string());
    }
    found.sort();
    found
}

fn groups(instance: &str) -> Vec<String> {
    printed(&[
        "find",
        "/sys/fs/cgroup",
        "-path",
        &format!("*/setpoint-{instance}*"),
        "-type",
        "d",
    ])
}

/// The processes in groups of the instance, and those that this process has started.
fn processes(instance: &str) -> Vec<String> {
    let mut found: Vec<String> = groups(instance)
        .iter()
        .flat_map(|group| lines(&format!("{group}/cgroup.procs")))
        .filter(|pid| is_alive(pid))
        .collect();
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().map(str::to_owned));
    }
    found.sort();
    found.dedup();
    found
}

fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}

/// How many descriptors of each kind a process has open.
fn descriptors(process: &str) -> Vec<String> {
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    let entries = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    for entry in entries.flatten() {
        let target = fs::read_link(entry.path()).map_or_else(|_| "gone".to_owned(), |path| path.display().to_string());
        let kind = target.split(":[").next().unwrap_or_default().to_owned();
        // The one that lists this folder.
        if !kind.starts_with("/proc/") && kind != "gone" {
            *kinds.entry(kind).or_default() += 1;
        }
    }
    kinds
        .into_iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect()
}

/// Kills every process of an instance.
pub fn kill_all(instance: &str) {
    for pid in groups(instance)
        .iter()
        .flat_map(|group| lines(&format!("{group}/cgroup.procs")))
    {
        if let Err(error) = Command::new("kill").args(["-9", &pid]).status() {
            eprintln!("cannot kill {pid}: {error}");
        }
    }
}

/// An error with its causes.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
