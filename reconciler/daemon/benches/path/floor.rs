//! What starting a container costs at the least on this machine: the bare system calls, and crun, on the same root file system.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

const ROLE: &str = "__floor";

/// Becomes the first process of a bare container when this process was started for that, and never returns then.
pub fn main_when_asked() -> anyhow::Result<bool> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(ROLE) {
        return Ok(false);
    }
    let root = arguments.next().context("no root file system given")?;
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    // One process serves all runs, as a shim would; each run is a child in namespaces of its own.
    let runs: usize = arguments.next().context("no number of runs given")?.parse()?;
    for _ in 0..runs {
        let start = Instant::now();
        let root = root.clone();
        let mut command = Command::new("/setpoint");
        command
            .arg("--version")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // SAFETY: this process has one thread; the closure only makes system calls on what it owns.
        unsafe {
            command.pre_exec(move || {
                let enter = || -> nix::Result<()> {
                    unshare(namespaces)?;
                    mount(
                        None::<&str>,
                        "/",
                        None::<&str>,
                        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                        None::<&str>,
                    )?;
                    let root = Path::new(&root);
                    mount(Some(root), root, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
                    nix::unistd::chdir(root)?;
                    nix::unistd::pivot_root(".", ".")?;
                    umount2(".", MntFlags::MNT_DETACH)
                };
                enter().map_err(std::io::Error::from)
            });
        }
        let mut child = command.spawn()?;
        first_byte(&mut child)?;
        println!("{}", start.elapsed().as_nanos());
        child.wait()?;
    }
    Ok(true)
}

fn first_byte(child: &mut std::process::Child) -> anyhow::Result<()> {
    let mut byte = [0];
    child
        .stdout
        .as_mut()
        .context("the output is piped")?
        .read_exact(&mut byte)
        .context("it printed nothing")?;
    Ok(())
}

/// Measures namespaces, pivot_root and exec until the program's first output.
pub fn bare(root: &Path, runs: usize) -> anyhow::Result<Vec<Duration>> {
    let output = Command::new(std::env::current_exe()?)
        .arg(ROLE)
        .arg(root)
        .arg(runs.to_string())
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(output.status.success(), "the bare container failed");
    String::from_utf8(output.stdout)?
        .lines()
        .map(|line| Ok(Duration::from_nanos(line.parse()?)))
        .collect()
}

/// Measures `crun run` of the same until its first output; `None` with the reason when it is missing or fails here.
pub fn crun(root: &Path, runs: usize) -> anyhow::Result<Result<Vec<Duration>, String>> {
    let bundle = tempfile::tempdir()?;
    let spec = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "args": ["/setpoint", "--version"], "user": {"uid": 0, "gid": 0}},
        "root": {"path": root, "readonly": true},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}, {"type": "uts"}, {"type": "ipc"}]},
    });
    std::fs::write(bundle.path().join("config.json"), spec.to_string())?;
    let mut times = Vec::new();
    for run in 0..runs {
        let start = Instant::now();
        let child = Command::new("crun")
            .args(["--cgroup-manager=disabled", "run", "--bundle"])
            .arg(bundle.path())
            .arg(format!("setpoint-bench-{}-{run}", std::process::id()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return Ok(Err(format!("crun cannot be started: {error}"))),
        };
        if first_byte(&mut child).is_err() {
            let output = child.wait_with_output()?;
            let error = String::from_utf8_lossy(&output.stderr);
            return Ok(Err(format!(
                "crun fails here: {}",
                error.lines().next().unwrap_or("no reason given")
            )));
        }
        times.push(start.elapsed());
        child.wait()?;
    }
    Ok(Ok(times))
}
