//! The two databases: sound, of a schema that this version knows, within their limits.

use std::path::Path;

use setpoint_store::{DatabaseKind, SqliteOptions};

use super::{Finding, Findings, Subject};
use crate::backup::{size, swap};

/// The size of a write-ahead log, in bytes, above which something keeps it from being folded into its database.
const LARGE_WAL: u64 = 64 << 20;

/// Looks at the store.
pub async fn store(subject: &Subject) -> Findings {
    let limit = SqliteOptions::default().keep_bytes;
    database(subject, &subject.paths.store(), DatabaseKind::Log, Some(limit)).await
}

/// Looks at the history.
pub async fn history(subject: &Subject) -> Findings {
    database(subject, &subject.paths.history(), DatabaseKind::History, None).await
}

async fn database(subject: &Subject, path: &Path, kind: DatabaseKind, limit: Option<u64>) -> Findings {
    // A look leaves files beside a database, which must not meet the one that a restore puts there; the data directory's row tells of it.
    if !path.exists() || swap::pending(subject.paths.data_dir()) {
        return Ok(Vec::new());
    }
    let broken = setpoint_store::check(path).await?;
    if !broken.is_empty() {
        return Ok(vec![Finding::failed(
            format!("{} is damaged: {}", path.display(), broken.join("; ")),
            "restore the last backup: setpoint restore --force FILE (what is there is kept beside it)",
        )]);
    }
    let schema = setpoint_store::schema(path, kind).await?;
    let bytes = length(path);
    let wal = length(&path.with_extension("db-wal"));
    let of_limit = limit.map_or(String::new(), |limit| format!(" of {}", size(limit)));
    let mut findings = vec![if schema.found > schema.known {
        Finding::failed(
            format!(
                "{} has schema {}, this version knows schemas up to {}",
                path.display(),
                schema.found,
                schema.known
            ),
            "use the newer version of setpoint that has changed it",
        )
    } else {
        Finding::ok(format!("sound, {}{of_limit}, schema {}", size(bytes), schema.found))
    }];
    // History is forgotten after writes, not at the very byte.
    if limit.is_some_and(|limit| bytes > limit + limit / 10) {
        findings.push(Finding::warning(
            format!(
                "{} has {}, more than its limit and a tenth",
                path.display(),
                size(bytes)
            ),
            "what is current alone may be as large: look for kinds with many objects (setpoint metrics)",
        ));
    }
    if wal > LARGE_WAL {
        findings.push(Finding::warning(
            format!("the write-ahead log of {} has {}", path.display(), size(wal)),
            "something has read the database for long: end programs that hold it open (a backup that is under way is one)",
        ));
    }
    Ok(findings)
}

/// The size of a file; one that is not there has none.
fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |meta| meta.len())
}
