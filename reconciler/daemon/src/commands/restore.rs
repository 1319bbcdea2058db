//! `setpoint restore`: a backup in the place of what is there.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use jiff::Timestamp;
use serde_json::json;
use setpoint_net::Net;
use setpoint_runtime::Runtime;
use setpoint_store::{DatabaseKind, KeyError, KeyId, Keys};

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

/// The data directory's key file, as a restore finds it.
enum Own {
    /// There is none.
    Missing,
    /// It can be read.
    Here(Keys),
    /// It cannot be read, and gives way when other keys open the backup.
    Damaged(KeyError),
}

impl Own {
    /// Reads the key file.
    fn load(paths: &Paths) -> anyhow::Result<Own> {
        let path = paths.key();
        if !path.exists() {
            return Ok(Own::Missing);
        }
        match Keys::load(&path) {
            Ok(keys) => Ok(Own::Here(keys)),
            // Not damaged: the error says what to do.
            Err(error @ KeyError::Permissions { .. }) => Err(error.into()),
            Err(error) => Ok(Own::Damaged(error)),
        }
    }

    /// Whether a key will be there once those that open the backup have been added.
    fn will_have(&self, keys: &Keys, id: KeyId) -> bool {
        keys.has(id) || matches!(self, Own::Here(own) if own.has(id))
    }
}

/// What the data directory's key file has become.
struct Adopted {
    /// The key that is sealed with from now on.
    newest: KeyId,
    /// Where the damaged key file is kept that was there.
    damaged: Option<PathBuf>,
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
            let keys = self.keys(&Own::load(&paths)?, &header)?;
            output::progress("reading it to its end");
            pack::read(opened, &keys, &self.file, None)?;
            return match global.output {
                Format::Text => {
                    output::text("the backup is whole, and its keys are here\n");
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
        let own = Own::load(&paths)?;
        let keys = self.keys(&own, &header)?;
        paths.create()?;
        let _lock = DaemonLock::take(&paths)?;
        self.ensure_wanted(&paths, &header).await?;

        let parts = swap::prepare(paths.data_dir())?;
        output::progress(&format!("unpacking {}", self.file.display()));
        let aside = aside(&paths, wall_clock());
        let unpacked = async {
            pack::read(opened, &keys, &self.file, Some(&parts))?;
            let revision = make_ready(&paths, &header, &keys, &own, &parts).await?;
            anyhow::Ok((revision, adopt(&paths, &own, &keys, &aside)?))
        };
        let (revision, adopted) = match unpacked.await {
            Ok(done) => done,
            Err(error) => {
                // The first error says more than one of tidying up.
                if let Err(left) = swap::discard(paths.data_dir()) {
                    output::error(&left);
                }
                return Err(error.context("nothing was restored, and what was there is as it was"));
            }
        };
        swap::commit(paths.data_dir(), &aside)?;
        report(&global, &paths, &header, &aside, revision, &adopted)
    }

    /// Finds the keys that open the backup, after a look at whether all that it needs are here.
    fn keys(&self, own: &Own, header: &Header) -> anyhow::Result<Keys> {
        let keys = pack::keys_for(header, self.candidates(own, header)?, &self.file).map_err(|error| match own {
            Own::Damaged(damage) => error.context(format!("the key file of the data directory is damaged: {damage}")),
            _ => error,
        })?;
        let mut missing = Vec::new();
        for text in &header.keys {
            let id: KeyId = text
                .parse()
                .with_context(|| format!("the header of the backup {} is damaged", self.file.display()))?;
            if !own.will_have(&keys, id) {
                missing.push(id.to_string());
            }
        }
        ensure!(
            missing.is_empty(),
            "values in the backup {} are sealed with key {} too, which is not here: name a key file that has it with --key",
            self.file.display(),
            missing.join(", ")
        );
        Ok(keys)
    }

    /// Gathers the keys that may open the backup, the likeliest first.
    fn candidates(&self, own: &Own, header: &Header) -> anyhow::Result<Vec<Keys>> {
        if let Some(path) = &self.key {
            return Ok(vec![Keys::load(path)?]);
        }
        let mut keys = Vec::new();
        if let Own::Here(own) = own {
            keys.push(own.clone());
        }
        if let Some(text) = &header.key_file {
            keys.push(Keys::from_text(text, "the key file in the backup")?);
        }
        Ok(keys)
    }

    /// Refuses to replace an instance unasked, and to make a second one of a name that this host has already.
    async fn ensure_wanted(&self, paths: &Paths, header: &Header) -> anyhow::Result<()> {
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
            let left = left_of(paths, own).await?;
            ensure!(
                left.is_empty(),
                "instance {own} is still on this host ({}), and the backup is of instance {}: remove it first with `setpoint down --data-dir {}`",
                left.join(", "),
                header.instance,
                paths.data_dir().display()
            );
        }
        let run = run_dir(&header.instance);
        if own.as_ref() != Some(&header.instance)
            && let Some(life) = life(&run, own.is_none().then(|| sandboxes(paths)).as_deref())?
        {
            bail!(
                "instance {} of the backup lives on this host, in another data directory ({life}): restore there, or remove it there first with `setpoint down`; --force does not go over it. If that directory is lost, `setpoint doctor` says how to remove what is left",
                header.instance
            );
        }
        ensure!(
            self.force || own.as_ref() == Some(&header.instance) || !run.exists(),
            "instance {} of the backup is on this host already, in another data directory ({} is there): restore there, or remove it with `setpoint down` first; if that directory is lost, go on with --force",
            header.instance,
            run.display()
        );
        Ok(())
    }
}

