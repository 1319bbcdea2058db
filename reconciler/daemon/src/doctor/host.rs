//! The machine: the data directory and its disk, the clock, what the kernel lacks, and what other instances have left.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::Context;
use setpoint_agent::node::DISK_PRESSURE;
use setpoint_net::Net;
use setpoint_runtime::Runtime;

use super::{Finding, Findings, Subject};
use crate::backup::{size, stage, swap};
use crate::commands::check;

/// How far a file may be ahead of the clock, in seconds.
const AHEAD: i64 = 60;

/// Looks at the data directory itself.
pub fn data_dir(subject: &Subject) -> Findings {
    let path = subject.paths.data_dir();
    if !path.exists() {
        return Ok(vec![Finding::ok(format!("{} is not there yet", path.display()))]);
    }
    let mut findings = Vec::new();
    let mode = path.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        findings.push(Finding::warning(
            format!("others may look into {} (mode {mode:04o})", path.display()),
            format!("chmod 700 {}", path.display()),
        ));
    }
    if swap::pending(path) {
        findings.push(Finding::failed(
            "a restore is under way or was cut off; the databases and their keys were not looked at",
            "if none is running: start setpoint (setpoint up), which finishes the restore before anything else and says what keeps it from that",
        ));
    } else if !subject.paths.instance().exists() {
        findings.push(if subject.paths.store().exists() {
            Finding::failed(
                format!("{} holds a store but no instance.json", path.display()),
                "restore the last backup: setpoint restore --force FILE (what is there is kept beside it)",
            )
        } else {
            Finding::warning(
                format!("{} holds no instance", path.display()),
                "name the data directory of the instance with --data-dir, or make one there: setpoint up",
            )
        });
    }
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(stage::PREFIX) {
            findings.push(Finding::warning(
                format!(
                    "{} is there: a backup is under way, or was killed",
                    entry.path().display()
                ),
                format!("if none is under way: rm -r {}", entry.path().display()),
            ));
        } else if name.starts_with("before-restore-") {
            kept.push(entry.path());
        }
    }
    if !kept.is_empty() {
        let (mut files, mut bytes) = (0, 0);
        for path in &kept {
            stage::measure(path, &mut files, &mut bytes)?;
        }
        findings.push(Finding::ok(format!(
            "what restores have replaced takes {}: remove {}/before-restore-* when it is no longer needed",
            size(bytes),
            path.display()
        )));
    }
    if findings.is_empty() {
        let whose = match &subject.instance {
            Some(instance) => format!("{}, instance {}", path.display(), instance.id),
            // The instance has a row of its own.
            None => format!("{}, an instance that cannot be read", path.display()),
        };
        findings.push(Finding::ok(whose));
    }
    Ok(findings)
}

/// Looks at the room that is left on the disk of the data directory.
pub fn disk(subject: &Subject) -> Findings {
    let path = existing(subject.paths.data_dir());
    let disk = rustix::fs::statvfs(path).with_context(|| format!("cannot look at the disk of {}", path.display()))?;
    let (free, all) = (
        disk.f_bavail.saturating_mul(disk.f_frsize),
        disk.f_blocks.saturating_mul(disk.f_frsize),
    );
    Ok([
        room(
            "room",
            disk.f_bavail,
            disk.f_blocks,
            &format!("{} of {}", size(free), size(all)),
        ),
        room(
            "file entries",
            disk.f_favail,
            disk.f_files,
            &format!("{} of {}", disk.f_favail, disk.f_files),
        ),
    ]
    .into_iter()
    .flatten()
    .collect())
}

/// Judges how much is left; nothing where the file system does not count it.
fn room(what: &str, free: u64, all: u64, text: &str) -> Option<Finding> {
    const ADVICE: &str =
        "make room: `setpoint image rm` removes images; nothing that was stored is lost while the disk is full";
    if all == 0 {
        return None;
    }
    Some(if free.saturating_mul(100) < all {
        Finding::failed(format!("{text} {what} left: less than a hundredth"), ADVICE)
    } else if free.saturating_mul(DISK_PRESSURE) < all {
        Finding::warning(
            format!("{text} {what} left: less than a {DISK_PRESSURE}th, where the node is under disk pressure"),
            ADVICE,
        )
    } else {
        Finding::ok(format!("{text} {what} left"))
    })
}

/// The nearest folder that is there.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

/// Looks whether the clock was set back behind what was written.
pub fn clock(subject: &Subject) -> Findings {
    let mut newest: Option<(jiff::Timestamp, PathBuf)> = None;
    for path in [
        subject.paths.store(),
        subject.paths.store().with_extension("db-wal"),
        subject.paths.history(),
    ] {
        let Ok(modified) = path.metadata().and_then(|meta| meta.modified()) else {
            continue;
        };
        let modified = jiff::Timestamp::try_from(modified)?;
        if newest.as_ref().is_none_or(|(time, _)| *time < modified) {
            newest = Some((modified, path));
        }
    }
    let Some((time, path)) = newest else {
        return Ok(Vec::new());
    };
    Ok(vec![if time.as_second() - subject.now.as_second() > AHEAD {
        Finding::warning(
            format!(
                "{} was written at {time}, and it is {} now: the clock was set back",
                path.display(),
                subject.now
            ),
            "set the clock (timedatectl set-ntp true); ages and schedules are wrong until it has caught up",
        )
    } else {
        Finding::ok(format!("{:.0}, not behind what was written", subject.now))
    }])
}

