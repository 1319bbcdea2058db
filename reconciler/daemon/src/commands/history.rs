//! `setpoint history`: the syncs of an app.

use clap::Args;
use serde::Deserialize;
use setpoint_engine::state::{Cause, Entry, Outcome, short};

use crate::apps::{self, Apps};
use crate::cli::{Format, Global};
use crate::output;

/// Options of `setpoint history`.
#[derive(Args)]
pub struct History {
    /// The app
    app: String,
}

#[derive(Deserialize, serde::Serialize)]
struct Answer {
    entries: Vec<Entry>,
}

impl History {
    /// Prints the syncs, newest first.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        let apps = Apps::connect(&global).await?;
        let name = apps::name(&self.app);
        let answer: Answer = apps.ask(&name, "history", &[], None).await?;
        if global.output == Format::Json {
            return output::json(&answer);
        }
        let running = apps.get(&name).await?.status.and_then(|status| status.number);
        let rows: Vec<Vec<String>> = answer.entries.iter().map(|entry| row(entry, running)).collect();
        match rows.is_empty() {
            true => output::text("no sync has ended yet\n"),
            false => output::table(&["", "NUMBER", "REVISION", "WHEN", "TOOK", "OUTCOME", "WHAT"], &rows),
        }
        Ok(())
    }
}

fn row(entry: &Entry, running: Option<u64>) -> Vec<String> {
    let when =
        jiff::Timestamp::from_millisecond(entry.finished).map(|time| time.strftime("%Y-%m-%d %H:%M:%S").to_string());
    let took = (entry.finished - entry.started).max(0);
    let outcome = match entry.outcome {
        Outcome::Healthy => output::paint("32", "healthy"),
        Outcome::Failed => output::paint("31", "failed"),
        Outcome::Superseded => "superseded".to_owned(),
    };
    let cause = match entry.cause {
        Cause::Deploy => "",
        Cause::Rollback => "gone back to by itself",
        Cause::Request => "rolled back to",
    };
    let what = [cause, &entry.reason, &entry.revision.subject];
    vec![
        if running == Some(entry.number) { "*" } else { "" }.to_owned(),
        entry.number.to_string(),
        short(&entry.revision.source),
        when.unwrap_or_default(),
        format!("{}.{} s", took / 1000, took % 1000 / 100),
        outcome,
        what.into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .to_owned(),
    ]
}
