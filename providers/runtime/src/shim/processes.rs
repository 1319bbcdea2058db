//! Processes that join a running container (exec).
//!
//! A process whose client went away is ended: one in a terminal is hung up first, as when the line drops, so that a shell can pass
//! that on to its jobs; what does not go in [`HANG_UP`], and what has no terminal, is killed.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::Shim;
use super::containers::{Report, null, read_report, report_pair};
use crate::complaint::complain;
use crate::init::{self, Stdio};
use crate::protocol::{Failure, Message};
use crate::spec::ExecSpec;
use crate::sys;
use crate::sys::process::Child;

/// How long a process that was hung up may take to end.
const HANG_UP: Duration = Duration::from_secs(2);

/// How far the end of a process has come whose client went away.
#[derive(Clone, Copy, Debug)]
enum End {
    HungUp(Instant),
    Killed,
}

/// A process in a container, bound to the connection that asked for it.
#[derive(Debug)]
pub(super) struct Session {
    connection: u64,
    call: u64,
    pub(super) child: Child,
    /// Where it says why it failed, until it runs.
    pub(super) report: Option<OwnedFd>,
    /// The other end of its terminal, until the client has it.
    terminal: Option<OwnedFd>,
    tty: bool,
    end: Option<End>,
}

impl Session {
    /// Tells the process and what is in the foreground with it that the terminal is gone.
    fn hang_up(&self) {
        sys::process::signal_group(self.child.pid, libc::SIGHUP);
        // What was stopped is to hear it, too.
        sys::process::signal_group(self.child.pid, libc::SIGCONT);
    }

    /// Kills the process and what it started in its session.
    pub(super) fn kill(&self) {
        sys::process::kill_group(self.child.pid);
        // It may have ended meanwhile, or not yet lead a group.
        if let Err(error) = sys::process::signal(self.child.pidfd.as_fd(), libc::SIGKILL) {
            tracing::debug!(%error, "the process is gone already");
        }
    }
}

impl Shim {
    /// Starts a process in a container; the answer follows when its program runs or has failed to.
    pub(super) fn exec(&mut self, id: &str, spec: ExecSpec, connection: u64, call: u64) -> Result<(), Failure> {
        let refused = |error: std::io::Error| Failure::refused(format!("cannot start a process in {id}: {error}"));
        let position = self.position(id)?;
        let mut passed = match self.connections.get_mut(&connection) {
            Some(connection) => std::mem::take(&mut connection.inbox.descriptors).into_iter(),
            None => return Ok(()),
        };
        let stdio = if spec.tty {
            Stdio::Terminal
        } else {
            let stdin = if spec.stdin {
                passed.next()
            } else {
                Some(null().map_err(refused)?)
            };
            let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, passed.next(), passed.next()) else {
                return Err(Failure::refused("the streams of the process did not come along"));
            };
            Stdio::Streams { stdin, stdout, stderr }
        };
        let container = &self.containers[position];
        let (Some(first), Some(request), None) = (&container.child, &container.request, &container.starting) else {
            return Err(Failure::refused(format!("container {id} is not running")));
        };
        let (report, childs_report) = report_pair().map_err(refused)?;
        let unified = container.cgroup.open_unified();
        let in_unified = unified.is_some();
        let body = || {
            init::run_joined(
                request,
                &spec,
                &first.pidfd,
                &container.cgroup,
                in_unified,
                stdio,
                childs_report,
            )
        };
        let namespace = (!self.setup.spec.host_pid).then_some(first.pidfd.as_fd());
        let child = self
            .in_pid_namespace(namespace, || {
                sys::process::fork(0, unified.as_ref().map(AsFd::as_fd), body)
            })
            .map_err(refused)?;
        self.sessions.push(Session {
            connection,
            call,
            child,
            report: Some(report),
            terminal: None,
            tty: spec.tty,
            end: None,
        });
        Ok(())
    }

    /// Takes note of what a starting process says.
    pub(super) fn session_reported(&mut self, position: usize) {
        let Some(session) = self.sessions.get_mut(position) else {
            return;
        };
        let Some(report) = &session.report else { return };
        let (failure, descriptors) = match read_report(report) {
            Report::Later => return,
            Report::Terminal(terminal) => {
                session.terminal = Some(terminal);
                return;
            }
            Report::Executed => (None, session.terminal.take().into_iter().collect()),
            Report::Failed(error) => (Some(error.into_failure()), Vec::new()),
        };
        session.report = None;
        let (connection, call) = (session.connection, session.call);
        self.reply(connection, call, failure, descriptors);
    }

    /// Reaps a process and tells its exit code.
    pub(super) fn session_ended(&mut self, position: usize) {
        self.session_reported(position);
        let Some(session) = self.sessions.get(position) else {
            return;
        };
        let code = match sys::process::reap(session.child.pidfd.as_fd()) {
            Ok(None) => return,
            Ok(Some(ended)) => ended.code,
            Err(error) => {
                complain!("cannot reap a process: {error}");
                255
            }
        };
        let session = self.sessions.remove(position);
        if let Some(connection) = self.connections.get_mut(&session.connection) {
            connection.send(&Message::ExecExited { code }, Vec::new());
        }
    }

    /// Ends processes whose client went away.
    pub(super) fn end_orphaned_sessions(&mut self) {
        for session in &mut self.sessions {
            if self.connections.contains_key(&session.connection) {
                continue;
            }
            match session.end {
                None if session.tty => {
                    session.hang_up();
                    session.end = Some(End::HungUp(Instant::now()));
                }
                Some(End::HungUp(since)) if since.elapsed() < HANG_UP => {}
                None | Some(End::HungUp(_)) => {
                    session.kill();
                    session.end = Some(End::Killed);
                }
                Some(End::Killed) => {}
            }
        }
    }

    /// Whether some process was hung up and has not ended.
    pub(super) fn has_hung_up_sessions(&self) -> bool {
        self.sessions
            .iter()
            .any(|session| matches!(session.end, Some(End::HungUp(_))))
    }
}
