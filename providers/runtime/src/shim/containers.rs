//! Containers of the sandbox: starting, ending, forgetting.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use super::attach::Attachment;
use super::output::{Log, Stream};
use super::{Shim, clock};
use crate::cgroup::Group;
use crate::complaint::complain;
use crate::error::StartStage;
use crate::fault::ContainerStep;
use crate::init::{self, InitError, Stdio, Surroundings};
use crate::logs;
use crate::protocol::{ContainerRequest, Failure};
use crate::spec::{ContainerState, Exit};
use crate::sys;
use crate::sys::process::Child;

/// One attempt.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) state: ContainerState,
    /// What it was started with; dropped once it ended.
    pub(super) request: Option<ContainerRequest>,
    /// Its first process, until it was reaped.
    pub(super) child: Option<Child>,
    /// Who waits for its start.
    pub(super) starting: Option<Starting>,
    /// Standard output and standard error (or only a terminal).
    pub(super) streams: Vec<Stream>,
    /// The writing end of its standard input, or nothing.
    pub(super) stdin: Option<OwnedFd>,
    /// Who is attached to its streams.
    pub(super) attachments: Vec<Attachment>,
    log: Log,
    pub(super) cgroup: Group,
    directory: PathBuf,
}

/// A start that is not answered yet.
#[derive(Debug)]
pub(super) struct Starting {
    /// Connections and calls: a daemon that came while it starts asks again.
    waiting: Vec<(u64, u64)>,
    /// Where the child says why it failed; closed by its exec.
    pub(super) report: OwnedFd,
}

/// What a report socket says.
pub(super) enum Report {
    /// Nothing more: the program runs.
    Executed,
    /// The program could not be executed.
    Failed(InitError),
    /// The other end of the terminal.
    Terminal(OwnedFd),
    /// Not yet.
    Later,
}

/// Makes a report socket: the shim's end and the child's.
pub(super) fn report_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, theirs))
}

/// Reads the next report.
pub(super) fn read_report(report: &OwnedFd) -> Report {
    let mut buffer = [0u8; 8 << 10];
    let mut descriptors = Vec::new();
    match sys::descriptors::receive(report.as_fd(), &mut buffer, &mut descriptors) {
        Ok(0) => Report::Executed,
        Ok(count) => match descriptors.pop() {
            Some(terminal) => Report::Terminal(terminal),
            None => match serde_json::from_slice(&buffer[..count]) {
                Ok(error) => Report::Failed(error),
                Err(error) => Report::Failed(InitError::unreadable(&error)),
            },
        },
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Report::Later,
        Err(_) => Report::Executed,
    }
}

impl Container {
    /// Moves output into the log and to who is attached.
    pub(super) fn pump(&mut self, stream: usize) {
        self.move_output(stream, false);
    }

    fn drain(&mut self) {
        for number in 0..self.streams.len() {
            self.move_output(number, true);
        }
    }

    fn move_output(&mut self, number: usize, all: bool) {
        let Container {
            streams,
            log,
            attachments,
            ..
        } = self;
        if let Some(stream) = streams.get_mut(number) {
            stream.pump(log, all, &mut |bytes| {
                for attachment in attachments.iter_mut() {
                    attachment.write(number, bytes);
                }
            });
        }
    }

    /// Kills every process of it.
    pub(super) fn kill_all(&self) {
        if let Some(child) = &self.child {
            // It may have ended meanwhile.
            if let Err(error) = sys::process::signal(child.pidfd.as_fd(), libc::SIGKILL) {
                tracing::debug!(%error, "the first process is gone already");
            }
        }
        self.cgroup.kill();
    }
}

fn failure(stage: StartStage, operation: &str, error: &io::Error) -> Failure {
    Failure {
        stage: Some(stage),
        message: format!("cannot {operation}: {error}"),
        code: 128,
    }
}

impl Shim {
    pub(super) fn position(&self, id: &str) -> Result<usize, Failure> {
        self.containers
            .iter()
            .position(|container| container.state.id() == id)
            .ok_or_else(|| Failure::refused(format!("there is no container {id}")))
    }

