//! Finding the sandboxes again that an earlier daemon left running.
//!
//! Only a socket that is gone, or that nobody listens at, says that a shim is gone. Whatever else keeps this daemon from connecting (no
//! descriptors left, a shim with too many connections waiting) says nothing about the shim, and its pod must not pay for it: the sandbox is held as
//! recorded, its id and address taken, until the shim answers or turns out to be gone.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::{FutureExt, StreamExt};

use super::channel::Channel;
use super::close::recorded;
use super::link::{Greeted, greet};
use super::{Inner, attach};
use crate::cgroup::Hierarchies;
use crate::error::RuntimeError;
use crate::spec::{RuntimeEvent, SandboxState};
use crate::starting;

/// How many shims are greeted at once.
const AT_ONCE: usize = 32;

/// How long the start of the daemon waits for a shim that it cannot connect to.
const REACH: Duration = Duration::from_secs(10);

/// How long a shim that listens may take to say hello before it is tried again later. The start of the daemon waits for it.
const HELLO: Duration = Duration::from_secs(5);

/// The first wait between two tries; each is twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(20);

/// The longest wait between two tries, also after the start.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Returns where cgroups are: chosen at the first start and kept, because a later daemon may run in another group itself.
pub(super) fn hierarchies(data_dir: &Path) -> Result<Hierarchies, RuntimeError> {
    let path = data_dir.join("cgroups.json");
    if let Ok(text) = std::fs::read(&path)
        && let Ok(kept) = serde_json::from_slice::<Hierarchies>(&text)
        && kept.is_present()
    {
        return Ok(kept);
    }
    let found = Hierarchies::detect().map_err(RuntimeError::io("find cgroups in", "/proc/self/cgroup"))?;
    let text = serde_json::to_vec(&found).map_err(|error| RuntimeError::io("encode", &path)(error.into()))?;
    std::fs::write(&path, text).map_err(RuntimeError::io("write", &path))?;
    Ok(found)
}

impl Inner {
    /// Connects to every shim; takes away what is left of those that are gone.
    pub(super) async fn adopt(self: &Arc<Self>) -> Result<Vec<SandboxState>, RuntimeError> {
        let sockets = self.config.run_dir.join("shims");
        if !starting::finished(&sockets)
            .await
            .map_err(RuntimeError::io("lock a file in", &sockets))?
        {
            tracing::warn!(
                "a shim that an earlier daemon asked for neither comes up nor ends; not waiting for it any longer"
            );
        }
        let mut ids = names(&self.config.data_dir.join("sandboxes"), "")?;
        ids.extend(names(&self.config.run_dir.join("shims"), ".sock")?);
        let attached = if ids.is_empty() {
            BTreeSet::new()
        } else {
            self.attached().await?
        };
        let mut adoptions = Vec::with_capacity(ids.len());
        for id in &ids {
            self.recall(id);
            adoptions.push(self.adopt_one(id, &attached).boxed());
        }
        let adopted = futures::stream::iter(adoptions).buffer_unordered(AT_ONCE);
        let adopted = adopted.filter_map(std::future::ready).collect().await;
        self.kill_strays();
        Ok(adopted)
    }

    /// Returns the addresses of the pods that have a network.
    async fn attached(&self) -> Result<BTreeSet<std::net::Ipv4Addr>, RuntimeError> {
        let Some(net) = &self.net else {
            return Ok(BTreeSet::new());
        };
        let attached = net.attached().await.map_err(|source| RuntimeError::Network {
            operation: "list",
            sandbox: "of every pod".to_owned(),
            source,
        })?;
        Ok(attached
            .into_iter()
            .map(|attachment| attachment.addresses.ipv4)
            .collect())
    }