/// Where the sockets of an instance are.
fn run_dir(instance: &str) -> PathBuf {
    PathBuf::from(format!("/run/setpoint-{instance}"))
}

/// Where the pods of a data directory lie.
fn sandboxes(paths: &Paths) -> PathBuf {
    paths.data_dir().join("sandboxes")
}

/// Says what an instance still has on this host.
async fn left_of(paths: &Paths, instance: &str) -> anyhow::Result<Vec<String>> {
    let mut left = Vec::new();
    if std::fs::read_dir(sandboxes(paths)).is_ok_and(|mut pods| pods.next().is_some()) {
        left.push("pods".to_string());
    }
    let net = Net::traces().await.context("cannot look at this host's network")?;
    if net.contains_key(instance) {
        left.push("links or tables of the network".to_string());
    }
    let groups = Runtime::traces().into_iter().filter(|(whose, _)| whose == instance);
    left.extend(groups.map(|(_, group)| group.display().to_string()));
    let run = run_dir(instance);
    if run.exists() {
        left.push(run.display().to_string());
    }
    Ok(left)
}

/// Says by what the instance of a run folder lives: its API answers, or it has pods. Pods that lie in `mine` are not counted.
fn life(run: &Path, mine: Option<&Path>) -> anyhow::Result<Option<String>> {
    let socket = run.join("api.sock");
    if UnixStream::connect(&socket).is_ok() {
        return Ok(Some(format!("{} answers", socket.display())));
    }
    let shims = run.join("shims");
    let entries = match std::fs::read_dir(&shims) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", shims.display())),
    };
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {}", shims.display()))?
            .path();
        let pod = path.file_stem().unwrap_or_default();
        if !mine.is_some_and(|mine| mine.join(pod).exists()) {
            return Ok(Some(format!("{} is there", path.display())));
        }
    }
    Ok(None)
}

