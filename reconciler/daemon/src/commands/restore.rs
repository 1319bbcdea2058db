//! `setpoint restore`: a backup in the place of what is there.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use jiff::Timestamp;
use serde_json::json;
use setpoint_store::{DatabaseKind, KeyId, Keys};

use crate::backup::{self, Header, pack, swap};
use crate::cli::{Format, Global};
use crate::commands::backup::contents;
use crate::instance::{DaemonLock, Instance, Paths};
use crate::{output, wall_clock};

/// How many revisions are taken to have been issued in a second since the backup: more than any instance can write.
const REVISIONS_A_SECOND: u64 = 1_000_000;
/// How many revisions are skipped besides, for clocks that were set back: those of a day.
const REVISIONS_SKIPPED: u64 = 86_400 * REVISIONS_A_SECOND;

/// Options of `setpoint restore`.
#[derive(Args)]
pub struct Restore {
    /// The backup
    file: PathBuf,
    /// The key file that the backup is sealed with (default: the data directory's, or the one in the backup)
    #[arg(long, value_name = "KEYFILE")]
    key: Option<PathBuf>,
    /// Restore though the data directory has an instance; what is there moves to a folder beside it
    #[arg(long)]
    force: bool,
    /// Only show what the backup holds, and read it to its end
    #[arg(long, conflicts_with = "force")]
    dry_run: bool,
}

impl Restore {
    /// Restores, or looks whether that would work.
    pub async fn run(self, global: Global) -> anyhow::Result<()> {
        let paths = Paths::new(&global.data_dir)?;
        let opened = backup::open(&self.file)?;
        let header = opened.header.clone();
        if self.dry_run {
            if global.output == Format::Text {
                output::text(&contents(&header));
            }
            let keys = pack::keys_for(&header, self.keys(&paths, &header)?, &self.file)?;
            output::progress("reading it to its end");
            pack::read(opened, &keys, &self.file, None)?;
            return match global.output {
                Format::Text => {
                    output::text("the backup is whole, and its key is here\n");
                    Ok(())
                }
                Format::Json => output::json(&json!({"whole": true, "backup": header.shown()?})),
            };
        }
        if !rustix::process::geteuid().is_root() {
            bail!("what setpoint stores belongs to root: run this as root (sudo setpoint restore …)");
        }
        if let Some(pid) = DaemonLock::holder(&paths)? {
            bail!(
                "setpoint runs on {} (process {pid}): stop it first; its pods may go on",
                paths.data_dir().display()
            );
        }
        let keys = pack::keys_for(&header, self.keys(&paths, &header)?, &self.file)?;
        paths.create()?;
        let _lock = DaemonLock::take(&paths)?;
        self.ensure_wanted(&paths, &header)?;

        let parts = swap::prepare(paths.data_dir())?;
        output::progress(&format!("unpacking {}", self.file.display()));
        let unpacked = async {
            pack::read(opened, &keys, &self.file, Some(&parts))?;
            self.make_ready(&paths, &header, &keys, &parts).await
        };
        let revision = match unpacked.await {
            Ok(revision) => revision,
            Err(error) => {
                // The first error says more than one of tidying up.
                if let Err(left) = swap::discard(paths.data_dir()) {
                    output::error(&left);
                }
                return Err(error.context("nothing was restored, and what was there is as it was"));
            }
        };
        adopt(&paths, &keys)?;
        let aside = aside(&paths, wall_clock());
        swap::commit(paths.data_dir(), &aside)?;
        report(&global, &paths, &header, &aside, revision)
    }

    /// Gathers the keys that may open the backup, the likeliest first.
    fn keys(&self, paths: &Paths, header: &Header) -> anyhow::Result<Vec<Keys>> {
        if let Some(path) = &self.key {
            return Ok(vec![Keys::load(path)?]);
        }
        let mut keys = Vec::new();
        if paths.key().exists() {
            keys.push(Keys::load(&paths.key())?);
        }
        if let Some(text) = &header.key_file {
            keys.push(Keys::from_text(text, "the key file in the backup")?);
        }
        Ok(keys)
    }

    /// Refuses to replace an instance unasked, and to make a second one of a name that this host has already.
    fn ensure_wanted(&self, paths: &Paths, header: &Header) -> anyhow::Result<()> {
        let there = paths.store().exists() || paths.instance().exists();
        ensure!(
            self.force || !there,
            "{} has an instance: restore over it with --force (what is there moves aside and is kept), or name another data directory",
            paths.data_dir().display()
        );
        let own = match Instance::load(paths) {
            Ok(instance) => instance.map(|instance| instance.id),
            // What is damaged is a reason to restore; the host is asked instead.
            Err(error) => {
                output::error(&error);
                None
            }
        };
        if let Some(own) = own.as_ref().filter(|own| **own != header.instance) {
            let pods =
                std::fs::read_dir(paths.data_dir().join("sandboxes")).is_ok_and(|mut pods| pods.next().is_some());
            ensure!(
                !pods,
                "pods of instance {own} are still on this host, and the backup is of instance {}: remove them first with `setpoint down`",
                header.instance
            );
        }
        let run = PathBuf::from(format!("/run/setpoint-{}", header.instance));
        ensure!(
            self.force || own.as_ref() == Some(&header.instance) || !run.exists(),
            "instance {} of the backup is on this host already, in another data directory ({} is there): restore there, or remove it with `setpoint down` first; if that directory is lost, go on with --force",
            header.instance,
            run.display()
        );
        Ok(())
    }