    async fn adopt_one(self: &Arc<Self>, id: &str, attached: &BTreeSet<std::net::Ipv4Addr>) -> Option<SandboxState> {
        let reached = reach(&self.socket(id), id, REACH).await;
        match self.take(id, reached, attached).await {
            Ok(adopted) => adopted,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    sandbox = id,
                    "cannot adopt a sandbox; its containers are left as they are, and it is tried again"
                );
                self.hold_unreached(id)
            }
        }
    }

    /// Takes a shim that was reached among the live ones, and away what is left of one that is gone.
    async fn take(
        self: &Arc<Self>,
        id: &str,
        reached: Result<Option<Greeted>, RuntimeError>,
        attached: &BTreeSet<std::net::Ipv4Addr>,
    ) -> Result<Option<SandboxState>, RuntimeError> {
        match reached? {
            Some(greeted) => {
                let state = greeted.state();
                // A daemon that died between the two steps left a sandbox without network. Without one it is not among the live ones.
                if let (Some(addresses), Some(net)) = (state.spec.addresses(), &self.net)
                    && !attached.contains(&addresses.ipv4)
                    && let Err(source) = attach(net, id, state.pid, net.config().ranges.addresses(addresses.ipv4)).await
                {
                    return Err(RuntimeError::Network {
                        operation: "attach",
                        sandbox: id.to_owned(),
                        source,
                    });
                }
                // Unless it ended in this moment: then the next try finds it gone.
                Ok(Some(self.hold(greeted)?.current()))
            }
            None => {
                if let Some(closed) = self.adopt_closed(id).await {
                    return Ok(Some(closed));
                }
                // Of one that was buried already only what is kept is left.
                if !self.is_buried(id) {
                    tracing::info!(sandbox = id, "a sandbox did not survive; taking its remains away");
                }
                if let Err(error) = self.bury(id, None).await {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        sandbox = id,
                        "cannot clean up a sandbox"
                    );
                }
                Ok(None)
            }
        }
    }

    /// Holds a sandbox as recorded while its shim cannot be reached, and goes on trying.
    fn hold_unreached(self: &Arc<Self>, id: &str) -> Option<SandboxState> {
        let recorded = recorded(&self.directory(id)).unwrap_or_else(|error| {
            tracing::warn!(%error, sandbox = id, "the record of a sandbox is unreadable");
            None
        });
        self.sandboxes.lock().unreached.insert(id.to_owned(), recorded.clone());
        tokio::spawn(Self::reach_later(Arc::downgrade(self), id.to_owned()));
        recorded
    }

    /// Tries again to reach a shim, until it is known whether it lives or its sandbox was removed.
    pub(super) async fn reach_later(inner: Weak<Self>, id: String) {
        loop {
            tokio::time::sleep(LONGEST_WAIT).await;
            let Some(inner) = inner.upgrade() else { return };
            {
                let mut sandboxes = inner.sandboxes.lock();
                if !sandboxes.unreached.contains_key(&id) {
                    return;
                }
                // Somebody is removing it; how that went shows the next time.
                if !sandboxes.busy.insert(id.clone()) {
                    continue;
                }
            }
            let reached = reach(&inner.socket(&id), &id, Duration::ZERO).await;
            let taken = match inner.attached().await {
                Ok(attached) => inner.take(&id, reached, &attached).await,
                Err(error) => Err(error),
            };
            let events = match taken {
                Err(error) => {
                    inner.release(&id);
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        sandbox = id,
                        "not reached yet"
                    );
                    continue;
                }
                Ok(None) => vec![RuntimeEvent::SandboxDied { sandbox: id.clone() }],
                Ok(Some(state)) => {
                    tracing::info!(sandbox = id, "reached the shim of a sandbox at last");
                    // What ended meanwhile was told to nobody.
                    let ended = state
                        .containers
                        .into_iter()
                        .filter(|container| container.exit.is_some());
                    let event = |container| RuntimeEvent::ContainerExited {
                        sandbox: id.clone(),
                        container,
                    };
                    ended.map(event).collect()
                }
            };
            inner.sandboxes.lock().unreached.remove(&id);
            inner.release(&id);
            for event in events {
                // Nobody may be listening.
                drop(inner.events.send(event));
            }
            return;
        }
    }
}

