//! The daemon's side: sandboxes and containers by way of their shims.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use setpoint_net::Net;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{broadcast, mpsc};

use crate::error::RuntimeError;
use crate::images::{Image, ImageStore};
use crate::spec::{ContainerSpec, ContainerState, ExecSpec, RuntimeEvent, SandboxSpec, SandboxState};

/// The clock.
pub type Now = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// Where a runtime keeps its things and what it is called.
#[derive(Clone)]
pub struct RuntimeConfig {
    /// Where sandboxes keep root file systems, logs and states (below `sandboxes/`).
    pub data_dir: PathBuf,
    /// Where sockets are; short (at most 60 characters), gone after a reboot, for example `/run/setpoint-1a2b`.
    pub run_dir: PathBuf,
    /// Four hexadecimal digits, unique on the host; part of every name made here.
    pub instance: String,
    /// The clock.
    pub now: Now,
}

/// A process that runs inside a container. Dropping it kills the process.
pub struct ExecSession {
    /// Its standard input; dropping it closes the input.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Its standard output; with a terminal, the terminal.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Its standard error; `None` with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Takes (columns, rows) of the terminal.
    pub resize: Option<mpsc::Sender<(u16, u16)>>,
    /// Resolves with the exit code (128 + signal when a signal ended it).
    pub exit: BoxFuture<'static, Result<i32, RuntimeError>>,
}

/// What a cgroup used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// Memory in bytes without reclaimable file cache (the working set).
    pub memory_bytes: u64,
}

/// What a sandbox used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxStats {
    /// All of it together.
    pub total: Usage,
    /// Each running container by its id (`NAME-ATTEMPT`).
    pub containers: Vec<(String, Usage)>,
}

/// The containers of one instance on this host. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {}

impl Runtime {
    /// Starts the process that makes shims, and adopts every live sandbox of this instance; what is left of dead ones is taken away.
    pub async fn open(
        config: RuntimeConfig,
        images: Arc<ImageStore>,
        net: Option<Arc<Net>>,
    ) -> Result<(Runtime, Vec<SandboxState>), RuntimeError> {
        todo!()
    }

    /// Returns a receiver of everything that happens from now on.
    pub fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        todo!()
    }

    /// Makes a pod's namespaces, network and cgroup. Nothing is left of it when that fails.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxState, RuntimeError> {
        todo!()
    }

    /// Starts a container and returns once its program is executed. Nothing is left of the attempt when that fails.
    pub async fn start_container(&self, sandbox: &str, spec: ContainerSpec) -> Result<ContainerState, RuntimeError> {
        todo!()
    }

    /// As [`Runtime::start_container`] with an image that need not be in the store.
    pub async fn start_container_with(
        &self,
        sandbox: &str,
        spec: ContainerSpec,
        image: &Image,
    ) -> Result<ContainerState, RuntimeError> {
        todo!()
    }

    /// Asks a container to stop and kills it when it has not after `grace`. Returns how it ended.
    pub async fn stop_container(
        &self,
        sandbox: &str,
        container: &str,
        grace: Duration,
    ) -> Result<ContainerState, RuntimeError> {
        todo!()
    }

    /// Sends a signal to a container's first process.
    pub async fn signal(&self, sandbox: &str, container: &str, signal: i32) -> Result<(), RuntimeError> {
        todo!()
    }

    /// Removes what is left of an attempt (it is killed if it runs): files, cgroup, log.
    pub async fn remove_container(&self, sandbox: &str, container: &str) -> Result<(), RuntimeError> {
        todo!()
    }

    /// Kills a sandbox and removes everything that it had. Succeeds when there is none.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        todo!()
    }

    /// Returns every sandbox as last reported by its shim.
    pub fn sandboxes(&self) -> Vec<SandboxState> {
        todo!()
    }

    /// Returns one sandbox as last reported by its shim.
    pub fn sandbox(&self, id: &str) -> Option<SandboxState> {
        todo!()
    }

    /// Runs a process inside a running container.
    pub async fn exec(&self, sandbox: &str, container: &str, spec: ExecSpec) -> Result<ExecSession, RuntimeError> {
        todo!()
    }

    /// Returns the current log file of an attempt.
    pub fn log_path(&self, sandbox: &str, container: &str, attempt: u32) -> PathBuf {
        todo!()
    }

    /// Streams the log of an attempt; with `options.follow` until the container ended.
    pub fn logs(
        &self,
        sandbox: &str,
        container: &str,
        attempt: u32,
        options: crate::logs::ReadOptions,
    ) -> mpsc::Receiver<Result<bytes::Bytes, RuntimeError>> {
        todo!()
    }

    /// Returns what a sandbox used so far.
    pub async fn stats(&self, sandbox: &str) -> Result<SandboxStats, RuntimeError> {
        todo!()
    }

    /// Removes every sandbox and everything else of an instance; needs no open runtime.
    pub async fn remove_all(data_dir: &Path, run_dir: &Path, instance: &str) -> Result<(), RuntimeError> {
        todo!()
    }
}