/// Checks the databases that were unpacked, and has the store go on beyond every revision that was ever given out.
async fn make_ready(paths: &Paths, header: &Header, keys: &Keys, own: &Own, parts: &Path) -> anyhow::Result<u64> {
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
            .filter(|id| !own.will_have(keys, **id))
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

/// Makes every key of the data directory and of the backup readable here; a key file that is damaged is kept under another name.
fn adopt(paths: &Paths, own: &Own, keys: &Keys, aside: &str) -> anyhow::Result<Adopted> {
    let path = paths.key();
    match own {
        Own::Here(own) => {
            own.adopt(keys)?;
            Ok(Adopted {
                newest: own.newest(),
                damaged: None,
            })
        }
        Own::Missing => Ok(Adopted {
            newest: keys.save(&path)?.newest(),
            damaged: None,
        }),
        Own::Damaged(_) => {
            let kept = paths.data_dir().join(format!("store.key.{aside}"));
            ensure!(!kept.exists(), "{} is there already; try again", kept.display());
            let moved = |from: &Path, to: &Path| {
                std::fs::rename(from, to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
            };
            moved(&path, &kept)?;
            match keys.save(&path) {
                Ok(saved) => Ok(Adopted {
                    newest: saved.newest(),
                    damaged: Some(kept),
                }),
                Err(error) => {
                    // The first error says more than one of tidying up.
                    if let Err(left) = moved(&kept, &path) {
                        output::error(&left);
                    }
                    Err(error.into())
                }
            }
        }
    }
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

fn report(
    global: &Global,
    paths: &Paths,
    header: &Header,
    aside: &str,
    revision: u64,
    adopted: &Adopted,
) -> anyhow::Result<()> {
    // Backups from now on need a key that a copy of the backup's may lack.
    let other_key = adopted.newest.to_string() != header.key;
    let aside = Some(paths.data_dir().join(aside)).filter(|path| path.exists());
    if global.output == Format::Json {
        return output::json(&json!({
            "restored": header.shown()?,
            "replaced": aside,
            "revisionsBeyond": revision,
            "newestKey": adopted.newest.to_string(),
            "keepNewCopyOfKey": other_key,
            "damagedKeyFile": adopted.damaged,
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
    if let Some(damaged) = &adopted.damaged {
        text.push_str(&format!(
            "the key file that was there is damaged and is kept as {}\n",
            damaged.display()
        ));
    }
    if other_key {
        text.push_str(&format!(
            "new values are sealed with key {}, not with the backup's: keep a new copy of {}\n",
            adopted.newest,
            paths.key().display()
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
    fn a_damaged_key_file_gives_way_to_the_keys_of_the_backup_and_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path()).unwrap();
        let other = tempfile::tempdir().unwrap();
        let keys = Keys::open(&other.path().join("copy")).unwrap();
        let missing = Own::load(&paths).unwrap();
        assert!(matches!(missing, Own::Missing) && missing.will_have(&keys, keys.newest()));

        crate::instance::write_private(&paths.key(), b"damaged").unwrap();
        let damaged = Own::load(&paths).unwrap();
        assert!(matches!(damaged, Own::Damaged(_)));
        let adopted = adopt(&paths, &damaged, &keys, "before").unwrap();
        assert_eq!(adopted.newest, keys.newest());
        assert_eq!(std::fs::read(adopted.damaged.unwrap()).unwrap(), b"damaged");

        // A key file that can be read keeps its newest key and gets the others.
        let more = Keys::open(&other.path().join("more")).unwrap();
        let own = Own::load(&paths).unwrap();
        let adopted = adopt(&paths, &own, &more, "before").unwrap();
        assert_eq!((adopted.newest, adopted.damaged), (keys.newest(), None));
        assert!(Keys::load(&paths.key()).unwrap().has(more.newest()));
    }

    #[test]
    fn an_instance_lives_by_its_socket_and_by_pods_that_are_not_of_this_data_directory() {
        let folder = tempfile::tempdir().unwrap();
        let (run, mine) = (folder.path().join("run"), folder.path().join("sandboxes"));
        assert_eq!(life(&run, None).unwrap(), None);
        std::fs::create_dir_all(run.join("shims")).unwrap();
        std::fs::create_dir_all(mine.join("pod")).unwrap();
        assert_eq!(life(&run, None).unwrap(), None);
        std::fs::write(run.join("shims/pod.sock"), "").unwrap();
        assert!(life(&run, None).unwrap().is_some());
        assert_eq!(life(&run, Some(&mine)).unwrap(), None);
        let listener = std::os::unix::net::UnixListener::bind(run.join("api.sock")).unwrap();
        assert!(life(&run, Some(&mine)).unwrap().unwrap().contains("api.sock"));
        drop(listener);
        assert_eq!(life(&run, Some(&mine)).unwrap(), None);
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
