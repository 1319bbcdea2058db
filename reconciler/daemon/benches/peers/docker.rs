//! Docker with a daemon of its own, started by hand: `docker run` and `docker service create` of a swarm of one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::image::NAME;
use crate::marks::named;
use crate::peer::{Peer, at_once};
use crate::private::ADDRESS;

/// A Docker daemon; it ends with its last user.
pub struct Daemon {
    folder: PathBuf,
    child: Child,
}

impl Daemon {
    /// Starts it and loads the image.
    pub fn start(folder: &Path) -> anyhow::Result<Rc<Daemon>> {
        let image = folder.join("image.tar");
        let folder = folder.join("docker");
        std::fs::create_dir(&folder)?;
        let log = std::fs::File::create(folder.join("log"))?;
        let child = Command::new("dockerd")
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", folder.join("sock").display()))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot run dockerd")?;
        let daemon = Rc::new(Daemon { folder, child });
        let start = Instant::now();
        while daemon.docker(&["version"]).is_err() {
            anyhow::ensure!(
                start.elapsed() < Duration::from_secs(60),
                "dockerd does not answer: {}",
                std::fs::read_to_string(daemon.folder.join("log"))?
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon.docker(&["load", "--input", image.to_str().context("a path in UTF-8")?])?;
        Ok(daemon)
    }

    /// Runs the client.
    pub fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("docker")
            .env("DOCKER_HOST", format!("unix://{}", self.folder.join("sock").display()))
            .args(arguments)
            .output()
            .context("cannot run docker")?;
        anyhow::ensure!(
            output.status.success(),
            "docker {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn containers(&self) -> anyhow::Result<Vec<String>> {
        let listed = self.docker(&["ps", "--all", "--quiet", "--no-trunc"])?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    fn processes(&self) -> anyhow::Result<(Vec<i32>, Vec<i32>)> {
        let daemons = ["dockerd", "containerd"];
        let daemons: Result<Vec<_>, _> = daemons.iter().map(|name| named(name)).collect();
        Ok((named("containerd-shim")?, daemons?.concat()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0));
        let ended = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let waited = self.child.wait();
        if ended.is_err() || waited.is_err() {
            eprintln!("dockerd could not be ended: {ended:?} {waited:?}");
        }
    }
}

/// `docker run --restart=always`.
pub struct Run {
    daemon: Rc<Daemon>,
    marks: PathBuf,
}

impl Run {
    /// Uses a daemon.
    pub fn new(daemon: Rc<Daemon>, marks: &Path) -> Run {
        Run {
            daemon,
            marks: marks.to_owned(),
        }
    }
}

impl Peer for Run {
    fn name(&self) -> &'static str {
        "docker run --restart=always"
    }

    fn start(&mut self, count: usize) -> anyhow::Result<()> {
        let volume = format!("{}:/marks", self.marks.display());
        let (folder, child) = (
            &self.daemon.folder,
            ["run", "--detach", "--restart=always", "--volume", &volume, NAME],
        );
        at_once(count, |_| {
            let status = Command::new("docker")
                .env("DOCKER_HOST", format!("unix://{}", folder.join("sock").display()))
                .args(child)
                .stdout(Stdio::null())
                .status()
                .context("cannot run docker")?;
            anyhow::ensure!(status.success(), "docker run failed");
            Ok(())
        })
    }

    fn remove(&mut self) -> anyhow::Result<()> {
        let containers = self.daemon.containers()?;
        if !containers.is_empty() {
            let mut arguments = vec!["rm", "--force"];
            arguments.extend(containers.iter().map(String::as_str));
            self.daemon.docker(&arguments)?;
        }
        Ok(())
    }

    fn supervisors(&self) -> anyhow::Result<(Vec<i32>, Vec<i32>)> {
        self.daemon.processes()
    }
}

/// `docker service create`, with the delay before a restart that a swarm has unless told otherwise (5 s), or none.
pub struct Service {
    daemon: Rc<Daemon>,
    marks: PathBuf,
    delay: bool,
}

impl Service {
    /// Makes the daemon a swarm of one.
    pub fn new(daemon: Rc<Daemon>, marks: &Path, delay: bool) -> anyhow::Result<Service> {
        if daemon
            .docker(&["info", "--format", "{{.Swarm.LocalNodeState}}"])?
            .trim()
            != "active"
        {
            daemon.docker(&["swarm", "init", "--advertise-addr", ADDRESS])?;
        }
        Ok(Service {
            daemon,
            marks: marks.to_owned(),
            delay,
        })
    }
}

impl Peer for Service {
    fn name(&self) -> &'static str {
        if self.delay {
            "docker service create"
        } else {
            "docker service create, delay 0"
        }
    }

    fn start(&mut self, count: usize) -> anyhow::Result<()> {
        let (count, mount) = (
            count.to_string(),
            format!("type=bind,src={},dst=/marks", self.marks.display()),
        );
        let mut arguments = vec![
            "service",
            "create",
            "--quiet",
            "--detach",
            "--name",
            "bench",
            "--no-resolve-image",
        ];
        arguments.extend(["--replicas", &count, "--mount", &mount]);
        if !self.delay {
            arguments.extend(["--restart-delay", "0s"]);
        }
        arguments.push(NAME);
        self.daemon.docker(&arguments).map(drop)
    }

    fn remove(&mut self) -> anyhow::Result<()> {
        if self.daemon.docker(&["service", "ls", "--quiet"])?.is_empty() {
            return Ok(());
        }
        self.daemon.docker(&["service", "rm", "bench"])?;
        let start = Instant::now();
        while !self.daemon.containers()?.is_empty() {
            anyhow::ensure!(
                start.elapsed() < crate::marks::DEADLINE,
                "the swarm does not remove its containers"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn supervisors(&self) -> anyhow::Result<(Vec<i32>, Vec<i32>)> {
        self.daemon.processes()
    }
}
