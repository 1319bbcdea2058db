//! Logs of containers and processes inside them, for whoever serves `pods/log` and `pods/exec`.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use setpoint_runtime::spec::ContainerState;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::roles::{self, Role};

/// A log's bytes as they come; an `Err` is the last item.
pub type LogStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Which lines of a container's log are wanted.
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
    pub stream: Option<setpoint_runtime::logs::Stream>,
}

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Which of a pod's addresses is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodAddress {
    /// `localhost` as the pod sees it.
    Loopback,
    /// The address that others reach the pod by.
    Pod,
}

/// A process to start in a container.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// The container; `None` when the pod has only one.
    pub container: Option<String>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Whether standard input is sent.
    pub stdin: bool,
    /// Whether it gets a terminal.
    pub tty: bool,
}

/// What is wanted of a container's own streams.
#[derive(Clone, Debug, Default)]
pub struct AttachRequest {
    /// The container; `None` when the pod has only one.
    pub container: Option<String>,
    /// Whether standard input is sent.
    pub stdin: bool,
    /// Whether standard output is wanted.
    pub stdout: bool,
    /// Whether standard error is wanted.
    pub stderr: bool,
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
    /// Resolves to the exit code when the process has ended.
    pub exit: BoxFuture<'static, Result<i32, StreamError>>,
}

/// Why a stream could not be had.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The request cannot be met as the pod is (no such container, not started, no previous attempt).
    #[error("{0}")]
    BadRequest(String),
    /// The pod is not known on this node.
    #[error("{0}")]
    NotFound(String),
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

/// Returns the container that is meant: the named one, the only one, or the one that the pod's annotation names.
pub(crate) fn pick_container(pod: &Pod, wanted: Option<&str>) -> Result<String, StreamError> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let mains: Vec<&str> = spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .map(|container| container.name.as_str())
        .collect();
    let inits = spec.map_or_else(Vec::new, |spec| roles::names(spec, Role::Init));
    if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
        return if roles::role(pod, wanted).is_some() {
            Ok(wanted.to_owned())
        } else {
            Err(StreamError::BadRequest(format!(
                "container {wanted} is not valid for pod {name}"
            )))
        };
    }
    if let [only] = mains.as_slice() {
        return Ok((*only).to_owned());
    }
    let annotation = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get("kubectl.kubernetes.io/default-container"));
    if let Some(default) = annotation.filter(|default| mains.contains(&default.as_str())) {
        return Ok(default.clone());
    }
    let init = if inits.is_empty() {
        String::new()
    } else {
        format!(" or one of the init containers: [{}]", inits.join(" "))
    };
    Err(StreamError::BadRequest(format!(
        "a container name must be specified for pod {name}, choose one of: [{}]{init}",
        mains.join(" ")
    )))
}

/// Returns the attempt whose log is meant; `attempts` are those that the runtime still has, oldest first.
pub(crate) fn pick_attempt(
    pod: &Pod,
    container: &str,
    attempts: &[ContainerState],
    previous: bool,
) -> Result<u32, StreamError> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if previous {
        // As the status shows it: of a container that waits for its restart it is the newest one.
        let waits = statuses(pod, container)
            .filter_map(|status| status.state.as_ref())
            .any(|state| state.waiting.is_some());
        let newest_ended = attempts.last().is_some_and(|state| state.exit.is_some());
        let back = if waits && newest_ended { 1 } else { 2 };
        let before = attempts.len().checked_sub(back).and_then(|at| attempts.get(at));
        let message = || format!("previous terminated container \"{container}\" in pod \"{name}\" not found");
        return before
            .map(|state| state.attempt)
            .ok_or_else(|| StreamError::BadRequest(message()));
    }
    if let Some(current) = attempts.last() {
        return Ok(current.attempt);
    }
    let mut states = statuses(pod, container).filter_map(|status| status.state.as_ref());
    let reason = states.find_map(|state| state.waiting.as_ref()?.reason.clone());
    let reason = reason.unwrap_or_else(|| "ContainerCreating".to_owned());
    Err(StreamError::BadRequest(match reason.as_str() {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
            format!("container \"{container}\" in pod \"{name}\" is waiting to start: trying and failing to pull image")
        }
        _ => format!("container \"{container}\" in pod \"{name}\" is waiting to start: {reason}"),
    }))
}

fn statuses<'a>(pod: &'a Pod, container: &'a str) -> impl Iterator<Item = &'a ContainerStatus> {
    let all = pod.status.iter().flat_map(|status| {
        status
            .container_statuses
            .iter()
            .flatten()
            .chain(status.init_container_statuses.iter().flatten())
            .chain(status.ephemeral_container_statuses.iter().flatten())
    });
    all.filter(move |status| status.name == container)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(containers: &[&str]) -> Pod {
        let containers: Vec<_> = containers.iter().map(|name| json!({"name": name})).collect();
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"containers": containers}})).expect("a pod")
    }

    fn attempt(number: u32) -> ContainerState {
        let started_at = jiff::Timestamp::UNIX_EPOCH;
        ContainerState {
            mounted: Vec::new(),
            name: "a".to_owned(),
            attempt: number,
            image: String::new(),
            pid: 1,
            started_at,
            exit: None,
        }
    }

    #[test]
    fn the_only_container_need_not_be_named_and_one_of_several_must() {
        assert_eq!(pick_container(&pod(&["a"]), None).expect("a"), "a");
        let error = pick_container(&pod(&["a", "b"]), None).expect_err("ambiguous");
        assert_eq!(
            error.to_string(),
            "a container name must be specified for pod web, choose one of: [a b]"
        );
        let error = pick_container(&pod(&["a"]), Some("x")).expect_err("unknown");
        assert_eq!(error.to_string(), "container x is not valid for pod web");
    }

    #[test]
    fn the_current_or_the_previous_attempt_is_read() {
        let pod = pod(&["a"]);
        assert_eq!(
            pick_attempt(&pod, "a", &[attempt(3), attempt(4)], false).expect("one"),
            4
        );
        assert_eq!(
            pick_attempt(&pod, "a", &[attempt(3), attempt(4)], true).expect("one"),
            3
        );
        let error = pick_attempt(&pod, "a", &[attempt(0)], true).expect_err("none");
        assert_eq!(
            error.to_string(),
            "previous terminated container \"a\" in pod \"web\" not found"
        );
        let error = pick_attempt(&pod, "a", &[], false).expect_err("none");
        assert_eq!(
            error.to_string(),
            "container \"a\" in pod \"web\" is waiting to start: ContainerCreating"
        );
    }

    #[test]
    fn the_previous_attempt_of_a_container_in_back_off_is_its_newest() {
        let mut pod = pod(&["a"]);
        let waiting = json!({"containerStatuses": [{"name": "a", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "image": "",
            "imageID": "", "ready": false, "restartCount": 4}]});
        pod.status = Some(serde_json::from_value(waiting).expect("a status"));
        let ended = |number| ContainerState {
            exit: Some(setpoint_runtime::spec::Exit {
                code: 1,
                signal: None,
                oom_killed: false,
                finished_at: jiff::Timestamp::UNIX_EPOCH,
            }),
            ..attempt(number)
        };
        let attempts = [ended(3), ended(4)];
        assert_eq!(pick_attempt(&pod, "a", &attempts, true).expect("one"), 4);
        assert_eq!(pick_attempt(&pod, "a", &attempts, false).expect("one"), 4);
    }
}
