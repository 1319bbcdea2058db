//! One pod's shim: a small single-threaded process that owns the pod's namespaces and containers and outlives the daemon.
//!
//! It owns: the containers' processes (it is their parent), their output and logs, the record of how they ended
//! (`state.json`). It must never wait for a client, a container or a disk longer than a write takes: everything is one poll
//! loop over descriptors. It allocates little and starts no thread, because it forks.
//! Start reading at [`run`].

mod attach;
mod clock;
mod connection;
mod containers;
mod output;
mod processes;
mod setup;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, accept_with, sockopt::socket_peercred};

use crate::cgroup::Group;
use crate::complaint::complain;
use crate::protocol::{self, Call, ClientHello, Failure, Message, Request, ShimHello, ShimSetup, VERSION};
use crate::spec::SandboxState;
use crate::sys;
use connection::Connection;
use containers::Container;
use processes::Session;
use setup::Prepared;

/// How often groups whose processes take their time to go are tried to be removed.
const SWEEP: Duration = Duration::from_millis(20);

/// How often clients that do not take what is written for them are looked after.
const CLIENTS: Duration = Duration::from_secs(1);

/// How long after a record that could not be written it is tried again, unless something happens before.
const RECORD: Duration = Duration::from_secs(5);

/// How long a shim that was asked to end waits for its processes.
const LAST_WAIT: Duration = Duration::from_secs(8);

/// Everything that a shim holds.
struct Shim {
    setup: ShimSetup,
    prepared: Prepared,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// Every attempt that was not removed, oldest first.
    containers: Vec<Container>,
    /// Processes that run by exec.
    sessions: Vec<Session>,
    /// The first process of the PID namespace that the containers share.
    shared_init: Option<sys::process::Child>,
    /// Groups that could not be removed yet.
    leftovers: Vec<Group>,
    /// Whether the record on disk is behind.
    unrecorded: bool,
    /// When to give up ending.
    ending: Option<Instant>,
    /// Whether some daemon has said hello. Until then nobody knows of this shim but the one at its first connection.
    claimed: bool,
}

/// What a descriptor in the poll set belongs to.
#[derive(Clone, Copy, Debug)]
enum Source {
    Listener,
    Connection(u64),
    /// The report of a starting container, by position.
    StartReport(usize),
    ContainerOutput(usize, usize),
    /// A client of a container by position, number and stream: it has room again.
    Attached(usize, usize, usize),
    ContainerExit(usize),
    SessionReport(usize),
    SessionExit(usize),
    SharedInit,
}

/// Runs a shim; returns its exit code once it was asked to end.
pub(crate) fn run(setup: ShimSetup, in_unified: bool, first: OwnedFd) -> i32 {
    setup.fault.clone().arm();
    if let Err(error) = setup::detach(&setup, &first) {
        refuse(first, format!("cannot leave the session of the daemon: {error}"));
        return 1;
    }
    let prepared = match setup::prepare(&setup, in_unified) {
        Ok(prepared) => prepared,
        Err(message) => {
            setup.hierarchies.sandbox(&setup.instance, &setup.spec.id).remove();
            refuse(first, message);
            return 1;
        }
    };
    let mut shim = Shim {
        setup,
        prepared,
        connections: BTreeMap::new(),
        next_connection: 0,
        containers: Vec::new(),
        sessions: Vec::new(),
        shared_init: None,
        leftovers: Vec::new(),
        unrecorded: false,
        ending: None,
        claimed: false,
    };
    shim.record();
    shim.greet(first);
    if let Err(error) = setup::up() {
        complain!("cannot let go of the lock of starting shims: {error}");
    }
    sys::process::trim_memory();
    match shim.serve() {
        Ok(()) => 0,
        Err(error) => {
            complain!("the shim ends: {error}");
            1
        }
    }
}

/// Tells the daemon why there is no sandbox.
pub(crate) fn refuse(first: OwnedFd, message: String) {
    complain!("{message}");
    if let Ok(mut connection) = Connection::new(first) {
        let hello = ShimHello {
            protocol: VERSION,
            pid: pid(),
            error: Some(message),
            state: None,
            features: protocol::features::own(),
        };
        connection.send(&hello, Vec::new());
    }
}

fn pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

