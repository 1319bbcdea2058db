//! What the agent needs of a runtime: a narrow seam, so that a worker can be driven by a scripted world in tests.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use setpoint_runtime::images::Keyring;
use setpoint_runtime::spec::{
    ContainerSpec, ContainerState, ExecSpec, Resources, RuntimeEvent, SandboxSpec, SandboxState,
};
use setpoint_runtime::{SandboxCounters, SandboxStats};
use tokio::sync::broadcast;

use crate::streams::{Duplex, ExecStreams, LogRequest, LogStream};

/// An image that is ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyImage {
    /// Its id in the store (the config digest).
    pub id: String,
    /// Its manifest's digest; empty when it is not known.
    pub digest: String,
    /// The user that its config names.
    pub user: Option<String>,
    /// Its size in bytes.
    pub size: u64,
}

/// Why an image could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFailure {
    /// The reference is no valid image reference.
    InvalidName,
    /// Anything else: not found, not reachable, not readable.
    Pull,
}

/// The reason of a container that needs a sandbox of this build.
pub const OUTDATED: &str = "SandboxOutdated";

/// A failed request to the runtime.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeFailure {
    /// The reason that a container's status shows.
    pub reason: &'static str,
    /// The whole chain of causes in one line.
    pub message: String,
    /// The exit code that stands for it, when it was the program itself that could not be executed.
    pub code: i32,
}

impl RuntimeFailure {
    /// Makes a failure that says no more than its message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            reason: "CreateContainerError",
            message: message.into(),
            code: 128,
        }
    }
}

/// Writes an error with all its causes in one line, separated by colons.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Runs sandboxes and containers, and keeps images.
#[async_trait]
pub trait Containers: Send + Sync + 'static {
    /// Returns every sandbox that runs or ran.
    async fn sandboxes(&self) -> Result<Vec<SandboxState>, RuntimeFailure>;
    /// Returns one sandbox's state.
    async fn sandbox(&self, id: &str) -> Result<Option<SandboxState>, RuntimeFailure>;
    /// Makes a sandbox, its network included.
    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxState, RuntimeFailure>;
    /// Ends a sandbox, kills what is left in it, and removes every trace of it. Succeeds when there is none.
    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeFailure>;
    /// As [`Containers::remove_sandbox`], but for the logs and exit codes of its containers: it is to be made anew.
    async fn clear_sandbox(&self, id: &str) -> Result<(), RuntimeFailure> {
        self.remove_sandbox(id).await
    }
    /// Returns the containers that ended with former sandboxes of this id, and whose logs are kept.
    async fn past(&self, _id: &str) -> Vec<ContainerState> {
        Vec::new()
    }
    /// Removes what is kept of dead sandboxes but those with these ids.
    async fn forget_all_but(&self, _ids: &BTreeSet<String>) {}
    /// Ends a sandbox of which no container runs; its logs and the containers' states stay until it is removed. Succeeds when that is done already.
    async fn close_sandbox(&self, id: &str) -> Result<(), RuntimeFailure>;
    /// Starts a container and returns once its first process runs.
    async fn start_container(&self, sandbox: &str, spec: ContainerSpec) -> Result<ContainerState, RuntimeFailure>;
    /// Gives a sandbox and running containers in it (by `NAME-ATTEMPT`) other limits.
    async fn resize(
        &self,
        sandbox: &str,
        whole: Resources,
        containers: Vec<(String, Resources)>,
    ) -> Result<(), RuntimeFailure>;
    /// Sends the stop signal, waits for at most `grace`, kills; returns once the container has ended.
    async fn stop_container(&self, sandbox: &str, container: &str, grace: Duration) -> Result<(), RuntimeFailure>;
    /// Removes an ended attempt with its log.
    async fn remove_container(&self, sandbox: &str, container: &str) -> Result<(), RuntimeFailure>;
    /// Starts a process in a running container.
    async fn exec(&self, sandbox: &str, container: &str, spec: ExecSpec) -> Result<ExecStreams, RuntimeFailure>;
    /// Connects to the streams of a running container; its input where `stdin` asks for it and it has one.
    async fn attach(&self, sandbox: &str, container: &str, stdin: bool) -> Result<ExecStreams, RuntimeFailure>;
    /// Connects to a port of `localhost` inside a sandbox.
    async fn connect(&self, sandbox: &str, port: u16) -> Result<Box<dyn Duplex>, RuntimeFailure>;
    /// Returns what a sandbox used so far.
    async fn stats(&self, sandbox: &str) -> Result<SandboxStats, RuntimeFailure>;
    /// Returns all that the kernel counted of a sandbox.
    async fn counters(&self, sandbox: &str) -> Result<SandboxCounters, RuntimeFailure>;
    /// Streams an attempt's log.
    async fn logs(
        &self,
        sandbox: &str,
        container: &str,
        attempt: u32,
        request: LogRequest,
    ) -> Result<LogStream, RuntimeFailure>;
    /// Returns where an attempt's log and the files that it wrote to its root lie on this machine's disk.
    fn written(&self, _sandbox: &str, _container: &str, _attempt: u32) -> Vec<PathBuf> {
        Vec::new()
    }
    /// Returns a receiver of what happens by itself from now on.
    fn events(&self) -> broadcast::Receiver<RuntimeEvent>;
    /// Returns the image that a reference names in the store.
    async fn resolve_image(&self, reference: &str) -> Result<Option<ReadyImage>, (ImageFailure, String)>;
    /// Whether a pod with these credentials may use an image that is here, by the name that it has for it, without asking the registry.
    async fn may_use_image(&self, reference: &str, id: &str, secrets: &Keyring)
    -> Result<bool, (ImageFailure, String)>;
    /// Fetches an image with a pod's credentials, or else this machine's.
    async fn pull_image(&self, reference: &str, secrets: Keyring) -> Result<ReadyImage, (ImageFailure, String)>;
}
