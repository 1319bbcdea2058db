//! What `setpoint doctor` looks at: a table of checks, each a function from the instance to findings.
//!
//! Checks only look: nothing is repaired, written or restarted, and every one works whether a daemon runs or not. A check that
//! cannot look says so as a finding. To add one, add a row to [`CHECKS`].

mod certificates;
mod databases;
mod host;
mod keys;
mod network;
mod versions;

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::Global;
use crate::instance::{Instance, Paths};
use crate::output;

/// How long one check may take: a database of its full size is read in less.
const DEADLINE: Duration = Duration::from_secs(300);

/// What checks are given.
pub struct Subject {
    /// The options of the command.
    pub global: Global,
    /// The data directory.
    pub paths: Paths,
    /// The instance; `None` where there is none, or it cannot be read.
    pub instance: Option<Instance>,
    /// The process of the daemon that runs on the data directory.
    pub daemon: Option<i32>,
    /// The time.
    pub now: Timestamp,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warning,
    /// It does not work, or soon will not.
    Failed,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub status: Status,
    /// What it is.
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(what: impl Into<String>) -> Finding {
        Finding {
            status: Status::Ok,
            what: what.into(),
            advice: None,
        }
    }

    /// Something works and is not as it should be.
    pub fn warning(what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding {
            status: Status::Warning,
            what: what.into(),
            advice: Some(advice.into()),
        }
    }

    /// Something does not work.
    pub fn failed(what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding {
            status: Status::Failed,
            what: what.into(),
            advice: Some(advice.into()),
        }
    }

    /// It could not be looked at.
    fn unseen(error: &anyhow::Error) -> Finding {
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        Finding {
            status: Status::Failed,
            what: causes.join(": "),
            advice: None,
        }
    }
}

/// What a check answers: the worst of its findings is its status. None at all means that there was nothing to look at.
type Findings = anyhow::Result<Vec<Finding>>;
/// A check.
type Check = fn(&Subject) -> BoxFuture<'_, Findings>;

/// The checks, in the order in which they are shown.
const CHECKS: &[(&str, Check)] = &[
    ("data directory", |s| async { host::data_dir(s) }.boxed()),
    ("disk", |s| async { host::disk(s) }.boxed()),
    ("clock", |s| async { host::clock(s) }.boxed()),
    ("store.db", |s| databases::store(s).boxed()),
    ("history.db", |s| databases::history(s).boxed()),
    ("keys", |s| keys::keys(s).boxed()),
    ("certificates", |s| async { certificates::certificates(s) }.boxed()),
    ("versions", |s| versions::versions(s).boxed()),
    ("machine", |s| host::machine(s).boxed()),
    ("firewall", |s| network::firewall(s).boxed()),
    ("API port", |s| async { network::port(s) }.boxed()),
    ("names", |s| network::resolvers(s).boxed()),
    ("left on the host", |s| host::traces(s).boxed()),
];

/// A row of the report.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was looked at.
    pub name: &'static str,
    /// The worst of the findings.
    pub status: Status,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// Runs every check.
pub async fn examine(subject: &Subject) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, check) in CHECKS {
        output::progress(&format!("looking at: {name}"));
        let findings = match tokio::time::timeout(DEADLINE, check(subject)).await {
            Ok(Ok(findings)) => findings,
            Ok(Err(error)) => vec![Finding::unseen(&error)],
            Err(_) => vec![Finding::failed(
                format!("not done within {} s", DEADLINE.as_secs()),
                "look whether the disk is slow or broken (the kernel's log: dmesg)",
            )],
        };
        if let Some(status) = findings.iter().map(|finding| finding.status).max() {
            rows.push(Row { name, status, findings });
        }
    }
    rows
}

/// The row of an instance that cannot be read.
pub fn damaged_instance(error: &anyhow::Error) -> Row {
    Row {
        name: "instance",
        status: Status::Failed,
        findings: vec![Finding::unseen(error)],
    }
}
