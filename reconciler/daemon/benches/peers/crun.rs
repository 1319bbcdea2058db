//! crun alone: no daemon, no network, nobody who starts anything again. The floor for a container's start.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use serde_json::{Value, json};

use crate::image::PROGRAM;
use crate::peer::{Peer, at_once};
use crate::private::run;

/// crun with a bundle that all its containers share.
pub struct Crun {
    bundle: PathBuf,
    running: Vec<String>,
    last: usize,
}

impl Crun {
    /// Writes the bundle: crun's own specification with the program, the root file system and the folder of marks in it.
    pub fn new(folder: &Path, marks: &Path) -> anyhow::Result<Crun> {
        let bundle = folder.join("bundle");
        std::fs::create_dir(&bundle)?;
        let path = bundle.to_str().context("a path in UTF-8")?;
        run("sh", &["-c", &format!("cd {path} && crun spec")])?;
        let file = bundle.join("config.json");
        let mut spec: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["/bin/sh", "-c", PROGRAM]);
        spec["process"]["rlimits"] = json!([]);
        spec["root"] = json!({"path": folder.join("root"), "readonly": true});
        let mounts = spec["mounts"].as_array_mut().context("mounts")?;
        mounts.push(json!({"destination": "/marks", "type": "bind", "source": marks, "options": ["rbind", "rw"]}));
        std::fs::write(file, spec.to_string())?;
        Ok(Crun {
            bundle,
            running: Vec::new(),
            last: 0,
        })
    }
}

impl Peer for Crun {
    fn name(&self) -> &'static str {
        "crun run (no network)"
    }

    fn has_network(&self) -> bool {
        false
    }

    fn restarts(&self) -> bool {
        false
    }

    fn start(&mut self, count: usize) -> anyhow::Result<()> {
        let (first, process) = (self.last, std::process::id());
        self.last += count;
        let name = |number: usize| format!("setpoint-bench-{process}-{}", first + number);
        self.running.extend((0..count).map(name));
        at_once(count, |number| {
            let status = Command::new("crun")
                .args(["--cgroup-manager=cgroupfs", "run", "--detach", "--bundle"])
                .arg(&self.bundle)
                .arg(name(number))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status()
                .context("cannot run crun")?;
            anyhow::ensure!(status.success(), "crun failed");
            Ok(())
        })
    }

    fn remove(&mut self) -> anyhow::Result<()> {
        for name in self.running.drain(..) {
            run("crun", &["delete", "--force", &name])?;
        }
        Ok(())
    }

    fn supervisors(&self) -> anyhow::Result<(Vec<i32>, Vec<i32>)> {
        Ok((Vec::new(), Vec::new()))
    }
}