    /// Checks the databases that were unpacked, and has the store go on beyond every revision that was ever given out.
    async fn make_ready(&self, paths: &Paths, header: &Header, keys: &Keys, parts: &Path) -> anyhow::Result<u64> {
        for (name, kind) in [("store.db", DatabaseKind::Log), ("history.db", DatabaseKind::History)] {
            let path = parts.join(name);
            if !path.exists() {
                ensure!(name != "store.db", "the backup has no {name}");
                continue;
            }
            output::progress(&format!("checking {name}"));
            let findings = setpoint_store::check(&path).await?;
            ensure!(
                findings.is_empty(),
                "{name} in the backup is damaged: {}",
                findings.join("; ")
            );
            let schema = setpoint_store::schema(&path, kind).await?;
            ensure!(
                schema.found <= schema.known,
                "{name} in the backup has schema {}, this version knows schemas up to {}: use setpoint {} or newer",
                schema.found,
                schema.known,
                header.version
            );
            let sealed = setpoint_store::sealed_with(&path).await?;
            let missing: Vec<String> = sealed
                .keys()
                .filter(|id| !self.held(paths, keys, **id))
                .map(ToString::to_string)
                .collect();
            ensure!(
                missing.is_empty(),
                "{name} in the backup is sealed with key {} too, which is not here: name a key file that has it with --key",
                missing.join(", ")
            );
        }
        let store = parts.join("store.db");
        let beyond = beyond(header, wall_clock(), replaced(paths).await);
        setpoint_store::skip_past(&store, beyond)
            .await
            .context("cannot have the store go on beyond the revisions that were given out")?;
        let wal = parts.join("store.db-wal");
        ensure!(
            !wal.metadata().is_ok_and(|meta| meta.len() > 0),
            "{} has not been folded into the database",
            wal.display()
        );
        Ok(beyond)
    }

    /// Whether a key will be there once the keys have been merged.
    fn held(&self, paths: &Paths, keys: &Keys, id: KeyId) -> bool {
        keys.has(id) || Keys::load(&paths.key()).is_ok_and(|keys| keys.has(id))
    }
}

/// Returns a revision that no client has seen a greater one of.
fn beyond(header: &Header, now: Timestamp, replaced: Option<u64>) -> u64 {
    let seconds = now.as_second().saturating_sub(header.created.as_second()).max(0);
    let guessed = header
        .newest_revision
        .saturating_add(REVISIONS_A_SECOND.saturating_mul(seconds.unsigned_abs()))
        .saturating_add(REVISIONS_SKIPPED);
    guessed.max(replaced.unwrap_or_default())
}

/// Returns how far the store that is replaced has come, if it can still say.
async fn replaced(paths: &Paths) -> Option<u64> {
    if !paths.store().exists() {
        return None;
    }
    match setpoint_store::newest_issued(&paths.store()).await {
        Ok(revision) => Some(revision),
        Err(error) => {
            output::error(&anyhow::Error::from(error).context(
                "the store that is replaced cannot say how far it has come; going by the time since the backup",
            ));
            None
        }
    }
}

/// Makes every key of the data directory and of the backup readable here.
fn adopt(paths: &Paths, keys: &Keys) -> anyhow::Result<()> {
    let path = paths.key();
    if path.exists() {
        Keys::load(&path)?.adopt(keys)?;
    } else {
        keys.save(&path)?;
    }
    Ok(())
}

/// Chooses a name for what is replaced that is not taken.
fn aside(paths: &Paths, now: Timestamp) -> String {
    let wanted = format!("before-restore-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let mut name = wanted.clone();
    let mut number = 1;
    while paths.data_dir().join(&name).exists() {
        number += 1;
        name = format!("{wanted}-{number}");
    }
    name
}

fn report(global: &Global, paths: &Paths, header: &Header, aside: &str, revision: u64) -> anyhow::Result<()> {
    let aside = Some(paths.data_dir().join(aside)).filter(|path| path.exists());
    if global.output == Format::Json {
        return output::json(&json!({
            "restored": header.shown()?,
            "replaced": aside,
            "revisionsBeyond": revision,
        }));
    }
    let mut text = contents(header);
    text.push_str(&format!(
        "\nrestored to {}; new revisions come after {revision}\n",
        paths.data_dir().display()
    ));
    if let Some(aside) = aside {
        text.push_str(&format!(
            "what was there is kept in {}; remove it when it is no longer needed\n",
            aside.display()
        ));
    }
    text.push_str("`setpoint up` goes on from here\n");
    output::text(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(created: &str) -> Header {
        Header {
            created: created.parse().unwrap(),
            instance: "ab12".into(),
            node: "n".into(),
            version: "1".into(),
            newest_revision: 1000,
            key: "k".into(),
            keys: vec![],
            contents: vec![],
            key_file: None,
        }
    }

    #[test]
    fn revisions_go_on_beyond_all_that_may_have_been_issued() {
        let now = "2026-01-02T00:00:10Z".parse().unwrap();
        let skipped = REVISIONS_SKIPPED;
        assert_eq!(
            beyond(&header("2026-01-02T00:00:00Z"), now, None),
            1000 + 10_000_000 + skipped
        );
        assert_eq!(
            beyond(&header("2026-01-03T00:00:00Z"), now, None),
            1000 + skipped,
            "a clock that was set back"
        );
        assert_eq!(
            beyond(&header("2026-01-02T00:00:00Z"), now, Some(u64::MAX / 2)),
            u64::MAX / 2
        );
        assert_eq!(beyond(&header("2026-01-02T00:00:10Z"), now, Some(5)), 1000 + skipped);
    }
}
