//! The worker that unpacks one layer: this binary executed again, with no more rights than that takes.
//!
//! The daemon sends it what is to be done and four descriptors over its standard input (`protocol` below). It forks two processes, each with mount,
//! network, IPC, UTS and process namespaces of its own, no new privileges, a seccomp filter and limits on memory, time and files:
//! * one decompresses: it holds nothing but two pipes, and may read, write and end;
//! * one unpacks the tar that the daemon hands back after hashing it: its root is the layer's folder, it keeps the capabilities that setting owners,
//!   modes, file capabilities and making nodes take.
//!
//! So the daemon computes both digests itself and parses neither format; whatever these processes are made to do reaches the one layer only.
//! They end with this process, and when the daemon's pipes do. (This process does not ask to be killed with its parent: that is a thread, which may end.)

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::complaint::complain;
use crate::images::unpack::{self, Limits};
use crate::init;
use crate::sys;

/// The hidden verb by which this binary becomes the worker.
pub(crate) const VERB: &str = "__unpack";
/// How much address space each of the two may have, in bytes.
const MEMORY: u64 = 512 << 20;
/// How long each may compute, in seconds.
const CPU_SECONDS: u64 = 1800;
/// The longest task, in bytes.
const LONGEST_TASK: usize = 64 << 10;
/// What unpacking takes of root's rights.
const RIGHTS: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP);

/// What is to be done. With it come, in this order: the blob to read, where to write what it holds, the tar to read, and where the result goes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// The folder to unpack into; it exists and is empty.
    pub folder: PathBuf,
    /// An empty folder: all that the process which decompresses could see of files.
    pub empty: PathBuf,
    pub limits: Limits,
}

/// Does one task; returns the exit code.
pub(crate) fn run() -> i32 {
    match work() {
        Ok(true) => 0,
        // One of the two has said why.
        Ok(false) => 1,
        Err(error) => {
            complain!("cannot prepare to unpack: {error}");
            1
        }
    }
}

fn work() -> io::Result<bool> {
    let control = sys::descriptors::duplicate(sys::descriptors::inherited(0))?;
    let mut descriptors = Vec::new();
    let mut text = Vec::new();
    let mut buffer = [0u8; 8 << 10];
    loop {
        match sys::descriptors::receive(control.as_fd(), &mut buffer, &mut descriptors)? {
            0 => break,
            count => text.extend_from_slice(&buffer[..count]),
        }
        if text.len() > LONGEST_TASK {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
    }
    drop(control);
    let task: Task = serde_json::from_slice(&text)?;
    let [packed, plain_out, plain_in, result]: [OwnedFd; 4] = descriptors
        .try_into()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    init::prepare_seccomp();

    let namespaces =
        libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWPID;
    let limits = task.limits;
    let decompressor = {
        let (packed, plain_out, empty) = (&packed, &plain_out, &task.empty);
        let others = [plain_in.as_raw_fd(), result.as_raw_fd()];
        sys::process::fork(namespaces, None, move || {
            others.into_iter().for_each(sys::descriptors::close);
            told("it cannot be decompressed", decompress(packed, plain_out, empty))
        })?
    };
    drop((packed, plain_out));
    let unpacker = {
        let (plain_in, result) = (&plain_in, &result);
        sys::process::fork(namespaces, None, move || {
            told("", untar(plain_in, result, &task.folder, &limits))
        })?
    };
    drop((plain_in, result));
    let mut well = true;
    for child in [decompressor, unpacker] {
        sys::process::wait_for(child.pidfd.as_fd()).map(|ended| {
            well &= ended.code == 0;
            if let Some(signal) = ended.signal {
                complain!("it was ended by signal {signal}: it needs more memory or time than a layer may take");
            }
        })?;
    }
    Ok(well)
}

/// Writes an error where the daemon reads it.
fn told(what: &str, outcome: io::Result<()>) -> i32 {
    match outcome {
        Ok(()) => 0,
        // The other end has gone; it knows why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 1,
        Err(error) if what.is_empty() => {
            complain!("{error}");
            1
        }
        Err(error) => {
            complain!("{what}: {error}");
            1
        }
    }
}

fn decompress(packed: &OwnedFd, plain: &OwnedFd, empty: &Path) -> io::Result<()> {
    let (packed, mut plain) = (File::from(packed.try_clone()?), File::from(plain.try_clone()?));
    limit(0)?;
    confine_root(empty)?;
    init::drop_capabilities(CapabilitySet::empty())?;
    sys::seccomp::load(&init::only_streams()?)?;
    unpack::decompress(packed, &mut plain)
}

fn untar(plain: &OwnedFd, result: &OwnedFd, folder: &Path, limits: &Limits) -> io::Result<()> {
    let (plain, mut result) = (File::from(plain.try_clone()?), File::from(result.try_clone()?));
    limit(limits.bytes)?;
    confine_root(folder)?;
    init::drop_capabilities(RIGHTS)?;
    sys::seccomp::load(&init::only_files()?)?;
    sys::process::set_umask(0);
    let unpacked = unpack::untar(plain, Path::new("/"), limits)?;
    result.write_all(&serde_json::to_vec(&unpacked)?)
}

/// Bounds memory, time and files of this process.
fn limit(file_size: u64) -> io::Result<()> {
    let limits = [
        (Resource::As, MEMORY),
        (Resource::Cpu, CPU_SECONDS),
        (Resource::Fsize, file_size),
        (Resource::Core, 0),
        // A handle for each directory on the way down when a tree is removed, and a few.
        (Resource::Nofile, 600),
        (Resource::Memlock, 0),
    ];
    for (resource, most) in limits {
        // Never more than it has: where that is less, what is too deep for it fails with a cause of its own.
        let most = rustix::process::getrlimit(resource)
            .maximum
            .map_or(most, |has| has.min(most));
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        rustix::process::setrlimit(resource, limit)?;
    }
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// Makes a folder the root of this process' own mount namespace; nothing else of the host can be reached by a path afterwards.
fn confine_root(folder: &Path) -> io::Result<()> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::mount::mount_bind(folder, folder)?;
    let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount_remount(folder, flags, "")?;
    rustix::process::chdir(folder)?;
    // The old root ends up on top of the new one, and goes.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}
