//! What the API needs of whoever runs pods: their logs, processes inside them, connections into them, and what they use.

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
    /// Only what was written to this stream; `None` for both.
    pub stream: Option<LogSource>,
}

/// A container's stream that its log is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
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

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Which of a pod's addresses is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodAddress {
    /// `localhost` as the pod sees it, from inside of it: for forwarded ports.
    Loopback,
    /// The address that others reach the pod by: for what is proxied.
    Pod,
}

/// What something used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time since it began, in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// The rate at which CPU time was used over the window, in nanoseconds per second (10⁹ is one core).
    pub cpu_nanocores: u64,
    /// Memory without reclaimable file cache (the working set), in bytes.
    pub memory_bytes: u64,
}

/// What a node and its pods used over the last window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeUsage {
    /// The end of the window.
    pub at: jiff::Timestamp,
    /// How long the window was.
    pub window: std::time::Duration,
    /// The node as a whole.
    pub total: Usage,
    /// The pods of which something runs.
    pub pods: Vec<PodUsage>,
}

/// What a pod used over the last window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodUsage {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub name: String,
    /// Tells pods of one name apart over time.
    pub uid: String,
    /// The pod as a whole.
    pub total: Usage,
    /// Each container that runs, by its name.
    pub containers: Vec<(String, Usage)>,
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
    /// The node itself is asked, and is not connected.
    #[error("node {0:?} is not connected")]
    NodeNotConnected(String),
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

    /// Opens a TCP connection to a port of a pod, which runs. The cause of a failure is told in the words of Go's `net` package.
    async fn connect(
        &self,
        node: &str,
        namespace: &str,
        pod: &str,
        address: PodAddress,
        port: u16,
    ) -> Result<Box<dyn Duplex>, StreamError> {
        Err(StreamError::NotSupported(format!(
            "cannot connect to port {port} ({address:?}) of pod {namespace}/{pod} on node {node:?}: that is not supported"
        )))
    }

    /// Returns what a node and its pods used, not older than a quarter of a minute.
    async fn usage(&self, node: &str) -> Result<NodeUsage, StreamError> {
        Err(StreamError::NotSupported(format!("node {node:?} is not measured")))
    }

    /// Returns what a node's containers use, in Prometheus' text form under cAdvisor's names.
    async fn container_metrics(&self, node: &str) -> Result<String, StreamError> {
        Err(StreamError::NotSupported(format!("node {node:?} is not measured")))
    }
}
