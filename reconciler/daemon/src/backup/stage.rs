//! Taking a backup's parts out of a data directory, one consistent state of each, whether a daemon runs on it or not.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, bail};
use setpoint_store::KeyId;

use super::{Content, PARTS, pack, repositories, swap};
use crate::instance::{Instance, Paths};
use crate::output;

/// How the name of a folder begins that parts wait in; one that is left over belonged to a backup that was killed.
pub const PREFIX: &str = ".backup-";

/// Parts that have been taken.
pub struct Staged {
    /// Where they lie, each under its name.
    pub folder: tempfile::TempDir,
    /// Whose they are.
    pub instance: Instance,
    /// No revision beyond this is in the copy of the store, or had been given out when it was made.
    pub newest_revision: u64,
    /// What they are sealed with.
    pub keys: BTreeSet<KeyId>,
    /// The parts.
    pub contents: Vec<Content>,
}

/// Takes the parts.
pub async fn stage(paths: &Paths) -> anyhow::Result<Staged> {
    swap::ensure_none_pending(paths.data_dir())?;
    let Some(instance) = Instance::load(paths)? else {
        bail!(
            "there is nothing to back up: {} holds no instance; name another with --data-dir",
            paths.data_dir().display()
        );
    };
    let folder = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir_in(paths.data_dir())
        .with_context(|| format!("cannot make a folder in {}", paths.data_dir().display()))?;
    let mut staged = Staged {
        folder,
        instance,
        newest_revision: 0,
        keys: BTreeSet::new(),
        contents: Vec::new(),
    };
    for &name in PARTS {
        let from = paths.data_dir().join(name);
        let to = staged.folder.path().join(name);
        if !from
            .try_exists()
            .with_context(|| format!("cannot look at {}", from.display()))?
        {
            // A first start that did not come far leaves some out.
            continue;
        }
        output::progress(&format!("taking {name}"));
        match name {
            "store.db" | "history.db" => {
                let bytes = from
                    .metadata()
                    .with_context(|| format!("cannot look at {}", from.display()))?
                    .len();
                pack::ensure_room(bytes, paths.data_dir(), &format!("the copy of {name}"))?;
                setpoint_store::snapshot(&from, &to)
                    .await
                    .with_context(|| format!("cannot copy {name}"))?;
                staged.keys.extend(setpoint_store::sealed_with(&to).await?.into_keys());
                if name == "store.db" {
                    staged.newest_revision = setpoint_store::newest_issued(&to).await?;
                }
            }
            "repositories" => repositories::link(&from, &to)?,
            _ => repositories::link_tree(&from, &to)?,
        }
        let (mut files, mut bytes) = (0, 0);
        measure(&to, &mut files, &mut bytes).with_context(|| format!("cannot look at {}", to.display()))?;
        staged.contents.push(Content {
            name: name.to_string(),
            files,
            bytes,
        });
    }
    // One that began meanwhile has put some of the parts in place, and not the others.
    swap::ensure_none_pending(paths.data_dir())?;
    Ok(staged)
}

/// Counts the files below a path and their bytes.
pub fn measure(path: &Path, files: &mut u64, bytes: &mut u64) -> std::io::Result<()> {
    let meta = std::fs::symlink_metadata(path)?;
    if meta.is_dir() {
        for entry in std::fs::read_dir(path)? {
            measure(&entry?.path(), files, bytes)?;
        }
    } else {
        *files += 1;
        *bytes += meta.len();
    }
    Ok(())
}
