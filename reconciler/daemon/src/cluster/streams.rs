//! Joins the API's streams (logs, exec) to the agent of this machine.

use std::sync::OnceLock;

use async_trait::async_trait;
use setpoint_agent::{Agent, StreamError as AgentError};
use setpoint_server::{ByteStream, ExecRequest, ExecStreams, LogRequest, PodStreams, StreamError};

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
}