/// Connects to a shim and greets it; `None` when it is gone for sure. What says nothing about the shim is tried again for `patience`.
async fn reach(socket: &Path, id: &str, patience: Duration) -> Result<Option<Greeted>, RuntimeError> {
    let deadline = tokio::time::Instant::now() + patience;
    let mut wait = FIRST_WAIT;
    loop {
        let failure = match Channel::connect(socket).await {
            Ok(channel) => match tokio::time::timeout(HELLO, greet(id, channel, true)).await {
                // It may be about to end: then there is nobody to connect to the next time.
                Ok(Err(error @ RuntimeError::ShimGone(_))) => error,
                Ok(greeted) => return greeted.map(Some),
                // It may be stopped; its containers run all the same.
                Err(_) => {
                    return Err(RuntimeError::Deadline {
                        operation: format!("the hello of the shim of sandbox {id}"),
                        seconds: HELLO.as_secs(),
                    });
                }
            },
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => RuntimeError::io("connect to the shim at", socket)(error),
        };
        if tokio::time::Instant::now() + wait > deadline {
            return Err(failure);
        }
        tracing::debug!(error = &failure as &dyn std::error::Error, sandbox = id, "trying again");
        tokio::time::sleep(wait).await;
        wait = (2 * wait).min(LONGEST_WAIT);
    }
}

