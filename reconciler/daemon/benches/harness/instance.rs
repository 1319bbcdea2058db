//! An instance of the release binary in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};

/// How long anything may take.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A running instance; taken down when it is dropped.
pub struct Instance {
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Instance {
    /// Prepares a folder; starts nothing.
    pub fn new() -> anyhow::Result<Instance> {
        Ok(Instance {
            folder: tempfile::Builder::new().prefix("setpoint-bench-").tempdir()?,
            child: None,
        })
    }

    /// The folder that holds the data directory in `data`, what `up` said in `announced`, and what a bench puts beside them.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A command of the binary about this instance.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_setpoint"));
        command
            .arg(name)
            .arg("--data-dir")
            .arg(self.data_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Starts the daemon with more arguments to `up`; returns how long it took until the API answered over TLS.
    pub async fn up(&mut self, arguments: &[&str]) -> anyhow::Result<Duration> {
        let log = std::fs::File::create(self.folder.path().join("log"))?;
        let announced = std::fs::File::create(self.folder.path().join("announced"))?;
        let mut command = self.command("up");
        command
            .args(arguments)
            .env("SETPOINT_LOG", "warn")
            .stdout(announced)
            .stderr(log);
        let start = Instant::now();
        self.child = Some(command.spawn()?);
        while start.elapsed() < DEADLINE {
            if let Ok(client) = self.client().await
                && client.apiserver_version().await.is_ok()
            {
                return Ok(start.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bail!(
            "the API did not answer; the log: {}",
            std::fs::read_to_string(self.folder.path().join("log"))?
        )
    }

    /// Ends the daemon and waits for its end; the pods keep running.
    pub fn end(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
            child.wait()?;
        }
        Ok(())
    }

    /// The daemon's process.
    pub fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.child.as_ref().context("the daemon runs")?.id())
    }

    /// A client over TLS, as any Kubernetes client connects.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        let kubeconfig = Kubeconfig::read_from(self.data_dir().join("kubeconfig"))?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// The demo image's root file system, once the first start has imported it: the API answers earlier.
    pub async fn demo_root(&self) -> anyhow::Result<PathBuf> {
        let images = self.data_dir().join("images");
        let start = Instant::now();
        while !images.join("references.json").exists() {
            anyhow::ensure!(start.elapsed() < DEADLINE, "the demo image was not imported");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let layers = images.join("layers");
        let layer = std::fs::read_dir(layers)?
            .next()
            .context("the demo image has a layer")??;
        Ok(layer.path().join("fs"))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let ended = self.end();
        let down = self.command("down").status();
        if ended.is_err() || !down.as_ref().is_ok_and(std::process::ExitStatus::success) {
            eprintln!(
                "the instance in {} could not be taken down: {ended:?} {down:?}",
                self.data_dir().display()
            );
        }
    }
}

/// The proportional set size of a process in kilobytes: shared pages count by their share.
pub fn pss_kb(pid: u64) -> anyhow::Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup
        .lines()
        .find(|line| line.starts_with("Pss:"))
        .context("the kernel reports a Pss")?;
    Ok(line
        .split_whitespace()
        .nth(1)
        .context("the kernel reports a Pss")?
        .parse()?)
}

/// The CPU time that a process has used.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .context("a stat line")?
        .1
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("the clock's rate is known")?;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}
