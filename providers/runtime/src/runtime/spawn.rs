//! The daemon's end of the spawner.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::channel::Channel;
use crate::protocol::ShimSetup;
use crate::spawner;

/// A running spawner. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Spawner {
    control: Channel,
    // Dropped with it; tokio reaps it.
    _process: Child,
}

impl Spawner {
    /// Starts this binary in the spawner's role.
    pub(super) fn start() -> io::Result<Self> {
        let (control, theirs) = Channel::pair()?;
        let process = Command::new("/proc/self/exe")
            .arg0("setpoint")
            .arg(spawner::VERB)
            .env_clear()
            .env(spawner::TITLE_ROOM, "-".repeat(spawner::TITLE_BYTES))
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            control,
            _process: process,
        })
    }

    /// Asks for a shim; it answers through the other end of `connection`.
    pub(super) async fn fork(&self, setup: &ShimSetup, connection: &OwnedFd) -> io::Result<()> {
        self.control.send(setup, &[connection.as_fd()]).await
    }
}
