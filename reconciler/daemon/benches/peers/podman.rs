//! `podman kube play`, with a store of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde_json::json;

use crate::image::{NAME, PROGRAM};
use crate::marks::named;
use crate::peer::Peer;

/// Podman with its store below the bench's folder.
pub struct Podman {
    folder: PathBuf,
    marks: PathBuf,
    played: bool,
}

impl Podman {
    /// Loads the image.
    pub fn new(folder: &Path, marks: &Path) -> anyhow::Result<Podman> {
        let folder = folder.join("podman");
        std::fs::create_dir(&folder)?;
        // A host may not allow what podman asks for by default.
        let settings = "[containers]\ndefault_ulimits=[\"nofile=1024:1024\",\"nproc=4096:4096\"]\nlog_driver=\"k8s-file\"\n\
            [engine]\nevents_logger=\"file\"\n";
        std::fs::write(folder.join("containers.conf"), settings)?;
        let podman = Podman {
            marks: marks.to_owned(),
            played: false,
            folder,
        };
        let archive = podman.folder.with_file_name("image.tar");
        podman.run(&[
            "load",
            "--quiet",
            "--input",
            archive.to_str().context("a path in UTF-8")?,
        ])?;
        Ok(podman)
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = Command::new("podman")
            .env("CONTAINERS_CONF", self.folder.join("containers.conf"))
            .arg("--root")
            .arg(self.folder.join("data"))
            .arg("--runroot")
            .arg(self.folder.join("run"))
            .arg("--tmpdir")
            .arg(self.folder.join("tmp"))
            .args(["--cgroup-manager", "cgroupfs", "--runtime", "crun"])
            .args(arguments)
            .output()
            .context("cannot run podman")?;
        anyhow::ensure!(
            output.status.success(),
            "podman {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn file(&self) -> PathBuf {
        self.folder.join("pods.yaml")
    }
}

impl Peer for Podman {
    fn name(&self) -> &'static str {
        "podman kube play"
    }

    fn start(&mut self, count: usize) -> anyhow::Result<()> {
        let pods: Vec<String> = (0..count)
            .map(|number| {
                json!({
                    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("bench-{number}")},
                    "spec": {
                        "restartPolicy": "Always",
                        "containers": [{
                            "name": "app", "image": NAME, "command": ["/bin/sh", "-c", PROGRAM],
                            "volumeMounts": [{"name": "marks", "mountPath": "/marks"}],
                        }],
                        "volumes": [{"name": "marks", "hostPath": {"path": self.marks}}],
                    },
                })
                .to_string()
            })
            .collect();
        std::fs::write(self.file(), pods.join("\n---\n"))?;
        self.played = true;
        self.run(&[
            "kube",
            "play",
            "--quiet",
            self.file().to_str().context("a path in UTF-8")?,
        ])
    }

    fn remove(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.played) {
            self.run(&["pod", "rm", "--all", "--force", "--time", "0"])?;
        }
        Ok(())
    }

    fn supervisors(&self) -> anyhow::Result<(Vec<i32>, Vec<i32>)> {
        Ok((named("conmon")?, Vec::new()))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        if let Err(error) = self.run(&["system", "reset", "--force"]) {
            eprintln!("podman could not be cleaned up: {error:#}");
        }
    }
}
