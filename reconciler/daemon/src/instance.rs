//! One instance: what is chosen once and kept, and the lock that keeps a second daemon out.
//!
//! The data directory (0700) holds:
//! * `instance.json` – the id, address ranges and port, chosen free at the first start;
//! * `daemon.lock` – locked while a daemon runs; holds its process id;
//! * `store.key` – what secrets are sealed with in `store.db`, `history.db` and backups;
//! * `store.db` – every object; `history.db` – what was deployed; `repositories/`, `mirrors/` – git; `pki/` and `kubeconfig`; `images/`; `sandboxes/`; `pods/`; `volatile/`.
//!
//! Sockets are under `/run/setpoint-ID/`, because their paths must be short and they must not outlive a reboot.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rand::Rng;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use setpoint_net::{Net, NetConfig, Ranges};

/// The port that Kubernetes' API usually has.
const USUAL_PORT: u16 = 6443;

/// What was chosen for an instance at its first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Four hexadecimal digits, part of every name on the host.
    pub id: String,
    /// The pods' and services' address ranges.
    pub ranges: Ranges,
    /// The API's port.
    pub port: u16,
    /// The node's name.
    pub node_name: String,
}

/// The data directory's layout.
#[derive(Clone, Debug)]
pub struct Paths {
    data_dir: PathBuf,
}

impl Paths {
    /// Takes the data directory, made absolute.
    pub fn new(data_dir: &Path) -> anyhow::Result<Paths> {
        let data_dir = std::path::absolute(data_dir)
            .with_context(|| format!("{} is not a usable data directory", data_dir.display()))?;
        Ok(Paths { data_dir })
    }

    /// Returns the engine's history.
    pub fn history(&self) -> PathBuf {
        self.data_dir.join("history.db")
    }

    /// Returns the file of the keys that secrets are sealed with.
    pub fn key(&self) -> PathBuf {
        self.data_dir.join("store.key")
    }

    /// Returns the folder of the repositories that are pushed to.
    pub fn repositories(&self) -> PathBuf {
        self.data_dir.join("repositories")
    }

    /// Returns the folder of the copies of remote repositories.
    pub fn mirrors(&self) -> PathBuf {
        self.data_dir.join("mirrors")
    }

    /// Makes the data directory (0700) when it is missing.
    pub fn create(&self) -> anyhow::Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.data_dir)
            .with_context(|| format!("cannot create the data directory {}", self.data_dir.display()))
    }

    /// Returns the data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Returns the store's database.
    pub fn store(&self) -> PathBuf {
        self.data_dir.join("store.db")
    }

    /// Returns the certificates' directory.
    pub fn pki(&self) -> PathBuf {
        self.data_dir.join("pki")
    }

    /// Returns the audit log's directory.
    pub fn audit(&self) -> PathBuf {
        self.data_dir.join("audit")
    }

    /// Returns the administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir.join("kubeconfig")
    }

    /// Returns the image store.
    pub fn images(&self) -> PathBuf {
        self.data_dir.join("images")
    }

    /// Returns what was chosen for the instance.
    pub fn instance(&self) -> PathBuf {
        self.data_dir.join("instance.json")
    }

    fn lock(&self) -> PathBuf {
        self.data_dir.join("daemon.lock")
    }
}

