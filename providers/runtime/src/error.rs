//! Why the runtime could not do what was asked, in words fit for a pod's status.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::images::ImageError;

/// The step at which starting a container failed; each has its own reason in a pod's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StartStage {
    /// What was asked for cannot be honoured (for example runAsNonRoot with a root image).
    Config,
    /// The root file system, a mount, a cgroup or a namespace could not be made.
    Create,
    /// Everything was there, but the program could not be executed.
    Start,
}

/// Why the runtime could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No sandbox has this id.
    #[error("there is no sandbox {0}")]
    NoSandbox(String),
    /// No attempt of a container has this id.
    #[error("sandbox {sandbox} has no container {container}")]
    NoContainer {
        /// The sandbox's id.
        sandbox: String,
        /// The attempt's id, `NAME-ATTEMPT`.
        container: String,
    },
    /// The id is taken.
    #[error("{what} {id} exists already")]
    Exists {
        /// sandbox or container.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// What was asked for is not well formed.
    #[error("{0}")]
    Invalid(String),
    /// The container is not running.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// The image is not in the store.
    #[error("image {0} is not in the image store")]
    NoImage(String),
    /// The image store failed.
    #[error("cannot read image {image}")]
    Image {
        /// The image's id.
        image: String,
        /// The cause.
        #[source]
        source: ImageError,
    },
    /// A container could not be started. The message is complete, for a person.
    #[error("{message}")]
    Start {
        /// The step that failed.
        stage: StartStage,
        /// What failed, and why.
        message: String,
        /// The exit code that stands for it (126, 127 or 128).
        code: i32,
    },
    /// The pod's network could not be made or taken away.
    #[error("cannot {operation} the network of sandbox {sandbox}")]
    Network {
        /// attach or detach.
        operation: &'static str,
        /// The sandbox's id.
        sandbox: String,
        /// The cause.
        #[source]
        source: setpoint_net::NetError,
    },
    /// The shim of a sandbox refused or failed a request.
    #[error("the shim of sandbox {sandbox} cannot {operation}: {message}")]
    Shim {
        /// The sandbox's id.
        sandbox: String,
        /// What it was asked for.
        operation: &'static str,
        /// Its answer.
        message: String,
    },
    /// What runs could not be given other limits.
    #[error("cannot resize {what}")]
    Resize {
        /// The sandbox or container.
        what: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The shim of a sandbox is gone, and with it its containers.
    #[error("the shim of sandbox {0} is gone")]
    ShimGone(String),
    /// The shim of a sandbox may live, but this daemon could not connect to it yet.
    #[error("the shim of sandbox {0} cannot be reached; its containers are left as they are, and it is tried again")]
    Unreached(String),
    /// The shim speaks another protocol than this build.
    #[error("the shim of sandbox {sandbox} speaks protocol {theirs}, this build {ours}; delete the pod to replace it")]
    Protocol {
        /// The sandbox's id.
        sandbox: String,
        /// The shim's version.
        theirs: u32,
        /// Our version.
        ours: u32,
    },
    /// The shim was begun by an earlier build and does not know what a container needs: the sandbox has to be made anew for that.
    #[error(
        "the pod was begun by an earlier version of this program, whose part in it does not know {what}; delete the pod to have it made anew"
    )]
    Outdated {
        /// The sandbox's id.
        sandbox: String,
        /// What it does not know.
        what: &'static str,
    },
    /// Nothing inside a sandbox took a connection.
    #[error("failed to connect to localhost:{port} inside the pod: {message}")]
    Connect {
        /// The port.
        port: u16,
        /// What became of each try.
        message: String,
    },
    /// Something took longer than its deadline.
    #[error("{operation} took longer than {seconds} s")]
    Deadline {
        /// What was waited for.
        operation: String,
        /// The deadline.
        seconds: u64,
    },
    /// The operating system refused something.
    #[error("cannot {operation} {path}", path = .path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The process that forks the shims cannot be started or reached.
    #[error("cannot reach the process that starts shims")]
    Spawner(#[source] std::io::Error),
}

impl RuntimeError {
    /// Returns the reason that Kubernetes shows for it in a container's waiting or terminated state.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Start {
                stage: StartStage::Config,
                ..
            } => "CreateContainerConfigError",
            Self::Start {
                stage: StartStage::Start,
                ..
            } => "StartError",
            Self::NoImage(_) | Self::Image { .. } => "ErrImageNeverPull",
            Self::Network { .. } => "FailedCreatePodSandBox",
            Self::Outdated { .. } => "SandboxOutdated",
            _ => "CreateContainerError",
        }
    }

    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

/// Something that the host lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What is missing.
    pub what: String,
    /// What to do about it.
    pub advice: String,
    /// Whether nothing can run without it.
    pub fatal: bool,
}