    /// Starts a container; the answer follows when its program runs or has failed to.
    pub(super) fn start(&mut self, request: ContainerRequest, connection: u64, call: u64) -> Result<(), Failure> {
        let spec = &request.spec;
        let id = format!("{}-{}", spec.name, spec.attempt);
        if self.ending.is_some() {
            return Err(Failure::refused("the sandbox is being removed"));
        }
        if let Ok(position) = self.position(&id) {
            // The daemon that asked first was killed, and the next one was not told of what had not started yet.
            let Some(starting) = &mut self.containers[position].starting else {
                return Err(Failure::refused(format!("container {id} exists already")));
            };
            starting.waiting.push((connection, call));
            return Ok(());
        }
        let directory = self.setup.dir.join("containers").join(&id);
        let cgroup = self
            .setup
            .hierarchies
            .container(&self.setup.instance, &self.setup.spec.id, &id);
        let log_path = logs::below(&self.setup.dir, &spec.name, spec.attempt);
        request.fault.clone().arm();
        let started = self.fork_first(&request, &directory, &cgroup, log_path, connection, call);
        match started {
            Ok(container) => {
                self.containers.push(container);
                Ok(())
            }
            Err(failure) => {
                self.undo(&directory, cgroup);
                Err(failure)
            }
        }
    }

    fn fork_first(
        &mut self,
        request: &ContainerRequest,
        directory: &Path,
        cgroup: &Group,
        log_path: PathBuf,
        connection: u64,
        call: u64,
    ) -> Result<Container, Failure> {
        let create = |operation: &'static str| move |error: io::Error| failure(StartStage::Create, operation, &error);
        let spec = &request.spec;
        let passed = |step: ContainerStep| step.passed().map_err(create("start the container"));
        cgroup.create().map_err(create("make the container's cgroup"))?;
        passed(ContainerStep::Group)?;
        cgroup.limit(&spec.resources).map_err(create("limit the container"))?;
        passed(ContainerStep::Limits)?;
        make_directories(directory).map_err(create("make the container's directory"))?;
        passed(ContainerStep::Directory)?;
        let log = Log::create(log_path, spec.log).map_err(create("make the container's log"))?;
        let result = (|| {
            passed(ContainerStep::Log)?;
            let (stdio, streams, stdin) =
                stdio(spec.tty, spec.stdin, spec.stdin_once).map_err(create("make the standard streams"))?;
            passed(ContainerStep::Streams)?;
            let (report, childs_report) = report_pair().map_err(create("make the report socket"))?;
            passed(ContainerStep::Report)?;
            let shm = self.setup.dir.join("shm");
            let own = &self.setup.spec;
            let mut namespaces = libc::CLONE_NEWNS;
            if !own.host_pid && !own.share_process_namespace && spec.target.is_none() {
                namespaces |= libc::CLONE_NEWPID;
            }
            if own.share_process_namespace && !own.host_pid {
                self.ensure_shared_init()
                    .map_err(create("make the shared PID namespace"))?;
            }
            passed(ContainerStep::SharedInit)?;
            let unified = cgroup.open_unified();
            let surroundings = Surroundings {
                directory,
                host_mounts: &self.prepared.host_mounts,
                shm: &shm,
                cgroup,
                in_unified: unified.is_some(),
                cgroup_namespace: !spec.security.privileged,
            };
            let shared = match &spec.target {
                Some(target) => Some(self.first_process(target)?),
                None => self.shared_init.as_ref().map(|init| init.pidfd.as_fd()),
            };
            let body = || init::run_first(request, &surroundings, stdio, childs_report);
            let child = self
                .in_pid_namespace(shared, || {
                    sys::process::fork(namespaces, unified.as_ref().map(AsFd::as_fd), body)
                })
                .map_err(create("fork the container's first process"))?;
            Ok((child, streams, stdin, report))
        })();
        match result {
            Ok((child, streams, stdin, report)) => Ok(Container {
                state: ContainerState {
                    name: spec.name.clone(),
                    attempt: spec.attempt,
                    image: spec.image.clone(),
                    mounted: spec.images().skip(1).map(str::to_owned).collect(),
                    pid: child.pid,
                    started_at: clock::now(),
                    exit: None,
                },
                request: Some(request.clone()),
                child: Some(child),
                starting: Some(Starting {
                    waiting: vec![(connection, call)],
                    report,
                }),
                streams,
                stdin,
                attachments: Vec::new(),
                log,
                cgroup: cgroup.clone(),
                directory: directory.to_owned(),
            }),
            Err(failure) => {
                log.discard();
                Err(failure)
            }
        }
    }

