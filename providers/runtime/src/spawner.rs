//! The process that makes shims: this binary executed again, single-threaded and small, started by the daemon.
//!
//! Shims are forked from it without an exec, so that all of them share its already relocated pages. It dies with the daemon
//! (its socket ends); the shims live on.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::complaint::complain;
use crate::init;
use crate::protocol::{Inbox, ShimSetup};
use crate::shim;
use crate::starting;
use crate::sys;

/// The hidden verb by which this binary becomes the spawner.
pub(crate) const VERB: &str = "__spawner";

/// A variable that is there only for its place in memory, behind the arguments: shims write their titles over both.
pub(crate) const TITLE_ROOM: &str = "SETPOINT_TITLE_ROOM";

/// How long it is: what the longest namespace and name of a pod need.
pub(crate) const TITLE_BYTES: usize = 320;

/// Serves the daemon at standard input until it is gone; returns the exit code.
pub(crate) fn run() -> i32 {
    match serve() {
        Ok(()) => 0,
        Err(error) => {
            complain!("cannot start shims: {error}");
            1
        }
    }
}

fn serve() -> io::Result<()> {
    // The daemon put its socket there; a duplicate at another number lets shims reopen standard input.
    let control = sys::descriptors::duplicate(sys::descriptors::inherited(0))?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    // Interrupting the daemon at a terminal must not reach shims in the moment before they leave its session.
    rustix::process::setsid()?;
    // Nobody waits for shims here.
    sys::process::ignore_signal(libc::SIGCHLD);
    init::prepare_seccomp();
    sys::process::trim_memory();

    let mut inbox = Inbox::default();
    let mut buffer = [0u8; 16 << 10];
    loop {
        let count = match sys::descriptors::receive(control.as_fd(), &mut buffer, &mut inbox.descriptors) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        inbox.push(&buffer[..count]);
        while let Some(setup) = inbox.next::<ShimSetup>()? {
            if inbox.descriptors.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a request came without its connection",
                ));
            }
            let connection = inbox.descriptors.remove(0);
            // The shim gets the connection; this copy is for telling why there is none.
            let copy = sys::descriptors::duplicate(connection.as_fd());
            if let Err(error) = fork_shim(setup, connection) {
                match copy {
                    Ok(connection) => shim::refuse(connection, format!("cannot fork its shim: {}", advise(&error))),
                    // The closed connection tells the daemon.
                    Err(_) => complain!("cannot fork a shim: {error}"),
                }
            }
        }
    }
}

/// Says what a failure to fork means on this machine.
fn advise(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => format!(
            "{error}: no more processes are allowed (look at pids.max of the daemon's cgroup, its RLIMIT_NPROC and kernel.pid_max)"
        ),
        Some(libc::EMFILE | libc::ENFILE) => {
            format!("{error} (look at the daemon's limit of open files, and at fs.file-max)")
        }
        _ => error.to_string(),
    }
}

fn fork_shim(setup: ShimSetup, connection: OwnedFd) -> io::Result<()> {
    let starting = starting::begin(&setup.socket)?;
    // Only now: a daemon that comes after one that is gone waits for the lock, and then takes for dead what does not listen.
    if sys::descriptors::is_hung_up(connection.as_fd()) {
        return Ok(());
    }
    let group = setup.hierarchies.shims(&setup.instance);
    group.create()?;
    let unified = group.open_unified();
    let in_unified = unified.is_some();
    let body = || {
        // The shim's copy of the lock, until it listens.
        if let Err(error) = rustix::stdio::dup2_stdout(&starting) {
            complain!("cannot keep the lock of starting shims: {error}");
            return 1;
        }
        shim::run(setup, in_unified, connection)
    };
    sys::process::fork(0, unified.as_ref().map(AsFd::as_fd), body)?;
    Ok(())
}