/// Lists the names of a directory's entries that end in `suffix`, without it.
fn names(directory: &Path, suffix: &str) -> Result<BTreeSet<String>, RuntimeError> {
    let entries = std::fs::read_dir(directory).map_err(RuntimeError::io("list", directory))?;
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(RuntimeError::io("list", directory))?;
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(suffix))
            && super::resolve::is_name(name)
        {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::{UnixListener, UnixStream};

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

    use super::*;
    use crate::images::ImageStore;
    use crate::protocol::{ShimHello, VERSION};
    use crate::runtime::spawn::{Spawning, hanging};
    use crate::runtime::{Runtime, RuntimeConfig, Sandboxes, make_private};
    use crate::spec::{ContainerState, Exit, SandboxSpec};

    fn runtime(folder: &Path) -> Runtime {
        let config = RuntimeConfig {
            data_dir: folder.join("data"),
            run_dir: folder.join("run"),
            instance: "tnone".to_owned(),
            now: Arc::new(|| jiff::Timestamp::UNIX_EPOCH),
        };
        make_private(&config.data_dir.join("sandboxes/a")).unwrap();
        make_private(&config.run_dir.join("shims")).unwrap();
        Runtime {
            inner: Arc::new(Inner {
                config,
                images: Arc::new(ImageStore::open(&folder.join("images")).unwrap()),
                net: None,
                hierarchies: Hierarchies::detect().unwrap(),
                spawning: Spawning::new(hanging).unwrap(),
                sandboxes: parking_lot::Mutex::new(Sandboxes::default()),
                events: tokio::sync::broadcast::channel(16).0,
            }),
        }
    }

    /// A socket at which one connection waits and for which that is too many.
    fn crowded(path: &Path) -> (OwnedFd, UnixStream) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        bind(listener.as_fd(), &SocketAddrUnix::new(path).unwrap()).unwrap();
        listen(&listener, 0).unwrap();
        (listener, UnixStream::connect(path).unwrap())
    }

    fn state(pid: i32) -> SandboxState {
        SandboxState {
            spec: SandboxSpec {
                id: "a".to_owned(),
                ip: Some([10, 42, 0, 9].into()),
                ..SandboxSpec::default()
            },
            pid,
            containers: Vec::new(),
        }
    }

    /// A shim that has said hello and is gone since.
    async fn gone(process: &std::process::Child) -> Greeted {
        let state = state(process.id().try_into().unwrap());
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::of(UnixStream::from(theirs)).unwrap();
        let hello = ShimHello {
            protocol: VERSION,
            pid: state.pid,
            error: None,
            state: Some(state),
            features: Vec::new(),
        };
        theirs.send(&hello, &[]).await.unwrap();
        greet("a", ours, true).await.unwrap()
    }

    async fn died(events: &mut tokio::sync::broadcast::Receiver<RuntimeEvent>) {
        let event = tokio::time::timeout(Duration::from_secs(20), events.recv()).await;
        let event = event.expect("the end is told").unwrap();
        assert!(matches!(event, RuntimeEvent::SandboxDied { .. }), "{event:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_shim_that_ends_in_the_moment_in_which_it_is_adopted_is_heard_of() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = runtime(folder.path());
        let mut events = runtime.events();
        // Nobody waits for it: as long as that is so, its number is nobody else's.
        let mut process = std::process::Command::new("true").spawn().unwrap();
        for _ in 0..100 {
            let greeted = gone(&process).await;
            runtime.inner.hold(greeted).unwrap();
            died(&mut events).await;
            assert_eq!(runtime.sandbox("a"), None);
        }
        process.wait().unwrap();
    }

    #[tokio::test]
    async fn a_shim_that_ends_while_its_id_is_held_is_heard_of_when_that_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = runtime(folder.path());
        let mut events = runtime.events();
        let mut process = std::process::Command::new("true").spawn().unwrap();
        runtime.inner.sandboxes.lock().busy.insert("a".to_owned());
        let link = runtime.inner.hold(gone(&process).await).unwrap();
        link.gone(Duration::from_secs(20)).await;
        assert!(events.is_empty() && runtime.sandbox("a").is_some());
        runtime.inner.release("a");
        died(&mut events).await;
        assert_eq!(runtime.sandbox("a"), None);
        process.wait().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_socket_without_a_listener_means_that_a_shim_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        assert!(reach(&path, "a", REACH).await.unwrap().is_none());
        drop(UnixListener::bind(&path).unwrap());
        assert!(reach(&path, "a", REACH).await.unwrap().is_none());
        std::fs::remove_file(&path).unwrap();
        let _crowded = crowded(&path);
        let error = reach(&path, "a", REACH).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, RuntimeError::Io { .. }), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sandbox_whose_shim_cannot_be_reached_is_kept_and_adopted_later() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = runtime(folder.path());
        let inner = &runtime.inner;
        let directory = inner.directory("a");
        crate::record::write(&directory.join("state.json"), &state(1)).unwrap();
        let (listener, waiting) = crowded(&inner.socket("a"));

        let mut events = runtime.events();
        // Its address is taken, its id too, and nothing of it is removed.
        assert_eq!(inner.adopt().await.unwrap(), [state(1)]);
        assert_eq!(runtime.sandboxes(), [state(1)]);
        assert!(directory.exists());
        assert!(matches!(inner.link("a"), Err(RuntimeError::Unreached(_))));
        let again = runtime.create_sandbox(state(1).spec).await;
        assert!(matches!(again, Err(RuntimeError::Exists { .. })), "{again:?}");

        // Now it accepts, first the one that has gone away.
        drop(waiting);
        let mut command = tokio::process::Command::new("sleep");
        let process = command.arg("1000").kill_on_drop(true).spawn().unwrap();
        let mut now = state(process.id().unwrap().try_into().unwrap());
        now.containers.push(ContainerState {
            mounted: Vec::new(),
            name: "app".to_owned(),
            attempt: 0,
            image: String::new(),
            pid: 2,
            started_at: jiff::Timestamp::UNIX_EPOCH,
            exit: Some(Exit {
                code: 3,
                signal: None,
                oom_killed: false,
                finished_at: jiff::Timestamp::UNIX_EPOCH,
            }),
        });
        let hello = ShimHello {
            protocol: VERSION,
            pid: now.pid,
            error: None,
            state: Some(now.clone()),
            features: Vec::new(),
        };
        let listener = tokio::net::UnixListener::from_std(listener.into()).unwrap();
        let shim = async {
            let mut connections = Vec::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let channel = Channel::of(socket.into_std().unwrap()).unwrap();
                // The first one does not listen any more.
                drop(channel.send(&hello, &[]).await);
                connections.push(channel);
            }
        };
        let event = tokio::select! {
            event = events.recv() => event.unwrap(),
            () = shim => unreachable!("it accepts for ever"),
        };
        assert!(matches!(event, RuntimeEvent::ContainerExited { sandbox, .. } if sandbox == "a"));
        assert_eq!(inner.link("a").unwrap().current(), now);
        assert_eq!(runtime.sandboxes(), [now]);
    }
}
