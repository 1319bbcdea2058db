//! `setpoint diff`: what runs against what git says.

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use crate::apps::{self, Apps};
use crate::cli::{Format, Global};
use crate::output;

/// Options of `setpoint diff`.
#[derive(Args)]
pub struct Diff {
    /// The app (default: all)
    app: Option<String>,
    /// Fail when there is a difference
    #[arg(long)]
    exit_code: bool,
}

impl Diff {
    /// Prints the differences.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        let apps = Apps::connect(&global).await?;
        let names = match &self.app {
            Some(app) => vec![apps::name(app)],
            None => apps.list().await?.iter().map(setpoint_engine::Name::of).collect(),
        };
        let mut all = Vec::new();
        let mut differs = false;
        for name in names {
            let answer: Value = apps.ask(&name, "diff", &[], None).await?;
            differs |= has_changes(&answer["plan"]);
            if global.output == Format::Text {
                print(&name.name, &answer);
            }
            all.push(json!({"name": name.name, "namespace": name.namespace, "difference": answer}));
        }
        if global.output == Format::Json {
            output::json(&json!({"apps": all}))?;
        }
        if differs && self.exit_code {
            bail!("what runs differs from what git says");
        }
        Ok(())
    }
}

/// Prints one app's plan.
pub fn print(name: &str, answer: &Value) {
    output::text(&format!("{}\n", output::paint("1", name)));
    if let Some(broken) = answer["broken"].as_str() {
        output::text(&format!("  {}\n", output::paint("31", broken)));
    }
    for line in answer["text"].as_str().unwrap_or_default().lines() {
        let code = match line.chars().next() {
            Some('+') => "32",
            Some('-') => "31",
            Some('~' | '±' | '!') => "33",
            _ => "0",
        };
        let line = if code == "0" {
            line.to_owned()
        } else {
            output::paint(code, line)
        };
        output::text(&format!("  {line}\n"));
    }
}

/// Says whether a plan does anything.
pub fn has_changes(plan: &Value) -> bool {
    let steps = plan["steps"].as_array().into_iter().flatten();
    steps.into_iter().any(|step| step["action"] != "unchanged")
}