    /// Returns the first process of a container that another one looks into.
    fn first_process(&self, id: &str) -> Result<std::os::fd::BorrowedFd<'_>, Failure> {
        let target = self.position(id).ok().and_then(|at| self.containers.get(at));
        let child = target.and_then(|target| target.child.as_ref());
        child.map(|child| child.pidfd.as_fd()).ok_or_else(|| Failure {
            stage: Some(StartStage::Create),
            message: format!("cannot join the processes of container {id}: it is not running"),
            code: 128,
        })
    }

    /// Runs `fork` so that its child is born into the PID namespace of `of`.
    pub(super) fn in_pid_namespace<T>(
        &self,
        of: Option<std::os::fd::BorrowedFd<'_>>,
        fork: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let Some(of) = of else { return fork() };
        sys::namespace::join(of, libc::CLONE_NEWPID)?;
        let result = fork();
        sys::namespace::join(self.prepared.own_pid_namespace.as_fd(), libc::CLONE_NEWPID)?;
        result
    }

    /// Starts the process that is number 1 of a PID namespace that containers share. It only reaps.
    fn ensure_shared_init(&mut self) -> io::Result<()> {
        if self.shared_init.is_some() {
            return Ok(());
        }
        let body = || {
            sys::descriptors::close_all_but(0);
            sys::process::ignore_signal(libc::SIGCHLD);
            let dies_with_shim = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
            if dies_with_shim.is_err() {
                return 1;
            }
            loop {
                rustix::event::pause();
            }
        };
        self.shared_init = Some(sys::process::fork(libc::CLONE_NEWPID, None, body)?);
        Ok(())
    }

    /// Takes note of what a starting container says.
    pub(super) fn start_reported(&mut self, position: usize) {
        let Some(container) = self.containers.get_mut(position) else {
            return;
        };
        let Some(starting) = &container.starting else { return };
        match read_report(&starting.report) {
            Report::Later => {}
            Report::Terminal(terminal) => {
                if let Err(error) = rustix::io::ioctl_fionbio(&terminal, true) {
                    complain!("cannot read a terminal: {error}");
                    return;
                }
                let once = container
                    .request
                    .as_ref()
                    .is_some_and(|request| request.spec.stdin_once);
                container.streams = vec![Stream::new("stdout", Some(terminal), once)];
            }
            Report::Executed => {
                let Some(starting) = container.starting.take() else {
                    return;
                };
                container.state.started_at = clock::now();
                if let Some(request) = &mut container.request {
                    request.layers = Vec::new();
                }
                self.changed(None);
                self.reply_all(starting, None);
            }
            Report::Failed(error) => {
                let container = self.containers.remove(position);
                self.start_failed(container, error.into_failure());
            }
        }
    }

    fn start_failed(&mut self, container: Container, failure: Failure) {
        container.kill_all();
        if let Some(child) = &container.child
            && let Err(error) = sys::process::wait(child.pidfd.as_fd())
        {
            complain!("cannot reap a container that did not start: {error}");
        }
        container.log.discard();
        self.undo(&container.directory, container.cgroup);
        if let Some(starting) = container.starting {
            self.reply_all(starting, Some(failure));
        }
    }

    fn reply_all(&mut self, starting: Starting, failure: Option<Failure>) {
        for (connection, call) in starting.waiting {
            self.reply(connection, call, failure.clone(), Vec::new());
        }
    }

    fn undo(&mut self, directory: &Path, cgroup: Group) {
        if let Err(error) = crate::tree::remove(directory)
            && error.kind() != io::ErrorKind::NotFound
        {
            complain!("cannot remove {}: {error}", directory.display());
        }
        self.sweep(cgroup);
    }

    fn sweep(&mut self, group: Group) {
        if !group.remove() {
            self.leftovers.push(group);
        }
    }

    /// Reaps a container and records how it ended.
    pub(super) fn container_ended(&mut self, position: usize) {
        self.start_reported(position);
        let Some(container) = self.containers.get_mut(position) else {
            return;
        };
        let Some(child) = &container.child else { return };
        let ended = match sys::process::reap(child.pidfd.as_fd()) {
            Ok(Some(ended)) => ended,
            Ok(None) => return,
            Err(error) => {
                complain!("cannot reap container {}: {error}", container.state.id());
                sys::process::Ended {
                    code: 255,
                    signal: None,
                }
            }
        };
        container.child = None;
        // Also of a program that went on after one of its children was killed, as containerd tells it.
        let oom_killed = container.cgroup.oom_killed();
        // Without an own PID namespace it may have left processes behind.
        container.cgroup.kill();
        container.drain();
        container.request = None;
        container.stdin = None;
        let finished_at = clock::now();
        container.state.exit = Some(Exit {
            code: ended.code,
            signal: ended.signal,
            oom_killed,
            finished_at,
        });
        let state = container.state.clone();
        let cgroup = container.cgroup.clone();
        let unanswered = container.starting.take();
        // First the news, on which the next start waits; the loop removes the group when nothing else is to be done.
        self.changed(Some(state));
        self.leftovers.push(cgroup);
        if let Some(starting) = unanswered {
            self.reply_all(starting, None);
        }
    }

    /// Sends a signal to a container's first process; `None` is the one that asks it to stop.
    pub(super) fn signal(&self, id: &str, number: Option<i32>) -> Result<(), Failure> {
        let container = &self.containers[self.position(id)?];
        let (Some(child), Some(request)) = (&container.child, &container.request) else {
            return Err(Failure::refused(format!("container {id} is not running")));
        };
        let number = number.unwrap_or(request.stop_signal);
        sys::process::signal(child.pidfd.as_fd(), number)
            .map_err(|error| Failure::refused(format!("cannot send signal {number} to container {id}: {error}")))
    }

    /// Kills every process of a container; one that ended is left as it is.
    pub(super) fn kill(&self, id: &str) -> Result<(), Failure> {
        let container = &self.containers[self.position(id)?];
        if container.child.is_some() {
            container.kill_all();
        }
        Ok(())
    }

    /// Forgets an attempt that ended. Its files are the daemon's to remove: that can take long.
    pub(super) fn remove(&mut self, id: &str) -> Result<(), Failure> {
        let position = self.position(id)?;
        if self.containers[position].child.is_some() {
            return Err(Failure::refused(format!("container {id} is running")));
        }
        self.containers.remove(position);
        self.changed(None);
        Ok(())
    }
}

