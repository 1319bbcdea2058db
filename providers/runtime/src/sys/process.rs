//! Processes: forking into namespaces, waiting, executing, ending.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;

use rustix::process::{WaitId, WaitIdOptions};

/// Starts the child in another cgroup (linux/sched.h; libc's constant is too narrow for it).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A child process; its exit is awaited by polling `pidfd` for reading.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its number as seen from here.
    pub(crate) pid: i32,
    /// The handle that stays right when the number is reused.
    pub(crate) pidfd: OwnedFd,
}

/// Forks a child that runs `body` and ends with the code that it returns (255 when it panics).
///
/// `namespaces` are `CLONE_NEW*` flags; `cgroup` is a directory of the unified hierarchy in which the child starts. Only for
/// single-threaded processes: in a threaded one the child could find a lock held for ever.
pub(crate) fn fork(
    namespaces: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> io::Result<Child> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (libc::CLONE_PIDFD as u64) | (namespaces as u32 as u64);
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets a copy of this address space and stack, as with fork(2); the arguments outlive the call.
    // The caller is single-threaded, so no lock of the allocator or of std is held by a thread that the child does not have.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = std::panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or(255);
            exit(code)
        }
        pid => {
            // SAFETY: the kernel stored a new descriptor there, which nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid: pid as i32, pidfd })
        }
    }
}

/// Ends this process at once, without running destructors or exit handlers that belong to the parent.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The exit code; 128 + signal when a signal ended it.
    pub(crate) code: i32,
    /// The signal.
    pub(crate) signal: Option<i32>,
}

/// Reaps a child that ended; `None` while it runs.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    let status = rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)?;
    Ok(
        status.map(|status| match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Ended { code, signal: None },
            (None, signal) => {
                let signal = signal.unwrap_or(libc::SIGKILL);
                Ended {
                    code: 128 + signal,
                    signal: Some(signal),
                }
            }
        }),
    )
}

/// Waits for a child's end without a deadline of its own: for a parent that somebody else ends.
pub(crate) fn wait_for(pidfd: BorrowedFd<'_>) -> io::Result<Ended> {
    loop {
        let mut polled = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(ended) = reap(pidfd)? {
            return Ok(ended);
        }
    }
}

/// Reaps a child that is about to end.
pub(crate) fn wait(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends any signal, real-time ones included, to a process.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the call; a null siginfo is allowed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Kills a process by its number; whether it was there is not told.
pub(crate) fn kill(pid: i32) {
    // SAFETY: kill has no memory effects; zero and negative numbers, which mean groups, are refused here.
    if pid > 1 {
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// Kills a process group by the number of its leader.
pub(crate) fn kill_group(pid: i32) {
    signal_group(pid, libc::SIGKILL);
}

/// Sends a process group a signal by the number of its leader; whether it was there is not told.
pub(crate) fn signal_group(pid: i32, signal: libc::c_int) {
    // SAFETY: as above; -1, which means everything, cannot come out of a number above 1.
    if pid > 1 {
        unsafe { libc::kill(-pid, signal) };
    }
}

/// Gives every signal its default effect and unblocks all: what a program expects that is executed next.
pub(crate) fn reset_signals() {
    for number in 1..=64 {
        // SAFETY: setting the default disposition runs no code of ours; numbers that cannot be set are refused by the kernel.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    // SAFETY: the set is initialised by sigemptyset before it is read.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Ignores a signal (an ignored SIGCHLD also spares the parent from reaping).
pub(crate) fn ignore_signal(number: i32) {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(number, libc::SIG_IGN) };
}

/// Restores the default effect of a signal.
pub(crate) fn default_signal(number: i32) {
    // SAFETY: the default disposition runs no code of ours.
    unsafe { libc::signal(number, libc::SIG_DFL) };
}

/// Executes a program in place of this one; returns only the error.
pub(crate) fn execute(path: &CString, args: &[CString], env: &[CString]) -> io::Error {
    match nix::unistd::execve(path, args, env) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}

/// Sets the file mode creation mask.
pub(crate) fn set_umask(mask: u32) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
}

/// Gives free memory of the allocator back to the system.
pub(crate) fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}
