//! The daemon's end of the spawner.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use super::channel::Channel;
use crate::error::RuntimeError;
use crate::protocol::ShimSetup;
use crate::spawner;

/// How long the spawner may take to accept a request: it reads one after the other and works on each for some milliseconds.
const ACCEPT: Duration = Duration::from_secs(10);

/// A running spawner. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Spawner {
    control: Channel,
    /// Killed with it, because one that hangs would not see that its socket has ended. Shims do not depend on it.
    process: Child,
}

impl Spawner {
    /// Starts this binary in the spawner's role.
    pub(super) fn start() -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("setpoint")
            .arg(spawner::VERB)
            .env_clear()
            .env(spawner::TITLE_ROOM, "-".repeat(spawner::TITLE_BYTES));
        Self::serve_by(command)
    }

    fn serve_by(mut command: Command) -> io::Result<Self> {
        let (control, theirs) = Channel::pair()?;
        let process = command
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        tracing::debug!(pid = process.id(), "the spawner runs");
        Ok(Self { control, process })
    }
}

/// The spawner in use. It is replaced as soon as it has failed once: a new one is there in a moment, and one that hangs would fail every pod.
#[derive(Debug)]
pub(super) struct Spawning {
    start: fn() -> io::Result<Spawner>,
    /// `None` after it failed; the next use starts another one.
    current: Mutex<Option<Arc<Spawner>>>,
}

impl Spawning {
    /// Starts the first spawner by `start`, which also makes those that replace it.
    pub(super) fn new(start: fn() -> io::Result<Spawner>) -> io::Result<Self> {
        Ok(Self {
            start,
            current: Mutex::new(Some(Arc::new(start()?))),
        })
    }

    /// Asks for a shim, which is to greet by the channel; whoever waits for that in vain hands the spawner to [`Spawning::replace`].
    pub(super) async fn fork(&self, setup: &ShimSetup) -> Result<(Channel, Arc<Spawner>), RuntimeError> {
        let mut last = None;
        // Requests must not mix on the way, so one is sent at a time; none for longer than its deadline.
        let mut current = self.current.lock().await;
        // Twice: the first one may have died since it was last used.
        for _ in 0..2 {
            let spawner = match current.take() {
                Some(spawner) => spawner,
                None => Arc::new((self.start)().map_err(RuntimeError::Spawner)?),
            };
            let (ours, theirs) = Channel::pair().map_err(RuntimeError::Spawner)?;
            match send(&spawner, setup, &theirs).await {
                Ok(()) => {
                    *current = Some(spawner.clone());
                    return Ok((ours, spawner));
                }
                Err(error) => {
                    tracing::warn!(%error, pid = spawner.process.id(), "the spawner takes no request; starting another one");
                    last = Some(error);
                }
            }
        }
        Err(RuntimeError::Spawner(
            last.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()),
        ))
    }

    /// Lets go of a spawner whose shim never greeted, unless that has been done already.
    pub(super) async fn replace(&self, failed: &Arc<Spawner>) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, failed)) {
            tracing::warn!(
                pid = failed.process.id(),
                "a shim did not greet; the next one comes from another spawner"
            );
            *current = None;
        }
    }
}

async fn send(spawner: &Spawner, setup: &ShimSetup, connection: &OwnedFd) -> io::Result<()> {
    let passed = [connection.as_fd()];
    let sending = spawner.control.send(setup, &passed);
    // What was sent in part spoils the socket, but then it is not used again.
    tokio::time::timeout(ACCEPT, sending)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// One that hangs: it lives and reads nothing.
#[cfg(test)]
pub(super) fn hanging() -> io::Result<Spawner> {
    let mut command = Command::new("sleep");
    command.arg("1000");
    Spawner::serve_by(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Hierarchies;
    use crate::spec::SandboxSpec;

    fn setup(bytes: usize) -> ShimSetup {
        ShimSetup {
            spec: SandboxSpec {
                labels: [("filler".to_owned(), "-".repeat(bytes))].into(),
                ..SandboxSpec::default()
            },
            dir: "/nowhere".into(),
            socket: "/nowhere/socket".into(),
            instance: "0000".to_owned(),
            hierarchies: Hierarchies::detect().unwrap(),
            fault: crate::fault::Fault::default(),
        }
    }

    #[tokio::test]
    async fn a_spawner_whose_shim_did_not_greet_is_replaced_once() {
        let spawning = Spawning::new(hanging).unwrap();
        let (_, first) = spawning.fork(&setup(1)).await.unwrap();
        let (_, same) = spawning.fork(&setup(1)).await.unwrap();
        assert!(Arc::ptr_eq(&first, &same));
        spawning.replace(&first).await;
        let (_, second) = spawning.fork(&setup(1)).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        // Who waited for the same one comes later, and must not take the new one away.
        spawning.replace(&same).await;
        let (_, kept) = spawning.fork(&setup(1)).await.unwrap();
        assert!(Arc::ptr_eq(&second, &kept));
    }

    #[tokio::test(start_paused = true)]
    async fn a_spawner_that_reads_nothing_holds_nobody_up_for_ever() {
        let spawning = Spawning::new(hanging).unwrap();
        let first = spawning.current.lock().await.as_ref().unwrap().process.id();
        let error = spawning.fork(&setup(4 << 20)).await.unwrap_err();
        assert!(
            matches!(&error, RuntimeError::Spawner(cause) if cause.kind() == io::ErrorKind::TimedOut),
            "{error:?}"
        );
        assert!(spawning.current.lock().await.is_none());
        let (_, next) = spawning.fork(&setup(1)).await.unwrap();
        assert_ne!(next.process.id(), first);
    }
}
