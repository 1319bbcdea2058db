//! What the daemon and a shim say to each other: length-prefixed JSON over a unix socket.
//!
//! A shim may be older than the daemon that talks to it, so the first frame in each direction is a hello with a
//! version. Within a version only optional fields are added (what a shim must know of is announced: see [`features`]), which `protocol/frames-1.json` holds: frames as the first
//! release of the version sent them. Order matters: a change of state is sent before the
//! answer or the event that it belongs to.

pub(crate) mod features;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cgroup::Hierarchies;
use crate::error::StartStage;
use crate::fault::Fault;
use crate::spec::{ContainerSpec, ContainerState, ExecSpec, SandboxSpec, SandboxState};

/// The version that this build speaks.
pub(crate) const VERSION: u32 = 1;

/// The largest frame, in bytes: what a container's environment can be, and some.
pub(crate) const MAX_FRAME: usize = 8 << 20;

/// What the spawner is asked for. The shim's first connection comes along as a descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ShimSetup {
    /// The sandbox.
    pub(crate) spec: SandboxSpec,
    /// The sandbox's directory.
    pub(crate) dir: PathBuf,
    /// Where the shim listens.
    pub(crate) socket: PathBuf,
    /// The instance, for the names of cgroups.
    pub(crate) instance: String,
    /// Where cgroups are on this host.
    pub(crate) hierarchies: Hierarchies,
    /// The step that a test makes fail.
    #[serde(default, skip_serializing_if = "Fault::is_none")]
    pub(crate) fault: Fault,
}

/// The first frame of a shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ShimHello {
    /// The version that it speaks.
    pub(crate) protocol: u32,
    /// Its process.
    pub(crate) pid: i32,
    /// Why the sandbox could not be made; the shim is gone then.
    pub(crate) error: Option<String>,
    /// The sandbox as it is.
    pub(crate) state: Option<SandboxState>,
    /// What it can, by the names in [`features`].
    #[serde(default)]
    pub(crate) features: Vec<String>,
}

/// The first frame of a client.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ClientHello {
    /// The version that it speaks.
    pub(crate) protocol: u32,
    /// Whether it wants to hear of every change.
    pub(crate) subscribe: bool,
}

/// A container with everything resolved that needs the image store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerRequest {
    /// What was asked for.
    pub(crate) spec: ContainerSpec,
    /// Program and arguments.
    pub(crate) args: Vec<String>,
    /// The whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// The working directory.
    pub(crate) cwd: String,
    /// The image's user: empty, `user`, `uid`, `user:group`, ….
    pub(crate) user: String,
    /// The signal that asks it to stop.
    pub(crate) stop_signal: i32,
    /// The image's layers, bottom first.
    pub(crate) layers: Vec<PathBuf>,
    /// The volumes that the image declares and nothing is mounted on, as clean absolute paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) volumes: Vec<PathBuf>,
    /// The step that a test makes fail.
    #[serde(default, skip_serializing_if = "Fault::is_none")]
    pub(crate) fault: Fault,
}

/// What a client asks a shim for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Request {
    /// Starts a container.
    Start(Box<ContainerRequest>),
    /// Sends a signal to a container's first process.
    Signal {
        /// The attempt's id.
        container: String,
        /// The signal's number.
        signal: i32,
    },
    /// Asks a container to stop, with the signal that its image names.
    Stop {
        /// The attempt's id.
        container: String,
    },
    /// Kills every process of a container.
    Kill {
        /// The attempt's id.
        container: String,
    },
    /// Forgets an attempt that ended, and removes its files.
    Remove {
        /// The attempt's id.
        container: String,
    },
    /// Runs a process in a container. This connection is then the session: closing it kills the process. Without
    /// a terminal the frame carries descriptors: stdin (when wanted), stdout, stderr.
    Exec {
        /// The attempt's id.
        container: String,
        /// What to run.
        spec: ExecSpec,
    },
    /// Connects to a container's own streams from now on. This connection is then the session. The frame carries descriptors
    /// for its output, stream by stream; the answer brings its terminal along, or its input where that is wanted and there
    /// is one. Its end is told as that of a process.
    Attach {
        /// The attempt's id.
        container: String,
        /// Whether input is wanted.
        stdin: bool,
    },
    /// The client has no more input; the container's is closed where it ends with the first client.
    CloseInput {
        /// The attempt's id.
        container: String,
    },
    /// Kills everything and ends.
    Shutdown,
}

