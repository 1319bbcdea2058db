//! etcd beside the store: the same machine, the same disk, the same run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::grpc::Client;

/// How long it may take to start.
const START: Duration = Duration::from_secs(60);

/// A running etcd; it ends with this.
pub struct Etcd {
    child: Child,
    dir: PathBuf,
    port: u16,
}

fn free_port() -> Outcome<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

impl Etcd {
    /// Starts one with its data in `dir`; `None`, said loudly, when it is not installed.
    pub async fn start(dir: &Path) -> Outcome<Option<Etcd>> {
        let (port, peers) = (free_port()?, free_port()?);
        let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peers}"));
        let spawned = Command::new("etcd")
            .arg("--data-dir")
            .arg(dir)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--log-level", "error", "--quota-backend-bytes", "8589934592"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("etcd is not installed, its column stays empty: apt-get install -y etcd-server");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let etcd = Etcd {
            child,
            dir: dir.to_owned(),
            port,
        };
        let until = Instant::now() + START;
        loop {
            let answered = match etcd.client().await {
                Ok(client) => client.count("core/").await.map(drop),
                Err(error) => Err(error),
            };
            match answered {
                Ok(()) => return Ok(Some(etcd)),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }

    /// A connection of its own.
    pub async fn client(&self) -> Outcome<Client> {
        Client::connect(self.port).await
    }

    /// Ends it and starts it again; returns how long it took to answer.
    pub async fn restart(mut self) -> Outcome<(Etcd, Duration)> {
        // etcd ends by itself when it is asked to.
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        let started = Instant::now();
        let again = Etcd::start(&self.dir).await?.ok_or("etcd is gone")?;
        Ok((again, started.elapsed()))
    }

    /// Its proportional share of memory in bytes.
    pub fn memory(&self) -> Outcome<u64> {
        crate::measure::memory(self.child.id())
    }

    /// What it keeps on disk in bytes.
    pub fn disk(&self) -> Outcome<u64> {
        crate::measure::disk(&self.dir)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended already.
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}
