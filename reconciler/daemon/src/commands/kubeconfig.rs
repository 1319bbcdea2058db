//! `setpoint kubeconfig`.

use anyhow::Context;
use clap::Args;
use serde_json::json;

use crate::cli::{Format, Global};
use crate::client::NotRunning;
use crate::instance::Paths;
use crate::output;

/// Options of `setpoint kubeconfig`.
#[derive(Args)]
pub struct Kubeconfig {
    /// Print where the file is instead of what it holds
    #[arg(long)]
    path: bool,
}

impl Kubeconfig {
    /// Prints the kubeconfig of the data directory's instance, whether it runs or not.
    pub fn run(self, global: &Global) -> anyhow::Result<()> {
        let paths = Paths::new(&global.data_dir)?;
        let file = paths.kubeconfig();
        if !file.exists() {
            return Err(NotRunning::on(paths.data_dir()).into());
        }
        if self.path {
            match global.output {
                Format::Text => output::text(&format!("{}\n", file.display())),
                Format::Json => output::json(&json!({"path": file}))?,
            }
            return Ok(());
        }
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        match global.output {
            Format::Text => output::text(&text),
            Format::Json => output::json(&serde_saphyr::from_str::<serde_json::Value>(&text)?)?,
        }
        Ok(())
    }
}