/// A request and the number under which it is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    /// Unique on its connection.
    pub(crate) id: u64,
    /// What is wanted.
    pub(crate) request: Request,
}

/// Why a shim refused or failed a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// For a container that did not start: the step.
    pub(crate) stage: Option<StartStage>,
    /// What went wrong, for a person.
    pub(crate) message: String,
    /// The exit code that stands for it.
    pub(crate) code: i32,
}

impl Failure {
    /// A failure that is not about starting a container.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self {
            stage: None,
            message: message.into(),
            code: 1,
        }
    }
}

/// What a shim says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Message {
    /// The sandbox changed; to subscribers.
    State(Box<SandboxState>),
    /// A container ended; to subscribers, after the state that says so.
    Exited(Box<ContainerState>),
    /// The answer to a call. A process with a terminal sends the terminal along as a descriptor.
    Answer {
        /// The call's number.
        id: u64,
        /// What was wrong; `None` when all was well.
        failure: Option<Failure>,
    },
    /// The process that was asked for ended.
    ExecExited {
        /// Its exit code.
        code: i32,
    },
}

/// Encodes one frame.
pub(crate) fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, value)?;
    let length = frame.len() - 4;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too large"));
    }
    frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(frame)
}

/// Bytes and descriptors that arrived, until they make whole frames.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    /// Descriptors in order of arrival.
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Inbox {
    /// Adds what arrived.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next whole frame out.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*head) as usize;
        if length > MAX_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the frame is too large"));
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let value = serde_json::from_slice(body)?;
        self.bytes.drain(..4 + length);
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_arriving_in_pieces() {
        let hello = ClientHello {
            protocol: VERSION,
            subscribe: true,
        };
        let frame = encode(&hello).unwrap();
        let mut inbox = Inbox::default();
        for byte in &frame[..frame.len() - 1] {
            inbox.push(&[*byte]);
            assert!(inbox.next::<ClientHello>().unwrap().is_none());
        }
        inbox.push(&frame[frame.len() - 1..]);
        assert!(inbox.next::<ClientHello>().unwrap().unwrap().subscribe);
        assert!(inbox.next::<ClientHello>().unwrap().is_none());
    }

    #[test]
    fn a_frame_that_claims_to_be_huge_is_refused() {
        let mut inbox = Inbox::default();
        inbox.push(&u32::MAX.to_le_bytes());
        assert!(inbox.next::<ClientHello>().is_err());
    }

    /// Reads frames of the first release of this version, and writes them again; an older reader finds all that it knows.
    fn hold<T: Serialize + DeserializeOwned>(frames: &serde_json::Value) {
        let kind = std::any::type_name::<T>().rsplit("::").next().unwrap();
        let frames = frames[kind].as_array().unwrap_or_else(|| panic!("no frames of {kind}"));
        for frame in frames {
            let read: T = serde_json::from_value(frame.clone())
                .unwrap_or_else(|error| panic!("{kind} of an older release cannot be read ({error}): {frame}"));
            let written = serde_json::to_value(&read).unwrap();
            assert!(
                includes(&written, frame),
                "an older release misses something in {written}, it sent {frame}"
            );
        }
    }

    fn includes(all: &serde_json::Value, part: &serde_json::Value) -> bool {
        match (all, part) {
            (serde_json::Value::Object(all), serde_json::Value::Object(part)) => {
                let found = |(key, value)| all.get(key).is_some_and(|found| includes(found, value));
                part.iter().all(found)
            }
            (serde_json::Value::Array(all), serde_json::Value::Array(part)) => {
                all.len() == part.len() && all.iter().zip(part).all(|(all, part)| includes(all, part))
            }
            _ => all == part,
        }
    }

    #[test]
    fn frames_of_older_releases_of_this_version_are_read_and_written() {
        assert_eq!(
            VERSION, 1,
            "keep the frames of the versions before, and add those of the new one"
        );
        let frames = serde_json::from_str(include_str!("protocol/frames-1.json")).unwrap();
        hold::<ShimSetup>(&frames);
        hold::<ShimHello>(&frames);
        hold::<ClientHello>(&frames);
        hold::<Call>(&frames);
        hold::<Message>(&frames);
    }
}