impl Shim {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            if let Some(deadline) = self.ending
                && (self.is_quiet() || Instant::now() >= deadline)
            {
                return self.finish();
            }
            for (source, ready) in self.wait()? {
                self.handle(source, ready);
            }
            self.catch_up();
            if !self.claimed && self.ending.is_none() && self.connections.get(&0).is_none_or(|first| first.broken) {
                // Whoever asked for it is gone, and looks for it nowhere.
                self.end();
            }
            self.connections
                .retain(|_, connection| !connection.broken || connection.has_output());
            self.end_orphaned_sessions();
            self.settle_attachments();
            self.leftovers.retain(|group| {
                group.kill();
                !group.remove()
            });
        }
    }

    /// Waits for something to happen.
    fn wait(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut watched: Vec<(Source, BorrowedFd<'_>, PollFlags)> = Vec::new();
        let mut full: Vec<(Source, BorrowedFd<'_>, PollFlags)> = Vec::new();
        let mut watch = |source, file| watched.push((source, file, PollFlags::IN));
        if self.ending.is_none() {
            watch(Source::Listener, self.prepared.listener.as_fd());
        }
        for (position, container) in self.containers.iter().enumerate() {
            if let Some(starting) = &container.starting {
                watch(Source::StartReport(position), starting.report.as_fd());
            }
            for (number, stream) in container.streams.iter().enumerate() {
                let waiting = full.len();
                full.extend(attach::holding_back(container, number).map(|(client, sink)| {
                    let source = Source::Attached(position, client, number);
                    (source, sink, PollFlags::OUT)
                }));
                if let (true, Some(file)) = (full.len() == waiting, &stream.file) {
                    watch(Source::ContainerOutput(position, number), file.as_fd());
                }
            }
            if let Some(child) = &container.child {
                watch(Source::ContainerExit(position), child.pidfd.as_fd());
            }
        }
        for (position, session) in self.sessions.iter().enumerate() {
            if let Some(report) = &session.report {
                watch(Source::SessionReport(position), report.as_fd());
            }
            watch(Source::SessionExit(position), session.child.pidfd.as_fd());
        }
        if let Some(init) = &self.shared_init {
            watch(Source::SharedInit, init.pidfd.as_fd());
        }
        watched.append(&mut full);
        for (number, connection) in &self.connections {
            let mut flags = PollFlags::IN;
            if connection.has_output() {
                flags |= PollFlags::OUT;
            }
            watched.push((Source::Connection(*number), connection.socket.as_fd(), flags));
        }
        let mut polled: Vec<PollFd<'_>> = watched
            .iter()
            .map(|(_, file, flags)| PollFd::from_borrowed_fd(*file, *flags))
            .collect();
        let timeout = self.timeout();
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let ready = watched
            .iter()
            .map(|(source, ..)| *source)
            .zip(polled.iter().map(PollFd::revents));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn timeout(&self) -> Option<Timespec> {
        let sweep = (!self.leftovers.is_empty()).then_some(SWEEP);
        let end = self
            .ending
            .map(|deadline| deadline.saturating_duration_since(Instant::now()).min(SWEEP));
        let clients = (self.has_waiting_clients() || self.has_hung_up_sessions()).then_some(CLIENTS);
        let record = self.unrecorded.then_some(RECORD);
        let shortest = sweep.into_iter().chain(end).chain(clients).chain(record).min()?;
        Some(Timespec {
            tv_sec: shortest.as_secs() as i64,
            tv_nsec: shortest.subsec_nanos().into(),
        })
    }

    /// A position may be stale when something before it was removed in the same round: every handler looks before it acts,
    /// none waits, and what was missed shows again in the next round.
    fn handle(&mut self, source: Source, ready: PollFlags) {
        match source {
            Source::Listener => self.accept(),
            Source::Connection(number) => self.hear(number, ready),
            Source::StartReport(position) => self.start_reported(position),
            Source::ContainerOutput(position, stream) => {
                if let Some(container) = self.containers.get_mut(position) {
                    container.pump(stream);
                }
            }
            Source::Attached(position, client, stream) => {
                let container = self.containers.get_mut(position);
                if let Some(attachment) = container.and_then(|container| container.attachments.get_mut(client)) {
                    attachment.flush(stream);
                }
            }
            Source::ContainerExit(position) => self.container_ended(position),
            Source::SessionReport(position) => self.session_reported(position),
            Source::SessionExit(position) => self.session_ended(position),
            Source::SharedInit => {
                if let Some(init) = &self.shared_init
                    && !matches!(sys::process::reap(init.pidfd.as_fd()), Ok(None))
                {
                    self.shared_init = None;
                }
            }
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match accept_with(&self.prepared.listener, flags) {
            Ok(socket) => {
                let own = rustix::process::geteuid();
                match socket_peercred(&socket) {
                    Ok(peer) if peer.uid == own => self.greet(socket),
                    Ok(peer) => complain!("refused a connection of user {}", peer.uid.as_raw()),
                    Err(error) => complain!("cannot tell who connects: {error}"),
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
            Err(error) => complain!("cannot accept a connection: {error}"),
        }
    }

    fn greet(&mut self, socket: OwnedFd) {
        match Connection::new(socket) {
            Ok(mut connection) => {
                let hello = ShimHello {
                    protocol: VERSION,
                    pid: pid(),
                    error: None,
                    state: Some(self.state()),
                    features: protocol::features::own(),
                };
                connection.send(&hello, Vec::new());
                self.connections.insert(self.next_connection, connection);
                self.next_connection += 1;
            }
            Err(error) => complain!("cannot use a connection: {error}"),
        }
    }

    fn hear(&mut self, number: u64, ready: PollFlags) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if ready.contains(PollFlags::OUT) {
            connection.flush();
        }
        if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            connection.receive();
        }
        if !connection.greeted {
            match connection.inbox.next::<ClientHello>() {
                Ok(None) => return,
                Ok(Some(hello)) if hello.protocol == VERSION => {
                    connection.greeted = true;
                    connection.subscribed = hello.subscribe;
                    self.claimed = true;
                    if hello.subscribe {
                        // What changed between our hello and now.
                        let state = Message::State(Box::new(self.state()));
                        if let Some(connection) = self.connections.get_mut(&number) {
                            connection.send(&state, Vec::new());
                        }
                    }
                }
                Ok(Some(_)) | Err(_) => {
                    connection.broken = true;
                    return;
                }
            }
        }
        while let Some(connection) = self.connections.get_mut(&number) {
            match connection.inbox.next::<Call>() {
                Ok(Some(call)) => self.answer(number, call),
                Ok(None) => return,
                Err(error) => {
                    complain!("a client sent what is not a request: {error}");
                    connection.broken = true;
                    return;
                }
            }
        }
    }

    /// Does what a client asks for; what takes time is answered when it is done.
    fn answer(&mut self, number: u64, call: Call) {
        let Call { id, request } = call;
        let result = match request {
            Request::Start(request) => match self.start(*request, number, id) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Request::Exec { container, spec } => match self.exec(&container, spec, number, id) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Request::Attach { container, stdin } => match self.attach(&container, stdin, number) {
                Ok(descriptors) => {
                    self.reply(number, id, None, descriptors);
                    return;
                }
                Err(failure) => Err(failure),
            },
            Request::CloseInput { container } => self.close_input(&container, number),
            Request::Signal { container, signal } => self.signal(&container, Some(signal)),
            Request::Stop { container } => self.signal(&container, None),
            Request::Kill { container } => self.kill(&container),
            Request::Remove { container } => self.remove(&container),
            Request::Shutdown => {
                self.end();
                return;
            }
        };
        self.reply(number, id, result.err(), Vec::new());
    }

    fn reply(&mut self, number: u64, id: u64, failure: Option<Failure>, descriptors: Vec<OwnedFd>) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.send(&Message::Answer { id, failure }, descriptors);
        }
    }

    fn state(&self) -> SandboxState {
        // One that is starting is not there yet: its caller hears how that ends.
        let containers = self.containers.iter().filter(|container| container.starting.is_none());
        SandboxState {
            spec: self.setup.spec.clone(),
            pid: pid(),
            containers: containers.map(|container| container.state.clone()).collect(),
        }
    }

    fn state_path(&self) -> PathBuf {
        self.setup.dir.join("state.json")
    }

    /// Writes the state down, for whoever comes after this shim. Where that fails, on a full disk for example, it is tried again.
    fn record(&mut self) {
        let written = crate::record::write(&self.state_path(), &self.state());
        self.unrecorded = written.is_err();
        if let Err(error) = written {
            complain!("cannot write {}: {error}", self.state_path().display());
        }
    }

    /// Writes down what changed in this round, after everyone was told: replacing a file can make ext4 write its data out
    /// first, which takes longer than all the rest.
    fn catch_up(&mut self) {
        if self.unrecorded {
            self.record();
        }
    }

    /// Records a change and tells it to subscribers.
    fn changed(&mut self, exited: Option<crate::spec::ContainerState>) {
        self.unrecorded = true;
        let state = Message::State(Box::new(self.state()));
        let exited = exited.map(|container| Message::Exited(Box::new(container)));
        for connection in self.connections.values_mut().filter(|connection| connection.subscribed) {
            connection.send(&state, Vec::new());
            if let Some(exited) = &exited {
                connection.send(exited, Vec::new());
            }
        }
    }

    /// Kills everything; the loop ends once it is gone.
    fn end(&mut self) {
        self.ending = Some(Instant::now() + LAST_WAIT);
        for container in &self.containers {
            container.kill_all();
        }
        for session in &self.sessions {
            session.kill();
        }
        if let Some(init) = &self.shared_init {
            sys::process::kill(init.pid);
        }
        self.setup
            .hierarchies
            .sandbox(&self.setup.instance, &self.setup.spec.id)
            .kill();
    }

    fn is_quiet(&self) -> bool {
        self.shared_init.is_none()
            && self.sessions.is_empty()
            && self.containers.iter().all(|container| container.child.is_none())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.setup
            .hierarchies
            .sandbox(&self.setup.instance, &self.setup.spec.id)
            .remove();
        std::fs::remove_file(&self.setup.socket)
    }
}