/// Looks at what the machine lacks.
pub async fn machine(_subject: &Subject) -> Findings {
    let lacks = tokio::task::spawn_blocking(check::lacks)
        .await
        .context("the check was cut off")?;
    if lacks.is_empty() {
        return Ok(vec![Finding::ok(
            "the kernel has what containers and their network need",
        )]);
    }
    Ok(lacks
        .into_iter()
        .map(|lack| Finding::failed(format!("this machine lacks {}", lack.what), lack.advice))
        .collect())
}

/// What one instance has on this host.
#[derive(Default)]
struct Traces {
    /// What there is, in words.
    what: Vec<String>,
    /// The commands that remove it.
    remove: Vec<String>,
    run_dir: Option<PathBuf>,
    groups: Vec<PathBuf>,
}

/// Looks for what other instances have on this host, and which of them nobody runs.
pub async fn traces(subject: &Subject) -> Findings {
    let mut all: BTreeMap<String, Traces> = BTreeMap::new();
    for (instance, remove) in Net::traces().await.context("cannot look at this host's network")? {
        let traces = all.entry(instance).or_default();
        traces.what.push(match remove.len() {
            1 => "a link or table of the network".to_string(),
            count => format!("{count} links and tables of the network"),
        });
        traces.remove.extend(remove);
    }
    for (instance, group) in Runtime::traces() {
        all.entry(instance).or_default().groups.push(group);
    }
    for entry in std::fs::read_dir("/run").context("cannot read /run")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(id) = name.strip_prefix("setpoint-").filter(|id| id.len() == 4) {
            all.entry(id.to_string()).or_default().run_dir = Some(path);
        }
    }
    let own = subject.instance.as_ref().map(|instance| instance.id.clone());
    let mut findings = Vec::new();
    let mut others = 0;
    for (id, traces) in all.into_iter().filter(|(id, _)| Some(id) != own.as_ref()) {
        let socket = traces.run_dir.as_ref().map(|path| path.join("api.sock"));
        if socket.is_some_and(|socket| UnixStream::connect(socket).is_ok()) {
            others += 1;
        } else {
            findings.push(orphan(&id, traces));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(match others {
            0 => "nothing of other instances".to_string(),
            1 => "nothing but one other instance, which runs".to_string(),
            others => format!("nothing but {others} other instances, which run"),
        }));
    }
    Ok(findings)
}

fn orphan(id: &str, mut traces: Traces) -> Finding {
    let processes: BTreeSet<i32> = traces.groups.iter().flat_map(|group| processes(group)).collect();
    if !traces.groups.is_empty() {
        traces.what.push(format!("cgroups with {} processes", processes.len()));
    }
    if let Some(path) = &traces.run_dir {
        traces.what.push(path.display().to_string());
    }
    let what = format!(
        "no setpoint runs for instance {id}, and this is of it: {}",
        traces.what.join(", ")
    );
    let data_dir = processes.iter().find_map(|pid| data_dir_of(*pid, id));
    let advice = match data_dir {
        Some(path) => format!(
            "start it (setpoint up --data-dir {path}) or remove it (setpoint down --data-dir {path})",
            path = path.display()
        ),
        None => {
            let mut remove: Vec<String> = traces
                .groups
                .iter()
                .map(|group| {
                    let group = group.display();
                    format!("find {group} -name cgroup.procs -exec cat {{}} + | xargs -r kill -9; find {group} -depth -type d -exec rmdir {{}} +")
                })
                .collect();
            remove.extend(traces.remove);
            remove.extend(traces.run_dir.map(|path| format!("rm -r {}", path.display())));
            format!(
                "`setpoint down --data-dir DIR` removes it if its data directory is still there; without one: {}",
                remove.join("; ")
            )
        }
    };
    Finding::warning(what, advice)
}

/// The processes of a cgroup and of those below it.
fn processes(group: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    // A group that goes away meanwhile has none.
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(processes(&entry.path()));
        }
    }
    found
}

/// The data directory of an instance, by the files that one of its processes has open.
fn data_dir_of(pid: i32, id: &str) -> Option<PathBuf> {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    links
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .flat_map(|path| path.ancestors().map(Path::to_path_buf).collect::<Vec<_>>())
        .find(|folder| {
            std::fs::read(folder.join("instance.json"))
                .ok()
                .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
                .is_some_and(|instance| instance["id"] == id)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn room_is_judged_where_the_node_judges_it() {
        let status = |free, all| room("room", free, all, "").map(|finding| finding.status);
        assert_eq!(status(6, 100), Some(Status::Ok));
        assert_eq!(status(4, 100), Some(Status::Warning));
        assert_eq!(status(0, 100), Some(Status::Failed));
        assert_eq!(status(0, 0), None, "some file systems count no entries");
    }
}
