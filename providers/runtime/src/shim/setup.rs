//! What a shim does before it listens: its own session, cgroup and namespaces, which are the sandbox's.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountAttrFlags, MountPropagationFlags, mount_change};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

use crate::complaint::complain;
use crate::fault::SandboxStep;
use crate::init;
use crate::protocol::ShimSetup;
use crate::spec::SandboxSpec;
use crate::sys;

/// What a network of a sandbox's own has unless the pod says otherwise, as containerd sets it: ports below 1024 and echo requests are everybody's,
/// for they are nobody else's.
const NETWORK_DEFAULTS: [(&str, &str); 2] = [
    ("net.ipv4.ip_unprivileged_port_start", "0"),
    ("net.ipv4.ping_group_range", "0 2147483647"),
];

/// The size of a sandbox's /dev/shm in bytes, as other runtimes give.
const SHM_SIZE: &str = "67108864";

/// What the prepared sandbox consists of.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) listener: OwnedFd,
    /// The PID namespace of the shim itself, to come back to.
    pub(super) own_pid_namespace: OwnedFd,
    /// The mount namespace that this one was made from, for volumes whose mounts the host is to see.
    pub(super) host_mounts: OwnedFd,
}

/// Cuts the process off from who started it, but for `keep`.
pub(super) fn detach(setup: &ShimSetup, keep: &OwnedFd) -> io::Result<()> {
    sys::process::default_signal(libc::SIGCHLD);
    sys::process::ignore_signal(libc::SIGHUP);
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    sys::descriptors::close_all_but(keep.as_raw_fd());
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    // Standard output is the lock of starting shims.
    rustix::stdio::dup2_stdin(&null)?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(setup.dir.join("shim.log"))?;
    rustix::stdio::dup2_stderr(&log)?;
    rustix::thread::set_name(c"setpoint-shim")?;
    let title = format!("setpoint-shim {}/{}", setup.spec.namespace, setup.spec.name);
    if let Err(error) = sys::title::set(&title) {
        // It only helps people who look at the processes.
        complain!("cannot set the title of the process: {error}");
    }
    SandboxStep::Detached.passed()
}

/// Says that the shim listens, or that it never will: the lock of starting shims is let go.
pub(super) fn up() -> io::Result<()> {
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(&null)?)
}

/// Makes the sandbox's cgroups and namespaces and listens.
pub(super) fn prepare(setup: &ShimSetup, in_unified: bool) -> Result<Prepared, String> {
    let step = |operation: &'static str| move |error: io::Error| format!("cannot {operation}: {error}");
    let passed = |passed: SandboxStep| passed.passed().map_err(|error| error.to_string());
    let spec = &setup.spec;
    let hierarchies = &setup.hierarchies;
    hierarchies
        .shims(&setup.instance)
        .enter(!in_unified)
        .map_err(step("enter the cgroup of shims"))?;
    passed(SandboxStep::ShimsGroup)?;
    let group = hierarchies.sandbox(&setup.instance, &spec.id);
    group.create().map_err(step("make the sandbox's cgroup"))?;
    passed(SandboxStep::Group)?;
    group.limit(&spec.resources).map_err(step("limit the sandbox"))?;
    passed(SandboxStep::Limits)?;

    let host_mounts = fs::File::open("/proc/self/ns/mnt")
        .map_err(step("open the host's mount namespace"))?
        .into();
    let mut namespaces = libc::CLONE_NEWNS;
    if !spec.hostname.is_empty() {
        namespaces |= libc::CLONE_NEWUTS;
    }
    if spec.ip.is_some() {
        namespaces |= libc::CLONE_NEWNET;
    }
    if !spec.host_ipc {
        namespaces |= libc::CLONE_NEWIPC;
    }
    sys::namespace::unshare(namespaces).map_err(step("make the sandbox's namespaces"))?;
    // What the host unmounts goes here too; what is mounted here stays here.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|error| step("separate the mounts")(error.into()))?;
    passed(SandboxStep::Namespaces)?;
    if !spec.hostname.is_empty() {
        rustix::system::sethostname(spec.hostname.as_bytes())
            .map_err(|error| step("set the host name")(error.into()))?;
    }
    passed(SandboxStep::HostName)?;
    if spec.ip.is_some() {
        sys::namespace::raise_loopback().map_err(step("raise the loopback interface"))?;
    }
    passed(SandboxStep::Loopback)?;
    set_sysctls(spec)?;
    passed(SandboxStep::Parameters)?;
    make_shm(spec, &setup.dir).map_err(step("make /dev/shm"))?;
    passed(SandboxStep::SharedMemory)?;
    let listener = listen_on(&setup.socket).map_err(step("listen for the daemon"))?;
    passed(SandboxStep::Listening)?;
    let own_pid_namespace = fs::File::open("/proc/self/ns/pid")
        .map_err(step("open the own PID namespace"))?
        .into();
    Ok(Prepared {
        listener,
        own_pid_namespace,
        host_mounts,
    })
}

/// Sets kernel parameters. Only those that the sandbox's own namespaces keep apart are let through.
fn set_sysctls(spec: &SandboxSpec) -> Result<(), String> {
    let defaults = NETWORK_DEFAULTS
        .iter()
        .filter(|(name, _)| !spec.sysctls.contains_key(*name));
    for (name, value) in defaults.filter(|_| spec.ip.is_some()) {
        match fs::write(parameter(name), value) {
            // A kernel without the parameter has nothing to open.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("cannot set sysctl {name}={value}: {error}"));
            }
            _ => {}
        }
    }
    for (name, value) in &spec.sysctls {
        let network = name.starts_with("net.") && spec.ip.is_some();
        let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."]
            .iter()
            .any(|own| name.starts_with(own));
        let ipc = ipc && !spec.host_ipc;
        if !network && !ipc {
            return Err(format!(
                "sysctl {name:?} is not the pod's own, so it would change the host"
            ));
        }
        if name.contains("..") || name.contains('/') {
            return Err(format!("sysctl {name:?} is not a name of a kernel parameter"));
        }
        fs::write(parameter(name), value).map_err(|error| format!("cannot set sysctl {name}={value}: {error}"))?;
    }
    Ok(())
}

/// Returns the file of a kernel parameter.
fn parameter(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

fn make_shm(spec: &SandboxSpec, dir: &Path) -> io::Result<()> {
    let target = dir.join("shm");
    match fs::create_dir(&target) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let tree = if spec.host_ipc {
        init::host_tree(Path::new("/dev/shm"))?
    } else {
        let attributes =
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        init::detached("tmpfs", &[("mode", "1777"), ("size", SHM_SIZE)], attributes)?
    };
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let place = rustix::fs::open(&target, flags, rustix::fs::Mode::empty())?;
    init::attach(tree, place)
}

fn listen_on(path: &Path) -> io::Result<OwnedFd> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = SocketAddrUnix::new(path)?;
    sys::process::set_umask(0o177);
    let bound = bind(listener.as_fd(), &address);
    sys::process::set_umask(0o022);
    bound?;
    listen(&listener, 64)?;
    Ok(listener)
}
