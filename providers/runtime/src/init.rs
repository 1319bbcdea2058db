//! The first process of a container, and processes that join one: what a child of the shim does between fork and exec.
//!
//! It runs in a copy of the shim, single-threaded, and never returns to the shim's code. What goes wrong is sent
//! through the report socket, which the exec closes; a terminal's other end goes the same way.

mod anonymous;
mod mounts;
mod privileges;
mod program;
mod rootfs;
mod seccomp;
mod user;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::process::{Resource, Rlimit, Signal};
use rustix::pty::OpenptFlags;
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::error::StartStage;
use crate::fault::ContainerStep;
use crate::protocol::{ContainerRequest, Failure};
use crate::spec::{ExecSpec, Mount, Security};
use crate::sys;

pub(crate) use privileges::{allowed, keep_only as drop_capabilities};
pub(crate) use program::DEFAULT_PATH;
pub(crate) use rootfs::{attach, detached};
pub(crate) use seccomp::{check as check_seccomp, only_files, only_streams, prepare as prepare_seccomp};
pub(crate) use user::check_non_root;

/// Clones what the host has mounted at a path.
pub(crate) fn host_tree(path: &Path) -> io::Result<OwnedFd> {
    rootfs::clone_tree(rustix::fs::CWD, path, true)
}

/// Open files that a process may use without asking for more, and at most.
const OPEN_FILES: (u64, u64) = (65_536, 1_048_576);

/// Why a process of a container could not be started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InitError {
    stage: StartStage,
    message: String,
    code: i32,
}

impl InitError {
    fn config(message: String) -> Self {
        Self {
            stage: StartStage::Config,
            message,
            code: 128,
        }
    }

    fn create(operation: &str, error: &io::Error) -> Self {
        Self {
            stage: StartStage::Create,
            message: format!("cannot {operation}: {error}"),
            code: 128,
        }
    }

    /// A report that is not one.
    pub(crate) fn unreadable(error: &serde_json::Error) -> Self {
        Self {
            stage: StartStage::Create,
            message: format!("the container's report makes no sense: {error}"),
            code: 128,
        }
    }

    fn start(code: i32, message: String) -> Self {
        Self {
            stage: StartStage::Start,
            message,
            code,
        }
    }

    pub(crate) fn into_failure(self) -> Failure {
        Failure {
            stage: Some(self.stage),
            message: self.message,
            code: self.code,
        }
    }
}

/// Where a process's standard streams are.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// Given ones.
    Streams {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// A terminal made inside the container; its other end is sent through the report socket.
    Terminal,
}

/// The sandbox's share of a container's start.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    /// The attempt's directory with `upper`, `work` and `rootfs`.
    pub(crate) directory: &'a Path,
    /// The mount namespace that the sandbox was made in.
    pub(crate) host_mounts: &'a OwnedFd,
    /// The sandbox's /dev/shm.
    pub(crate) shm: &'a Path,
    /// The container's group.
    pub(crate) cgroup: &'a Group,
    /// Whether the child was started inside the unified hierarchy's group.
    pub(crate) in_unified: bool,
    /// Whether it sees only its own part of the cgroups.
    pub(crate) cgroup_namespace: bool,
}

/// Runs the first process of a container. Returns only when it failed, with the exit code.
pub(crate) fn run_first(
    request: &ContainerRequest,
    surroundings: &Surroundings<'_>,
    stdio: Stdio,
    report: OwnedFd,
) -> i32 {
    let failed = |error: InitError| tell(&report, &error);
    match first(request, surroundings, stdio, &report) {
        Ok(never) => match never {},
        Err(error) => failed(error),
    }
}

/// Runs a further process in a container's namespaces. Returns only when it failed, with the exit code.
pub(crate) fn run_joined(
    request: &ContainerRequest,
    spec: &ExecSpec,
    first_process: &OwnedFd,
    cgroup: &Group,
    in_unified: bool,
    stdio: Stdio,
    report: OwnedFd,
) -> i32 {
    match joined(request, spec, first_process, cgroup, in_unified, stdio, &report) {
        Ok(never) => match never {},
        Err(error) => tell(&report, &error),
    }
}

fn tell(report: &OwnedFd, error: &InitError) -> i32 {
    // A shim that does not listen any more needs no answer.
    if let Ok(text) = serde_json::to_vec(error)
        && let Err(error) = sys::descriptors::send(report.as_fd(), &text, &[])
    {
        tracing::debug!(%error, "nobody hears why the container failed");
    }
    error.code
}

