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

/// How long a shim may take to answer, the time until the request reaches it included. Starting a container includes its mounts.
const ANSWER: Duration = Duration::from_secs(60);

/// How often it is looked whether a shim has ended.
const LOOK: Duration = Duration::from_millis(5);

/// How many requests wait for a shim that is slow to read.
const WAITING: usize = 16;

struct Command {
    request: Request,
    answer: oneshot::Sender<Result<(), Failure>>,
}

/// One sandbox as the daemon holds it.
pub(super) struct Link {
    pub(super) id: String,
    commands: mpsc::Sender<Command>,
    /// What the shim can, by the names in [`crate::protocol::features`].
    pub(super) features: Vec<String>,
    /// The latest state; closed when the shim is gone.
    pub(super) state: watch::Receiver<SandboxState>,
    shim: OwnedFd,
    /// Whether its end is wanted.
    pub(super) removing: AtomicBool,
    /// Whether the connection has ended; set before anybody is told.
    pub(super) over: Arc<AtomicBool>,
}

/// A connection on which both sides said hello, before it is used.
pub(super) struct Greeted {
    channel: Channel,
    state: SandboxState,
    features: Vec<String>,
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
    Ok(Greeted {
        channel,
        state,
        features: hello.features,
    })
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
        let (commands, inbox) = mpsc::channel(WAITING);
        let (sender, state) = watch::channel(self.state);
        let sandbox = id.clone();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = over.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(&sandbox, self.channel, inbox, &sender, &events).await {
                tracing::warn!(%error, sandbox, "lost the connection to a shim");
            }
            is_over.store(true, Ordering::Release);
            ended();
            drop(sender);
        });
        Ok(Arc::new(Link {
            id,
            commands,
            features: self.features,
            state,
            shim,
            removing: AtomicBool::new(false),
            over,
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
                // What nobody waits for any more must not happen late, when the shim reads again; but its end stays wanted.
                if command.answer.is_closed() && !matches!(command.request, Request::Shutdown) {
                    continue;
                }
                next += 1;
                pending.insert(next, command.answer);
                // Without a deadline: half a request would spoil the connection, and a shim that is only stopped for a while keeps its pod.
                // Who waits for an answer has a deadline, and who wants the shim's end kills it, which ends this too.
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
        let asking = async {
            let command = Command { request, answer };
            self.commands.send(command).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())
        };
        let result = tokio::time::timeout(ANSWER, asking)
            .await
            .map_err(|_| RuntimeError::Deadline {
                operation: format!("the answer of the shim of sandbox {} to {operation}", self.id),
                seconds: ANSWER.as_secs(),
            })?;
        result?.map_err(|failure| from_failure(&self.id, operation, failure))
    }

    /// Asks the shim to end, and kills it when that cannot be said within `patience`; its end is seen by [`Link::gone`].
    pub(super) async fn shut_down(&self, patience: Duration) {
        self.removing.store(true, Ordering::Release);
        let (answer, _) = oneshot::channel();
        let command = Command {
            request: Request::Shutdown,
            answer,
        };
        match tokio::time::timeout(patience, self.commands.send(command)).await {
            // A shim that is gone already needs no asking.
            Ok(Ok(()) | Err(_)) => {}
            Err(_) => self.kill("it does not read what it is asked for"),
        }
    }

    /// Waits until the shim is gone, and kills it after `patience`.
    pub(super) async fn gone(&self, patience: Duration) {
        let mut state = self.state.clone();
        let closed = async { while state.changed().await.is_ok() {} };
        if tokio::time::timeout(patience, closed).await.is_err() {
            self.kill("it does not end");
        }
        // The end of its connections comes a moment before its own.
        self.has_ended(patience).await;
    }

    /// Waits until the shim's process has ended; false when it has not after `patience`. Needs no descriptor more, of which there may be none left.
    pub(super) async fn has_ended(&self, patience: Duration) -> bool {
        let ended = async {
            while !sys::descriptors::is_readable(self.shim.as_fd()) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(patience, ended).await.is_ok()
    }

    /// Kills the shim, and says why.
    pub(super) fn kill(&self, why: &str) {
        tracing::warn!(sandbox = self.id, why, "killing a shim");
        if let Err(error) = sys::process::signal(self.shim.as_fd(), libc::SIGKILL) {
            tracing::debug!(%error, "the shim is gone");
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

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::spec::SandboxSpec;

    /// A shim that is frozen: a process that lives, and a socket that nobody reads.
    fn frozen() -> (Arc<Link>, tokio::process::Child, OwnedFd) {
        let mut command = tokio::process::Command::new("sleep");
        let process = command.arg("1000").kill_on_drop(true).spawn().unwrap();
        let (channel, theirs) = Channel::pair().unwrap();
        let state = SandboxState {
            spec: SandboxSpec::default(),
            pid: process.id().unwrap().try_into().unwrap(),
            containers: Vec::new(),
        };
        let greeted = Greeted {
            channel,
            state,
            features: Vec::new(),
        };
        let link = greeted.into_link(broadcast::channel(1).0, || {}).unwrap();
        (link, process, theirs)
    }

    fn large() -> Request {
        Request::Stop {
            container: "-".repeat(1 << 20),
        }
    }

    #[test]
    fn waiting_for_an_end_and_hearing_of_changes_never_wait_for_each_other() {
        let over = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let (link, _process, socket) = frozen();
                let theirs = Channel::of(std::os::unix::net::UnixStream::from(socket)).unwrap();
                let told = tokio::spawn(async move {
                    for _ in 0..5000 {
                        let state = SandboxState {
                            spec: SandboxSpec::default(),
                            pid: 1,
                            containers: Vec::new(),
                        };
                        theirs.send(&Message::State(Box::new(state)), &[]).await.unwrap();
                    }
                    theirs
                });
                let waits = (0..2).map(|_| {
                    let link = link.clone();
                    tokio::spawn(async move {
                        for _ in 0..20_000 {
                            let waited = super::super::wait_for_exit(&link, "gone-0", Duration::from_secs(1)).await;
                            assert!(waited.is_err(), "there is no such container");
                            tokio::task::yield_now().await;
                        }
                    })
                });
                join_all(waits).await.into_iter().for_each(|done| done.unwrap());
                told.await.unwrap();
            });
        });
        // A thread that waits for itself is not ended by any deadline of its own.
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !over.is_finished() {
            assert!(std::time::Instant::now() < deadline, "they wait for each other");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        over.join().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_shim_holds_up_no_request_for_ever() {
        let (link, _process, _socket) = frozen();
        let calls = (0..2 * WAITING).map(|_| link.call("stop a container", large()));
        for result in join_all(calls).await {
            assert!(matches!(result, Err(RuntimeError::Deadline { .. })), "{result:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_shim_that_is_to_end_is_killed() {
        let (link, mut process, socket) = frozen();
        let calls = join_all((0..2 * WAITING).map(|_| link.call("stop a container", large())));
        let ending = async {
            // After the calls, which fill the queue.
            tokio::task::yield_now().await;
            link.shut_down(Duration::from_secs(1)).await;
            assert_eq!(
                std::os::unix::process::ExitStatusExt::signal(&process.wait().await.unwrap()),
                Some(libc::SIGKILL)
            );
            // As the end of a process closes its sockets.
            drop(socket);
            link.gone(Duration::from_secs(1)).await;
        };
        let (results, ()) = tokio::join!(calls, ending);
        assert!(results.iter().all(Result::is_err));
        assert!(link.state.has_changed().is_err(), "the link has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_shim_that_reads_again_is_not_asked_for_what_nobody_waits_for() {
        let (link, _process, socket) = frozen();
        let calls = (0..WAITING / 2).map(|_| link.call("stop a container", large()));
        join_all(calls).await;
        let socket = std::os::unix::net::UnixStream::from(socket);
        let mut theirs = Channel::of(socket).unwrap();
        link.shut_down(Duration::from_secs(1)).await;
        let first: Call = theirs.receive().await.unwrap().unwrap();
        assert!(matches!(first.request, Request::Stop { .. }), "it was half sent");
        let second: Call = theirs.receive().await.unwrap().unwrap();
        assert!(matches!(second.request, Request::Shutdown), "{:?}", second.request);
    }
}