impl Instance {
    /// Reads the instance; `None` when the data directory never had one.
    pub fn load(paths: &Paths) -> anyhow::Result<Option<Instance>> {
        let path = paths.instance();
        match std::fs::read(&path) {
            Ok(bytes) => {
                let instance: Instance = serde_json::from_slice(&bytes)
                    .with_context(|| format!("{} is damaged; restore it from a backup", path.display()))?;
                if instance.id.len() != 4 || !instance.id.bytes().all(|b| b.is_ascii_hexdigit()) {
                    bail!("{} is damaged: {:?} is not an instance id", path.display(), instance.id);
                }
                Ok(Some(instance))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Reads the instance, or chooses a new one's id, free address ranges and a free port; the port comes bound.
    pub async fn load_or_choose(
        paths: &Paths,
        node_name: Option<String>,
        port: Option<u16>,
    ) -> anyhow::Result<(Instance, TcpListener)> {
        if let Some(mut instance) = Self::load(paths)? {
            if let Some(wanted) = node_name.filter(|name| *name != instance.node_name) {
                bail!(
                    "this instance's node is called {}, not {wanted}; its name cannot change",
                    instance.node_name
                );
            }
            // A port that is asked for takes the place of the one that was kept; the kubeconfig is written at every start.
            let wanted = port.filter(|port| *port != 0).unwrap_or(instance.port);
            let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, wanted)))?;
            if wanted != instance.port {
                instance.port = wanted;
                instance.save(paths)?;
            }
            return Ok((instance, listener));
        }
        let store = paths.store();
        ensure!(
            !store
                .try_exists()
                .with_context(|| format!("cannot look at {}", store.display()))?,
            "{} holds a store but no instance.json: restore it from a backup (setpoint restore --force FILE)",
            paths.data_dir().display()
        );
        // Bound from here on: another instance that starts now must choose another port.
        let listener = match port {
            Some(port) => bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?,
            None => free_port()?,
        };
        let instance = Instance {
            id: format!("{:04x}", rand::rng().random::<u16>()),
            ranges: Net::choose_ranges()
                .await
                .context("cannot choose the instance's address ranges")?,
            port: listener.local_addr()?.port(),
            node_name: match node_name {
                Some(name) => name,
                None => host_name()?,
            },
        };
        instance.save(paths)?;
        Ok((instance, listener))
    }

    /// Chooses other address ranges, because the kept ones have been taken by somebody else in the meantime, or at the same instant.
    pub async fn choose_ranges_again(&mut self, paths: &Paths) -> anyhow::Result<()> {
        let others = Net::choose_ranges()
            .await
            .context("cannot choose the instance's address ranges")?;
        self.ranges = Ranges {
            ipv6: self.ranges.ipv6,
            ..others
        };
        self.save(paths)
    }

    /// Gives the instance ranges of IPv6, which it keeps, where the host has it and it is wanted. Otherwise it goes on with IPv4 alone, and with
    /// what it kept once it is wanted again.
    pub async fn settle_ipv6(&mut self, paths: &Paths, wanted: bool) -> anyhow::Result<()> {
        let missing = match wanted {
            true => tokio::task::spawn_blocking(setpoint_net::preflight_ipv6).await?,
            false => Vec::new(),
        };
        for setpoint_net::Missing { what, advice } in &missing {
            tracing::warn!(
                "pods get no addresses of IPv6, for want of {what}; {advice}, or say [network] ipv6 = false in node.toml"
            );
        }
        let is_wanted = wanted && setpoint_net::has_ipv6() && missing.is_empty();
        match self.ranges.ipv6 {
            None if is_wanted => {
                let ranges = Net::choose_ipv6_ranges(rand::rng().random())
                    .await
                    .context("cannot choose the instance's IPv6 ranges")?;
                self.ranges.ipv6 = Some(ranges);
                self.save(paths)?;
            }
            Some(_) if !is_wanted => {
                Net::leave_ipv6(&self.net())
                    .await
                    .context("cannot remove what the instance has of IPv6")?;
                // Not saved: the ranges are kept.
                self.ranges.ipv6 = None;
            }
            None | Some(_) => {}
        }
        Ok(())
    }

    /// Returns the pods' ranges, that of IPv4 first.
    pub fn pod_ranges(&self) -> Vec<String> {
        let subnets = self.ranges.subnets();
        subnets.iter().map(|subnets| subnets.pods.to_string()).collect()
    }

    /// Returns the services' ranges, that of IPv4 first.
    pub fn service_ranges(&self) -> Vec<String> {
        let subnets = self.ranges.subnets();
        subnets.iter().map(|subnets| subnets.services.to_string()).collect()
    }

    fn save(&self, paths: &Paths) -> anyhow::Result<()> {
        let path = paths.instance();
        write_private(&path, serde_json::to_string_pretty(self)?.as_bytes())
    }