fn first(
    request: &ContainerRequest,
    surroundings: &Surroundings<'_>,
    stdio: Stdio,
    report: &OwnedFd,
) -> Result<std::convert::Infallible, InitError> {
    let step = |operation: &'static str| move |error: io::Error| InitError::create(operation, &error);
    let security = &request.spec.security;
    let allowed = allowed_capabilities(security)?;
    prepare(request.spec.oom_score_adj)?;
    passed(ContainerStep::Prepared)?;
    surroundings
        .cgroup
        .enter(!surroundings.in_unified)
        .map_err(step("enter the cgroup"))?;
    passed(ContainerStep::EnteredGroup)?;
    if surroundings.cgroup_namespace {
        sys::namespace::unshare(libc::CLONE_NEWCGROUP).map_err(step("make a cgroup namespace"))?;
    }
    passed(ContainerStep::CgroupNamespace)?;
    let rootfs = rootfs::Rootfs::overlay(&request.layers, surroundings.directory, security.privileged)
        .map_err(step("make the root file system"))?;
    passed(ContainerStep::Overlay)?;
    let anonymous =
        anonymous::make(&rootfs, &request.volumes, surroundings.directory).map_err(step("make a volume"))?;
    mounts::standard(&rootfs, security, surroundings.shm, surroundings.cgroup).map_err(step("mount"))?;
    passed(ContainerStep::Mounts)?;
    let host = mounts::Host {
        directory: surroundings.directory,
        namespace: surroundings.host_mounts,
        privileged: security.privileged,
    };
    let all: Vec<&Mount> = request.spec.mounts.iter().chain(&anonymous).collect();
    mounts::volumes(&rootfs, &all, host).map_err(step("mount a volume"))?;
    passed(ContainerStep::Volumes)?;
    if !security.privileged && !security.unmasked_proc {
        mounts::protect(&rootfs).map_err(step("mask kernel files"))?;
    }
    passed(ContainerStep::Masks)?;
    enter_root(&rootfs, security.read_only_root).map_err(step("change the root"))?;
    passed(ContainerStep::Root)?;
    become_program(request, &request.args, allowed, stdio, report)
}

fn joined(
    request: &ContainerRequest,
    spec: &ExecSpec,
    first_process: &OwnedFd,
    cgroup: &Group,
    in_unified: bool,
    stdio: Stdio,
    report: &OwnedFd,
) -> Result<std::convert::Infallible, InitError> {
    let step = |operation: &'static str| move |error: io::Error| InitError::create(operation, &error);
    let allowed = allowed_capabilities(&request.spec.security)?;
    prepare(request.spec.oom_score_adj)?;
    cgroup.enter(!in_unified).map_err(step("enter the cgroup"))?;
    sys::namespace::join(first_process.as_fd(), libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP)
        .map_err(step("join the container"))?;
    become_program(request, &spec.command, allowed, stdio, report)
}

fn passed(step: ContainerStep) -> Result<(), InitError> {
    step.passed()
        .map_err(|error| InitError::create("start the container", &error))
}

fn allowed_capabilities(security: &Security) -> Result<CapabilitySet, InitError> {
    privileges::allowed(security).map_err(|name| InitError::config(format!("unknown capability {name:?}")))
}

/// What is independent of the root, while the host's /proc is still in sight.
fn prepare(oom_score_adj: i32) -> Result<(), InitError> {
    sys::process::reset_signals();
    // Lowering it needs a privilege that hosts in containers do not have; it is a preference, not a promise.
    match fs::write("/proc/self/oom_score_adj", oom_score_adj.to_string()) {
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
            return Err(InitError::create("set the OOM score", &error));
        }
        _ => {}
    }
    let own = rustix::process::getrlimit(Resource::Nofile);
    let maximum = own.maximum.map_or(OPEN_FILES.1, |maximum| maximum.min(OPEN_FILES.1));
    let limit = Rlimit {
        current: Some(OPEN_FILES.0.min(maximum)),
        maximum: Some(maximum),
    };
    rustix::process::setrlimit(Resource::Nofile, limit)
        .map_err(|error| InitError::create("limit open files", &error.into()))
}

