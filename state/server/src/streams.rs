//! What the API needs of whoever runs a pod: its logs and processes inside it.

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Bytes as they come; an `Err` is the last item.
pub type ByteStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Which lines of a container's log are wanted (the query of `pods/log`).
#[derive(Clone, Debug, Default)]
pub struct LogRequest {
    /// The container; `None` when the pod has only one.
    pub container: Option<String>,
    /// Keep the stream open for new lines.
    pub follow: bool,
    /// The previous, ended attempt instead of the current one.
    pub previous: bool,
    /// Only lines stamped at or after this time.
    pub since: Option<jiff::Timestamp>,
    /// Only the last so many lines.
    pub tail_lines: Option<usize>,
    /// Write each line's time before it.
    pub timestamps: bool,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
}

/// A process to start in a container (`pods/exec`), or a connection to its own (`pods/attach`).
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// The container; `None` when the pod has only one.
    pub container: Option<String>,
    /// Program and arguments; empty for attach.
    pub command: Vec<String>,
    /// Whether standard input is sent.
    pub stdin: bool,
    /// Whether standard output is wanted.
    pub stdout: bool,
    /// Whether standard error is wanted (never with a terminal).
    pub stderr: bool,
    /// Whether it gets a terminal.
    pub tty: bool,
}

/// The ends of a started process.
pub struct ExecStreams {
    /// Where standard input goes; dropping it closes it.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Standard output, or the terminal.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Standard error.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// New sizes of the terminal, as (columns, rows).
    pub resize: Option<mpsc::Sender<(u16, u16)>>,
    /// Resolves to the exit code when the process has ended. Dropping it kills the process.
    pub exit: BoxFuture<'static, Result<i32, StreamError>>,
}

impl ExecStreams {
    /// A process that never was: nothing but why.
    pub(crate) fn failed(error: StreamError) -> ExecStreams {
        ExecStreams {
            stdin: None,
            stdout: None,
            stderr: None,
            resize: None,
            exit: Box::pin(std::future::ready(Err(error))),
        }
    }
}

/// Why a stream could not be had.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The pod is not on a node that is connected.
    #[error("pod {namespace}/{pod} runs on node {node:?}, which is not connected")]
    NodeUnreachable {
        /// The pod's namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The node.
        node: String,
    },
    /// The request cannot be met as the pod is (no such container, not started, no previous attempt). Kubernetes answers 400.
    #[error("{0}")]
    BadRequest(String),
    /// The pod or what it needs is not known on its node.
    #[error("{0}")]
    NotFound(String),
    /// What is asked for is not there (yet); says so plainly.
    #[error("{0}")]
    NotSupported(String),
    /// It failed on the node.
    #[error("cannot {operation}")]
    Failed {
        /// What was being done, as a verb phrase.
        operation: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Reaches into running pods. The daemon joins it to the agents.
#[async_trait]
pub trait PodStreams: Send + Sync + 'static {
    /// Streams a container's log.
    async fn logs(
        &self,
        node: &str,
        namespace: &str,
        pod: &str,
        request: LogRequest,
    ) -> Result<ByteStream, StreamError>;

    /// Starts a process in a container.
    async fn exec(
        &self,
        node: &str,
        namespace: &str,
        pod: &str,
        request: ExecRequest,
    ) -> Result<ExecStreams, StreamError>;
}
