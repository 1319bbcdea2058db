//! A bare repository that the daemon follows, and a work tree that pushes to it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// The work tree.
pub struct Fleet {
    tree: PathBuf,
    origin: PathBuf,
}

/// A push: when git was started, and when it had ended.
#[derive(Clone, Copy)]
pub struct Pushed {
    /// Before the process was started.
    pub started: Instant,
    /// After it had ended.
    pub returned: Instant,
}

impl Pushed {
    /// How long git took itself.
    pub fn itself(&self) -> Duration {
        self.returned.duration_since(self.started)
    }
}

impl Fleet {
    /// Makes both in a folder, with a first commit of these files.
    pub fn make(folder: &Path, files: &[(String, String)]) -> anyhow::Result<Fleet> {
        let fleet = Fleet {
            tree: folder.join("fleet"),
            origin: folder.join("fleet.git"),
        };
        std::fs::create_dir(&fleet.tree)?;
        let origin = fleet.origin();
        fleet.git(&["init", "--quiet", "--bare", "--initial-branch", "main", &origin])?;
        fleet.git(&["init", "--quiet", "--initial-branch", "main"])?;
        fleet.git(&["config", "user.name", "Bench"])?;
        fleet.git(&["config", "user.email", "bench@localhost"])?;
        fleet.git(&["remote", "add", "origin", &origin])?;
        fleet.commit(files)?;
        fleet.git(&["push", "--quiet", "--set-upstream", "origin", "main"])?;
        Ok(fleet)
    }

    /// The path of the bare repository.
    pub fn origin(&self) -> String {
        self.origin.display().to_string()
    }

    /// Writes files and commits everything; returns the commit.
    pub fn commit(&self, files: &[(String, String)]) -> anyhow::Result<String> {
        for (name, content) in files {
            let path = self.tree.join(name);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(path, content)?;
        }
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", "Change it"])?;
        self.git(&["rev-parse", "HEAD"])
    }

    /// Pushes what is committed. Watches go on meanwhile.
    pub async fn push(&self) -> anyhow::Result<Pushed> {
        let mut push = self.command(&["push", "--quiet"]);
        let pushed = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let status = push.status()?;
            anyhow::ensure!(status.success(), "git push failed");
            Ok(Pushed {
                started,
                returned: Instant::now(),
            })
        });
        pushed.await?
    }

    /// The commit at the head.
    pub fn head(&self) -> anyhow::Result<String> {
        self.git(&["rev-parse", "HEAD"])
    }

    fn git(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self
            .command(arguments)
            .output()
            .with_context(|| format!("cannot run git {}", arguments.join(" ")))?;
        anyhow::ensure!(output.status.success(), "git {} failed", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// A git without any configuration of the machine's.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .args(arguments)
            .current_dir(&self.tree)
            .env("HOME", "/nonexistent")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        command
    }
}
