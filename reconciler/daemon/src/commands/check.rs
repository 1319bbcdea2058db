//! `setpoint check`, and the same check before `up`.

use anyhow::bail;
use clap::Args;
use serde_json::json;

use crate::cli::{Format, Global};
use crate::output;

/// Options of `setpoint check`.
#[derive(Args)]
pub struct Check {}

/// Something that this machine lacks.
pub struct Lack {
    /// What is missing.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// Returns what this machine lacks for containers and their network; blocking, short.
pub fn lacks() -> Vec<Lack> {
    let runtime = setpoint_runtime::preflight().into_iter().map(|missing| Lack {
        what: missing.what.to_string(),
        advice: missing.advice.to_string(),
    });
    let net = setpoint_net::preflight().into_iter().map(|missing| Lack {
        what: missing.what.to_string(),
        advice: missing.advice.to_string(),
    });
    let mut lacks: Vec<Lack> = runtime.chain(net).collect();
    lacks.dedup_by(|a, b| a.what == b.what);
    lacks
}

/// Fails with every lack and its remedy when there is one.
pub fn require() -> anyhow::Result<()> {
    let lacks = lacks();
    if lacks.is_empty() {
        return Ok(());
    }
    let list: String = lacks
        .iter()
        .map(|lack| format!("\n  - {}: {}", lack.what, lack.advice))
        .collect();
    bail!("this machine cannot run setpoint yet:{list}")
}

impl Check {
    /// Prints what is missing; fails when something is.
    pub fn run(self, global: &Global) -> anyhow::Result<()> {
        let lacks = lacks();
        match global.output {
            Format::Text if lacks.is_empty() => output::text("this machine can run setpoint\n"),
            Format::Text => require()?,
            Format::Json => {
                let list: Vec<_> = lacks
                    .iter()
                    .map(|lack| json!({"what": lack.what, "advice": lack.advice}))
                    .collect();
                output::json(&json!({"ready": lacks.is_empty(), "missing": list}))?;
            }
        }
        if lacks.is_empty() {
            Ok(())
        } else {
            bail!("{} things are missing", lacks.len())
        }
    }
}
