//! `setpoint metrics`.

use anyhow::Context;
use clap::Args;

use crate::cli::{Format, Global};
use crate::{client, output};

/// Options of `setpoint metrics`.
#[derive(Args)]
pub struct Metrics {}

impl Metrics {
    /// Prints the metrics in Prometheus' text format, or as JSON samples.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        let client = client::connect(&global).await?;
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let text = client.request_text(request).await.context("cannot read the metrics")?;
        match global.output {
            Format::Text => output::text(&text),
            Format::Json => {
                let samples: Vec<_> = text
                    .lines()
                    .filter(|line| !line.starts_with('#'))
                    .filter_map(|line| line.rsplit_once(' '))
                    .map(|(name, value)| serde_json::json!({"name": name, "value": value.parse::<f64>().ok()}))
                    .collect();
                output::json(&samples)?;
            }
        }
        Ok(())
    }
}