fn make_directories(directory: &Path) -> io::Result<()> {
    // Left by a shim that was killed: an upper layer must be fresh.
    match crate::tree::remove(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(directory)?;
    for name in ["upper", "work", "rootfs"] {
        fs::create_dir(directory.join(name))?;
    }
    Ok(())
}

/// Makes the child's streams, the shim's readers of them and the writer of its input.
fn stdio(tty: bool, stdin: bool, once: bool) -> io::Result<(Stdio, Vec<Stream>, Option<OwnedFd>)> {
    if tty {
        return Ok((Stdio::Terminal, Vec::new(), None));
    }
    let (input, writer) = if stdin {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        (reader, Some(writer))
    } else {
        (null()?, None)
    };
    let output = || -> io::Result<(OwnedFd, OwnedFd)> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        Ok((reader, writer))
    };
    let ((out_reader, stdout), (err_reader, stderr)) = (output()?, output()?);
    let streams = vec![
        Stream::new("stdout", Some(out_reader), once),
        Stream::new("stderr", Some(err_reader), once),
    ];
    Ok((
        Stdio::Streams {
            stdin: input,
            stdout,
            stderr,
        },
        streams,
        writer,
    ))
}

/// Opens what a process without input reads.
pub(super) fn null() -> io::Result<OwnedFd> {
    Ok(File::open("/dev/null")?.into())
}
