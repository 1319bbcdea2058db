//! The runtime and image store of this machine as the agent sees them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use setpoint_runtime::images::{Image, ImageError, ImageStore, Keyring, Progress, RegistryError};
use setpoint_runtime::logs::ReadOptions;
use setpoint_runtime::spec::{
    ContainerSpec, ContainerState, ExecSpec, Resources, RuntimeEvent, SandboxSpec, SandboxState,
};
use setpoint_runtime::{ExecSession, Runtime, RuntimeError, SandboxCounters, SandboxStats, StartStage};
use tokio::sync::broadcast;
use tokio_stream::wrappers::ReceiverStream;

use crate::containers::{Containers, ImageFailure, ReadyImage, RuntimeFailure, chain};
use crate::streams::{Duplex, ExecStreams, LogRequest, LogStream, StreamError};

/// A runtime with its images.
pub(crate) struct Host {
    runtime: Arc<Runtime>,
    images: Arc<ImageStore>,
}

impl Host {
    /// Joins a runtime and its images.
    pub(crate) fn new(runtime: Arc<Runtime>, images: Arc<ImageStore>) -> Self {
        Self { runtime, images }
    }
}

fn failed(error: RuntimeError) -> RuntimeFailure {
    let code = match &error {
        RuntimeError::Start {
            stage: StartStage::Start,
            code,
            ..
        } => *code,
        _ => 128,
    };
    RuntimeFailure {
        reason: error.reason(),
        message: chain(&error),
        code,
    }
}

fn image_failed(error: ImageError) -> (ImageFailure, String) {
    let failure = match &error {
        ImageError::Source(RegistryError::Reference { .. }) => ImageFailure::InvalidName,
        _ => ImageFailure::Pull,
    };
    (failure, chain(&error))
}

fn ready(image: Image) -> ReadyImage {
    ReadyImage {
        id: image.id,
        digest: image.digest,
        user: image.config.user,
        size: image.size,
    }
}

fn streams(session: ExecSession) -> ExecStreams {
    let exit = session.exit.map(|result| {
        result.map_err(|error| StreamError::Failed {
            operation: "run the process".to_owned(),
            source: Box::new(error),
        })
    });
    ExecStreams {
        stdin: session.stdin,
        stdout: session.stdout,
        stderr: session.stderr,
        resize: session.resize,
        exit: exit.boxed(),
    }
}

#[async_trait]
impl Containers for Host {
    async fn sandboxes(&self) -> Result<Vec<SandboxState>, RuntimeFailure> {
        Ok(self.runtime.sandboxes())
    }

    async fn sandbox(&self, id: &str) -> Result<Option<SandboxState>, RuntimeFailure> {
        Ok(self.runtime.sandbox(id))
    }

    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxState, RuntimeFailure> {
        self.runtime.create_sandbox(spec).await.map_err(failed)
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeFailure> {
        self.runtime.remove_sandbox(id).await.map_err(failed)
    }

    async fn clear_sandbox(&self, id: &str) -> Result<(), RuntimeFailure> {
        self.runtime.clear_sandbox(id).await.map_err(failed)
    }

    async fn past(&self, id: &str) -> Vec<ContainerState> {
        self.runtime.past(id)
    }

    async fn forget_all_but(&self, ids: &BTreeSet<String>) {
        self.runtime.forget_all_but(ids).await;
    }

    async fn close_sandbox(&self, id: &str) -> Result<(), RuntimeFailure> {
        self.runtime.close_sandbox(id).await.map_err(failed)
    }

    async fn start_container(&self, sandbox: &str, spec: ContainerSpec) -> Result<ContainerState, RuntimeFailure> {
        self.runtime.start_container(sandbox, spec).await.map_err(failed)
    }

    async fn resize(
        &self,
        sandbox: &str,
        whole: Resources,
        containers: Vec<(String, Resources)>,
    ) -> Result<(), RuntimeFailure> {
        self.runtime.resize(sandbox, &whole, &containers).await.map_err(failed)
    }

    async fn stop_container(&self, sandbox: &str, container: &str, grace: Duration) -> Result<(), RuntimeFailure> {
        self.runtime
            .stop_container(sandbox, container, grace)
            .await
            .map(drop)
            .map_err(failed)
    }

    async fn remove_container(&self, sandbox: &str, container: &str) -> Result<(), RuntimeFailure> {
        self.runtime.remove_container(sandbox, container).await.map_err(failed)
    }

    async fn exec(&self, sandbox: &str, container: &str, spec: ExecSpec) -> Result<ExecStreams, RuntimeFailure> {
        let session = self.runtime.exec(sandbox, container, spec).await.map_err(failed)?;
        Ok(streams(session))
    }

    async fn attach(&self, sandbox: &str, container: &str, stdin: bool) -> Result<ExecStreams, RuntimeFailure> {
        let session = self.runtime.attach(sandbox, container, stdin).await.map_err(failed)?;
        Ok(streams(session))
    }

    async fn connect(&self, sandbox: &str, port: u16) -> Result<Box<dyn Duplex>, RuntimeFailure> {
        let stream = self.runtime.connect(sandbox, port).await.map_err(failed)?;
        Ok(Box::new(stream))
    }

    async fn stats(&self, sandbox: &str) -> Result<SandboxStats, RuntimeFailure> {
        self.runtime.stats(sandbox).await.map_err(failed)
    }

    async fn counters(&self, sandbox: &str) -> Result<SandboxCounters, RuntimeFailure> {
        self.runtime.counters(sandbox).await.map_err(failed)
    }

    async fn logs(
        &self,
        sandbox: &str,
        container: &str,
        attempt: u32,
        request: LogRequest,
    ) -> Result<LogStream, RuntimeFailure> {
        let options = ReadOptions {
            tail: request.tail_lines.and_then(|lines| u64::try_from(lines).ok()),
            since: request.since,
            timestamps: request.timestamps,
            limit_bytes: request.limit_bytes,
            follow: request.follow,
            stream: request.stream,
        };
        let lines = ReceiverStream::new(self.runtime.logs(sandbox, container, attempt, options));
        Ok(lines
            .map(|line| line.map_err(|error| std::io::Error::other(chain(&error))))
            .boxed())
    }

    fn written(&self, sandbox: &str, container: &str, attempt: u32) -> Vec<PathBuf> {
        let mut paths = self
            .runtime
            .log_files(sandbox, container, attempt)
            .unwrap_or_else(|error| {
                tracing::debug!(
                    error = chain(&error),
                    sandbox,
                    container,
                    "the files of a log cannot be listed"
                );
                vec![self.runtime.log_path(sandbox, container, attempt)]
            });
        paths.extend(self.runtime.written_paths(sandbox, container, attempt));
        paths
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.runtime.events()
    }

    async fn resolve_image(&self, reference: &str) -> Result<Option<ReadyImage>, (ImageFailure, String)> {
        let found = self.images.resolve(reference).map_err(image_failed)?;
        if let Some(image) = &found {
            self.images.want(&image.id);
        }
        Ok(found.map(ready))
    }

    async fn may_use_image(
        &self,
        reference: &str,
        id: &str,
        secrets: &Keyring,
    ) -> Result<bool, (ImageFailure, String)> {
        self.images.may_use(id, reference, secrets).map_err(image_failed)
    }

    async fn pull_image(&self, reference: &str, secrets: Keyring) -> Result<ReadyImage, (ImageFailure, String)> {
        let pulled = self.images.pull(reference, secrets, &Progress::default()).await;
        let image = pulled.map_err(image_failed)?;
        self.images.want(&image.id);
        Ok(ready(image))
    }
}
