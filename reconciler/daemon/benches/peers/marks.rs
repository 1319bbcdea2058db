//! What containers tell the bench: a line each when their program begins, and answers when it serves.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long anything may take.
pub const DEADLINE: Duration = Duration::from_secs(300);
/// How often it is looked.
const LOOK: Duration = Duration::from_micros(500);

/// The folder that is mounted into every container.
pub struct Marks {
    folder: PathBuf,
}

impl Marks {
    /// Makes the folder.
    pub fn new(folder: &Path) -> anyhow::Result<Marks> {
        let folder = folder.join("marks");
        std::fs::create_dir(&folder)?;
        Ok(Marks { folder })
    }

    /// Where it is on the host.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Forgets all lines.
    pub fn clear(&self) -> anyhow::Result<()> {
        std::fs::write(self.folder.join("started"), b"")?;
        Ok(())
    }

    fn lines(&self) -> anyhow::Result<Vec<String>> {
        let text = std::fs::read_to_string(self.folder.join("started"))?;
        // A line that is being written has no end yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        Ok(if text.contains('\n') {
            whole.split('\n').map(str::to_owned).collect()
        } else {
            Vec::new()
        })
    }

    /// Waits until so many programs began since the last `clear`; returns the addresses that they told.
    pub fn wait(&self, count: usize) -> anyhow::Result<Vec<Option<Ipv4Addr>>> {
        let start = Instant::now();
        loop {
            let lines = self.lines()?;
            if lines.len() >= count {
                let address = |line: &String| line.split_whitespace().find_map(|word| word.parse().ok());
                return Ok(lines.iter().map(address).collect());
            }
            if start.elapsed() > DEADLINE {
                bail!("only {} of {count} programs began", lines.len());
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Waits until a program answers HTTP at each address.
pub fn wait_answers(addresses: &[Ipv4Addr]) -> anyhow::Result<()> {
    let start = Instant::now();
    for address in addresses {
        while !answers(*address) {
            anyhow::ensure!(start.elapsed() < DEADLINE, "{address} does not answer");
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}

fn answers(address: Ipv4Addr) -> bool {
    let asked = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, 8080)), Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"HTTP/")
    };
    asked().unwrap_or(false)
}

/// Returns the processes that serve.
pub fn servers() -> anyhow::Result<Vec<i32>> {
    processes(|_, arguments| arguments.starts_with("httpd\0") && arguments.contains("setpoint-bench"))
}

/// Returns the processes of that name.
pub fn named(name: &str) -> anyhow::Result<Vec<i32>> {
    processes(|comm, _| comm == name)
}

fn processes(wanted: impl Fn(&str, &str) -> bool) -> anyhow::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("/proc cannot be read")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended meanwhile is none.
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        if wanted(read("comm").trim_end(), &read("cmdline")) {
            found.push(pid);
        }
    }
    Ok(found)
}
