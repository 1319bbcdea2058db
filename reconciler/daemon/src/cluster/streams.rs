//! Joins what the API asks of nodes (logs, processes, connections, figures) to the agent of this machine.

use std::sync::OnceLock;

use async_trait::async_trait;
use setpoint_agent::{Agent, StreamError as AgentError};
use setpoint_runtime::logs::Stream;
use setpoint_server::{
    ByteStream, Duplex, ExecRequest, ExecStreams, LogRequest, LogSource, NodeUsage, PodAddress, PodStreams, PodUsage,
    StreamError, Usage,
};

/// The one node of this process.
pub struct LocalNode {
    node: String,
    agent: OnceLock<Agent>,
}

impl LocalNode {
    /// Makes the node's place; requests are refused until [`connect`](Self::connect).
    pub fn new(node: String) -> Self {
        LocalNode {
            node,
            agent: OnceLock::new(),
        }
    }

    /// Joins the agent, once.
    pub fn connect(&self, agent: Agent) {
        if self.agent.set(agent).is_err() {
            tracing::error!("the node's agent was joined twice; the first stays");
        }
    }

    fn node(&self, node: &str) -> Result<&Agent, StreamError> {
        let agent = self.agent.get().filter(|_| node == self.node);
        agent.ok_or_else(|| StreamError::NodeNotConnected(node.to_string()))
    }

    fn agent(&self, node: &str, namespace: &str, pod: &str) -> Result<&Agent, StreamError> {
        self.agent
            .get()
            .filter(|_| node == self.node)
            .ok_or_else(|| StreamError::NodeUnreachable {
                namespace: namespace.to_string(),
                pod: pod.to_string(),
                node: node.to_string(),
            })
    }
}

fn error(error: AgentError) -> StreamError {
    match error {
        AgentError::BadRequest(message) => StreamError::BadRequest(message),
        AgentError::NotFound(message) => StreamError::NotFound(message),
        AgentError::Failed { operation, source } => StreamError::Failed { operation, source },
    }
}

#[async_trait]
impl PodStreams for LocalNode {
    async fn logs(
        &self,
        node: &str,
        namespace: &str,
        pod: &str,
        request: LogRequest,
    ) -> Result<ByteStream, StreamError> {
        let request = setpoint_agent::LogRequest {
            container: request.container,
            follow: request.follow,
            previous: request.previous,
            since: request.since,
            tail_lines: request.tail_lines,
            timestamps: request.timestamps,
            limit_bytes: request.limit_bytes,
            stream: request.stream.map(|stream| match stream {
                LogSource::Stdout => Stream::Stdout,
                LogSource::Stderr => Stream::Stderr,
            }),
        };
        self.agent(node, namespace, pod)?
            .logs(namespace, pod, request)
            .await
            .map_err(error)
    }

    async fn exec(
        &self,
        node: &str,
        namespace: &str,
        pod: &str,
        request: ExecRequest,
    ) -> Result<ExecStreams, StreamError> {
        let agent = self.agent(node, namespace, pod)?;
        let streams = if request.command.is_empty() {
            let request = setpoint_agent::AttachRequest {
                container: request.container,
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
            };
            agent.attach(namespace, pod, request).await.map_err(error)?
        } else {
            let request = setpoint_agent::ExecRequest {
                container: request.container,
                command: request.command,
                stdin: request.stdin,
                tty: request.tty,
            };
            agent.exec(namespace, pod, request).await.map_err(error)?
        };
        let exit = streams.exit;
        Ok(ExecStreams {
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
            resize: streams.resize,
            exit: Box::pin(async move { exit.await.map_err(error) }),
        })
    }

    async fn connect(
        &self,
        node: &str,
        namespace: &str,
        pod: &str,
        address: PodAddress,
        port: u16,
    ) -> Result<Box<dyn Duplex>, StreamError> {
        let address = match address {
            PodAddress::Loopback => setpoint_agent::PodAddress::Loopback,
            PodAddress::Pod => setpoint_agent::PodAddress::Pod,
        };
        let agent = self.agent(node, namespace, pod)?;
        let stream = agent.connect(namespace, pod, address, port).await.map_err(error)?;
        Ok(Box::new(stream))
    }

    async fn container_metrics(&self, node: &str) -> Result<String, StreamError> {
        self.node(node)?.container_metrics().await.map_err(error)
    }

    async fn usage(&self, node: &str) -> Result<NodeUsage, StreamError> {
        let usage = self.node(node)?.usage().await.map_err(error)?;
        Ok(NodeUsage {
            at: usage.at,
            window: usage.window,
            total: used(&usage.total),
            pods: usage.pods.into_iter().map(pod_used).collect(),
        })
    }
}

fn used(usage: &setpoint_agent::Usage) -> Usage {
    Usage {
        cpu_nanoseconds: usage.cpu_nanoseconds,
        cpu_nanocores: usage.cpu_nanocores,
        memory_bytes: usage.memory_bytes,
    }
}

fn pod_used(pod: setpoint_agent::PodUsage) -> PodUsage {
    PodUsage {
        namespace: pod.namespace,
        name: pod.name,
        uid: pod.uid,
        total: used(&pod.total),
        containers: pod
            .containers
            .iter()
            .map(|(name, usage)| (name.clone(), used(usage)))
            .collect(),
    }
}
