//! The daemon's connection to one shim: requests out, answers and changes in.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::channel::Channel;
use crate::error::RuntimeError;
use crate::protocol::{Call, ClientHello, Failure, Message, Request, ShimHello, VERSION};
use crate::spec::{RuntimeEvent, SandboxState};
use crate::sys;

/// How long a shim may take to say hello.
const HELLO: Duration = Duration::from_secs(30);

/// How long a shim may take to answer. Starting a container includes its mounts.
const ANSWER: Duration = Duration::from_secs(60);

struct Command {
    request: Request,
    answer: oneshot::Sender<Result<(), Failure>>,
}

/// One sandbox as the daemon holds it.
pub(super) struct Link {
    pub(super) id: String,
    commands: mpsc::Sender<Command>,
    /// The latest state; closed when the shim is gone.
    pub(super) state: watch::Receiver<SandboxState>,
    shim: OwnedFd,
    /// Whether its end is wanted.
    pub(super) removing: AtomicBool,
}

/// A connection on which both sides said hello, before it is used.
pub(super) struct Greeted {
    channel: Channel,
    state: SandboxState,
}

/// Exchanges hellos.
pub(super) async fn greet(id: &str, mut channel: Channel, subscribe: bool) -> Result<Greeted, RuntimeError> {
    let gone = |_: io::Error| RuntimeError::ShimGone(id.to_owned());
    let hello = tokio::time::timeout(HELLO, channel.receive::<ShimHello>())
        .await
        .map_err(|_| RuntimeError::Deadline {
            operation: format!("the hello of the shim of sandbox {id}"),
            seconds: HELLO.as_secs(),
        })?
        .map_err(gone)?
        .ok_or_else(|| RuntimeError::ShimGone(id.to_owned()))?;
    if hello.protocol != VERSION {
        return Err(RuntimeError::Protocol {
            sandbox: id.to_owned(),
            theirs: hello.protocol,
            ours: VERSION,
        });
    }
    let state = match (hello.error, hello.state) {
        (None, Some(state)) => state,
        (error, _) => {
            let message = error.unwrap_or_else(|| "it sent no state".to_owned());
            return Err(RuntimeError::Shim {
                sandbox: id.to_owned(),
                operation: "make the sandbox",
                message,
            });
        }
    };
    channel
        .send(
            &ClientHello {
                protocol: VERSION,
                subscribe,
            },
            &[],
        )
        .await
        .map_err(gone)?;
    Ok(Greeted { channel, state })
}

impl Greeted {
    pub(super) fn into_channel(self) -> Channel {
        self.channel
    }

    pub(super) fn state(&self) -> &SandboxState {
        &self.state
    }

    /// Starts the task that serves the connection. `ended` runs when the shim is gone.
    pub(super) fn into_link(
        self,
        events: broadcast::Sender<RuntimeEvent>,
        ended: impl FnOnce() + Send + 'static,
    ) -> Result<Arc<Link>, RuntimeError> {
        let id = self.state.spec.id.clone();
        let gone = || RuntimeError::ShimGone(id.clone());
        let pid = Pid::from_raw(self.state.pid).ok_or_else(gone)?;
        let shim = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
        let (commands, inbox) = mpsc::channel(16);
        let (sender, state) = watch::channel(self.state);
        let sandbox = id.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(&sandbox, self.channel, inbox, &sender, &events).await {
                tracing::warn!(%error, sandbox, "lost the connection to a shim");
            }
            ended();
            drop(sender);
        });
        Ok(Arc::new(Link {
            id,
            commands,
            state,
            shim,
            removing: AtomicBool::new(false),
        }))
    }
}

async fn serve(
    sandbox: &str,
    mut channel: Channel,
    mut inbox: mpsc::Receiver<Command>,
    state: &watch::Sender<SandboxState>,
    events: &broadcast::Sender<RuntimeEvent>,
) -> io::Result<()> {
    let mut pending: HashMap<u64, oneshot::Sender<Result<(), Failure>>> = HashMap::new();
    let mut next = 0;
    loop {
        tokio::select! {
            command = inbox.recv() => {
                // Without a runtime that could ask, there is nothing to keep the connection for.
                let Some(command) = command else { return Ok(()) };
                next += 1;
                pending.insert(next, command.answer);
                channel.send(&Call { id: next, request: command.request }, &[]).await?;
            }
            message = channel.receive::<Message>() => match message? {
                None => return Ok(()),
                Some(Message::State(new)) => {
                    state.send_replace(*new);
                }
                Some(Message::Exited(container)) => {
                    let event = RuntimeEvent::ContainerExited { sandbox: sandbox.to_owned(), container: *container };
                    // Nobody may be listening.
                    drop(events.send(event));
                }
                Some(Message::Answer { id, failure }) => {
                    if let Some(waiting) = pending.remove(&id) {
                        // Who asked may have given up.
                        drop(waiting.send(failure.map_or(Ok(()), Err)));
                    }
                }
                Some(Message::ExecExited { .. }) => {}
            },
        }
    }
}

impl Link {
    /// Sends a request and waits for its answer.
    pub(super) async fn call(&self, operation: &'static str, request: Request) -> Result<(), RuntimeError> {
        let (answer, answered) = oneshot::channel();
        let gone = || RuntimeError::ShimGone(self.id.clone());
        self.commands
            .send(Command { request, answer })
            .await
            .map_err(|_| gone())?;
        let result = tokio::time::timeout(ANSWER, answered)
            .await
            .map_err(|_| RuntimeError::Deadline {
                operation: format!("the answer of the shim of sandbox {} to {operation}", self.id),
                seconds: ANSWER.as_secs(),
            })?;
        result
            .map_err(|_| gone())?
            .map_err(|failure| from_failure(&self.id, operation, failure))
    }

    /// Asks the shim to end; its end is seen by [`Link::gone`].
    pub(super) async fn shut_down(&self) {
        self.removing.store(true, Ordering::Release);
        let (answer, _) = oneshot::channel();
        // A shim that is gone already needs no asking.
        drop(
            self.commands
                .send(Command {
                    request: Request::Shutdown,
                    answer,
                })
                .await,
        );
    }

    /// Waits until the shim is gone, and kills it after `patience`.
    pub(super) async fn gone(&self, patience: Duration) {
        let mut state = self.state.clone();
        let closed = async { while state.changed().await.is_ok() {} };
        if tokio::time::timeout(patience, closed).await.is_err() {
            tracing::warn!(sandbox = self.id, "killing a shim that does not end");
            if let Err(error) = sys::process::signal(self.shim.as_fd(), libc::SIGKILL) {
                tracing::debug!(%error, "the shim is gone");
            }
        }
    }

    pub(super) fn current(&self) -> SandboxState {
        self.state.borrow().clone()
    }
}

/// Turns what a shim says into the error that callers see.
pub(super) fn from_failure(sandbox: &str, operation: &'static str, failure: Failure) -> RuntimeError {
    match failure.stage {
        Some(stage) => RuntimeError::Start {
            stage,
            message: failure.message,
            code: failure.code,
        },
        None => RuntimeError::Shim {
            sandbox: sandbox.to_owned(),
            operation,
            message: failure.message,
        },
    }
}