fn enter_root(rootfs: &rootfs::Rootfs, read_only: bool) -> io::Result<()> {
    rustix::process::fchdir(&rootfs.directory)?;
    if read_only {
        sys::mount::set_attributes(rootfs.directory.as_fd(), sys::mount::READ_ONLY, false)?;
    }
    // Both names are the new root: the old one is stacked below it and taken off again, so no directory is needed for it.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

/// The part that first and further processes share: streams, identity, privileges, exec.
fn become_program(
    request: &ContainerRequest,
    args: &[String],
    allowed: CapabilitySet,
    stdio: Stdio,
    report: &OwnedFd,
) -> Result<std::convert::Infallible, InitError> {
    let step = |operation: &'static str| move |error: io::Error| InitError::create(operation, &error);
    let security = &request.spec.security;
    let (passwd, group) = (account_file("/etc/passwd")?, account_file("/etc/group")?);
    passed(ContainerStep::Accounts)?;
    let user = user::resolve(&request.user, security, &passwd, &group).map_err(InitError::config)?;
    let filter = seccomp::program(security, allowed).map_err(step("make the seccomp filter"))?;
    passed(ContainerStep::Filter)?;

    let terminal = matches!(stdio, Stdio::Terminal);
    let mut env = request.env.clone();
    if terminal && !env.iter().any(|(key, _)| key == "TERM") {
        env.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    if !env.iter().any(|(key, _)| key == "HOME") {
        env.push(("HOME".to_owned(), user.home.clone().unwrap_or_else(|| "/".to_owned())));
    }
    rustix::process::setsid().map_err(|error| InitError::create("start a session", &error.into()))?;
    passed(ContainerStep::Session)?;
    set_streams(stdio, user.uid, user.gid, report).map_err(step("connect the standard streams"))?;
    passed(ContainerStep::Connected)?;
    enter_directory(&request.cwd)?;
    passed(ContainerStep::WorkingDirectory)?;
    sys::process::set_umask(0o022);

    let no_new_privileges = !security.allow_privilege_escalation && !security.privileged;
    if no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(|error| InitError::create("set no_new_privs", &error.into()))?;
    } else if let Some(filter) = &filter {
        // Without no_new_privs only CAP_SYS_ADMIN may load a filter, so it comes before the capabilities go.
        sys::seccomp::load(filter).map_err(step("load the seccomp filter"))?;
    }
    privileges::bound(allowed).map_err(step("bound the capabilities"))?;
    passed(ContainerStep::Bounded)?;
    set_identity(&user).map_err(step("set the user"))?;
    passed(ContainerStep::Identity)?;
    privileges::hold(allowed, user.uid).map_err(step("set the capabilities"))?;
    passed(ContainerStep::Capabilities)?;
    // Changing the user clears it, so it is set here and not right after the fork.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| InitError::create("follow the shim's end", &error.into()))?;
    passed(ContainerStep::FollowsShim)?;
    if no_new_privileges && let Some(filter) = &filter {
        sys::seccomp::load(filter).map_err(step("load the seccomp filter"))?;
    }

    passed(ContainerStep::Filtered)?;
    sys::descriptors::close_on_exec();
    Err(program::execute(args, &env))
}

fn account_file(path: &str) -> Result<String, InitError> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(InitError::create("read the image's accounts", &error)),
    }
}

fn set_streams(stdio: Stdio, uid: u32, gid: u32, report: &OwnedFd) -> io::Result<()> {
    match stdio {
        Stdio::Streams { stdin, stdout, stderr } => {
            // Programs open /dev/stdout and /dev/stderr again by name, which asks for the owner.
            for stream in [&stdin, &stdout, &stderr] {
                let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(stream)?.st_mode);
                if kind == rustix::fs::FileType::Fifo {
                    rootfs::give(stream, uid, gid);
                }
            }
            rustix::stdio::dup2_stdin(&stdin)?;
            rustix::stdio::dup2_stdout(&stdout)?;
            rustix::stdio::dup2_stderr(&stderr)?;
        }
        Stdio::Terminal => {
            let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
            let controller = rustix::fs::open("/dev/pts/ptmx", flags, rustix::fs::Mode::empty())?;
            rustix::pty::unlockpt(&controller)?;
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let terminal = rustix::pty::ioctl_tiocgptpeer(&controller, flags)?;
            rootfs::give(&terminal, uid, gid);
            sys::descriptors::send(report.as_fd(), b"{}", &[controller.as_fd()])?;
            rustix::stdio::dup2_stdin(&terminal)?;
            rustix::stdio::dup2_stdout(&terminal)?;
            rustix::stdio::dup2_stderr(&terminal)?;
            rustix::process::ioctl_tiocsctty(&terminal)?;
        }
    }
    Ok(())
}

fn enter_directory(path: &str) -> Result<(), InitError> {
    let enter = || rustix::process::chdir(path);
    let result = match enter() {
        Err(rustix::io::Errno::NOENT) => fs::create_dir_all(path).and_then(|()| Ok(enter()?)),
        other => other.map_err(io::Error::from),
    };
    result.map_err(|error| InitError {
        stage: StartStage::Create,
        message: format!("cannot enter the working directory {path:?}: {error}"),
        code: 128,
    })
}

fn set_identity(user: &user::User) -> io::Result<()> {
    let groups: Vec<rustix::thread::Gid> = user
        .groups
        .iter()
        .map(|gid| rustix::thread::Gid::from_raw(*gid))
        .collect();
    rustix::thread::set_thread_groups(&groups)?;
    let gid = rustix::thread::Gid::from_raw(user.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = rustix::thread::Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}