    /// Returns where this instance's sockets are.
    pub fn run_dir(&self) -> PathBuf {
        PathBuf::from(format!("/run/setpoint-{}", self.id))
    }

    /// Returns the API's unix socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("api.sock")
    }

    /// Returns the network's configuration.
    pub fn net(&self) -> NetConfig {
        NetConfig {
            instance: self.id.clone(),
            ranges: self.ranges.clone(),
        }
    }

    /// Returns the API's URL on this machine.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Returns the address at which pods reach the API.
    pub fn api_address(&self) -> SocketAddr {
        SocketAddr::from((self.ranges.gateway(), self.port))
    }
}

/// The lock that a running daemon holds on its data directory.
pub struct DaemonLock {
    _file: File,
}

impl DaemonLock {
    /// Takes the lock; fails, naming the process, when another daemon has it. A restore that was cut off is finished first.
    pub fn take(paths: &Paths) -> anyhow::Result<DaemonLock> {
        let path = paths.lock();
        let mut file = open_lock(&path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let pid = read_pid(&mut file).map_or_else(|| "unknown".to_string(), |pid| pid.to_string());
            bail!(
                "setpoint already runs on {} (process {pid}); give another one with --data-dir",
                paths.data_dir().display()
            );
        }
        let write = |file: &mut File| -> std::io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())
        };
        write(&mut file).with_context(|| format!("cannot write {}", path.display()))?;
        if crate::backup::swap::finish(paths.data_dir())? {
            tracing::info!("finished a restore that had been cut off");
        }
        Ok(DaemonLock { _file: file })
    }

    /// Returns the process that holds the lock; `None` when no daemon runs.
    pub fn holder(paths: &Paths) -> anyhow::Result<Option<i32>> {
        let path = paths.lock();
        if !path.exists() {
            return Ok(None);
        }
        let mut file = open_lock(&path)?;
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return Ok(None);
        }
        read_pid(&mut file)
            .map(Some)
            .with_context(|| format!("{} names no process", path.display()))
    }
}

fn open_lock(path: &Path) -> anyhow::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn read_pid(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Writes a file that only its owner reads, whole or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let write = || -> std::io::Result<()> {
        // Temporary files are made 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Binds an address on which the API is to listen.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address}: stop what listens there, or choose another port with --api-port (0 for any that is free)"))
}

fn free_port() -> anyhow::Result<TcpListener> {
    let local = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    local(USUAL_PORT)
        .or_else(|_| local(0))
        .context("cannot find a free port for the API")
}

/// Returns this machine's name as a node may be called: lower case, letters, digits, `-` and `.`.
fn host_name() -> anyhow::Result<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let name: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let name = name.trim_matches(['-', '.']).to_string();
    if name.is_empty() {
        bail!("this machine has no usable host name; give one with --node-name");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_kept_out_and_told_who_runs() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path()).unwrap();
        assert_eq!(DaemonLock::holder(&paths).unwrap(), None);
        let lock = DaemonLock::take(&paths).unwrap();
        let error = DaemonLock::take(&paths).err().unwrap().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        assert_eq!(
            DaemonLock::holder(&paths).unwrap(),
            Some(i32::try_from(std::process::id()).unwrap())
        );
        drop(lock);
        assert_eq!(DaemonLock::holder(&paths).unwrap(), None);
    }

    #[tokio::test]
    async fn a_store_without_its_instance_is_an_error_and_not_taken_for_a_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path()).unwrap();
        std::fs::write(paths.store(), "").unwrap();
        let chosen = Instance::load_or_choose(&paths, None, None).await;
        let said = chosen.err().unwrap().to_string();
        assert!(said.contains("holds a store but no instance.json"), "{said}");
        assert!(!paths.instance().exists());
    }

    #[test]
    fn a_damaged_instance_is_an_error_and_not_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path()).unwrap();
        assert!(Instance::load(&paths).unwrap().is_none());
        std::fs::write(paths.instance(), "{").unwrap();
        assert!(Instance::load(&paths).unwrap_err().to_string().contains("damaged"));
    }
}
