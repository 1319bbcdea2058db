//! `setpoint doctor`: what is wrong, and what to do about it.

use anyhow::bail;
use clap::Args;
use serde_json::json;

use crate::cli::{Format, Global};
use crate::doctor::{self, Row, Status, Subject};
use crate::instance::{DaemonLock, Instance, Paths};
use crate::{output, wall_clock};

/// Options of `setpoint doctor`.
#[derive(Args)]
pub struct Doctor {}

impl Doctor {
    /// Prints what every check has found; fails when something has failed.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        if !rustix::process::geteuid().is_root() {
            bail!("what setpoint stores and makes on a host belongs to root: run this as root (sudo setpoint doctor)");
        }
        let paths = Paths::new(&global.data_dir)?;
        let instance = Instance::load(&paths);
        let subject = Subject {
            daemon: DaemonLock::holder(&paths)?,
            instance: instance.as_ref().ok().cloned().flatten(),
            now: wall_clock(),
            paths,
            global,
        };
        let mut rows = doctor::examine(&subject).await;
        if let Err(error) = instance {
            rows.insert(0, doctor::damaged_instance(&error));
        }
        let count = |status| rows.iter().filter(|row| row.status == status).count();
        let (failed, warnings) = (count(Status::Failed), count(Status::Warning));
        match subject.global.output {
            Format::Json => output::json(&json!({"failed": failed, "warnings": warnings, "checks": rows}))?,
            Format::Text => print(&rows),
        }
        match failed {
            0 => Ok(()),
            1 => bail!("1 check failed"),
            failed => bail!("{failed} checks failed"),
        }
    }
}

fn print(rows: &[Row]) {
    let mut lines = Vec::new();
    for row in rows {
        for (index, finding) in row.findings.iter().enumerate() {
            let (code, word) = match finding.status {
                Status::Ok => ("32", "ok"),
                Status::Warning => ("33", "warning"),
                Status::Failed => ("31", "failed"),
            };
            let name = if index == 0 { row.name } else { "" };
            lines.push(vec![name.to_string(), output::paint(code, word), finding.what.clone()]);
            if let Some(advice) = &finding.advice {
                lines.push(vec![String::new(), String::new(), format!("→ {advice}")]);
            }
        }
    }
    output::table(&["CHECK", "STATUS", "FOUND"], &lines);
}
