//! Putting restored parts in the place of those that are there, so that a crash leaves all of the old or all of the new.
//!
//! The new parts lie in `.restore/parts/`, complete and durable, before `.restore/plan.json` appears by a rename: that is the
//! point of no return. From then on the steps of the plan are taken, each of which can be taken again: what is there moves to the folder
//! `before-restore-TIME/`, then the new one takes its place. Whoever takes the data directory's lock next finishes a
//! plan that is there, before anything else is read: so no daemon ever sees a mixture.
//!
//! Nothing is deleted but what this module made itself, and what a look at a database left of an empty log beside one that has been
//! moved aside already.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use super::PARTS;

const FOLDER: &str = ".restore";
const PLAN: &str = "plan.json";

/// What belongs to a part and must never meet another one: a database's write-ahead log.
const COMPANIONS: &[&str] = &["store.db-wal", "store.db-shm", "history.db-wal", "history.db-shm"];

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    /// The folder for what is there, a name in the data directory.
    aside: String,
    /// The parts that are put in place; those of [`PARTS`] that are not among them only move aside.
    parts: Vec<String>,
}

/// Returns whether a restore has passed the point of no return and has not been finished.
pub fn pending(data_dir: &Path) -> bool {
    data_dir.join(FOLDER).join(PLAN).exists()
}

/// Fails when a restore has not been finished: the databases may be of two instances, and a look at them would leave files beside them.
pub fn ensure_none_pending(data_dir: &Path) -> anyhow::Result<()> {
    ensure!(
        !pending(data_dir),
        "a restore of {} is under way or was cut off: if none is running, `setpoint up` finishes it; then try again",
        data_dir.display()
    );
    Ok(())
}

/// Makes the empty folder that new parts are to be put in; what an earlier attempt left there goes.
pub fn prepare(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let folder = data_dir.join(FOLDER);
    ensure!(
        !folder.join(PLAN).exists(),
        "{} is there: an earlier restore has not been finished",
        folder.join(PLAN).display()
    );
    ensure_movable(data_dir)?;
    discard(data_dir)?;
    let parts = folder.join("parts");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&parts)
        .with_context(|| format!("cannot make {}", parts.display()))?;
    Ok(parts)
}

/// Fails when something that is there cannot be moved aside: that must be known before the point of no return.
fn ensure_movable(data_dir: &Path) -> anyhow::Result<()> {
    let device = data_dir
        .metadata()
        .with_context(|| format!("cannot look at {}", data_dir.display()))?
        .dev();
    for part in PARTS {
        let path = data_dir.join(part);
        ensure!(
            !path.symlink_metadata().is_ok_and(|meta| meta.dev() != device),
            "{} is a file system of its own and cannot be moved aside: unmount it first",
            path.display()
        );
    }
    Ok(())
}

/// Removes what was prepared and not committed.
pub fn discard(data_dir: &Path) -> anyhow::Result<()> {
    let folder = data_dir.join(FOLDER);
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Puts the prepared parts in place; what is there moves to `aside`, a name in the data directory. The caller holds its lock.
pub fn commit(data_dir: &Path, aside: &str) -> anyhow::Result<()> {
    let folder = data_dir.join(FOLDER);
    let parts = PARTS
        .iter()
        .filter(|part| folder.join("parts").join(part).exists())
        .map(ToString::to_string)
        .collect();
    let plan = Plan {
        aside: aside.to_string(),
        parts,
    };
    // Everything that was unpacked is on the disk before the plan is.
    rustix::fs::syncfs(File::open(&folder)?)
        .with_context(|| format!("cannot write {} to its disk", folder.display()))?;
    let written = folder.join("plan.new");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&written)?;
        file.write_all(&serde_json::to_vec(&plan)?)?;
        file.sync_all()?;
        std::fs::rename(&written, folder.join(PLAN))?;
        sync(&folder)?;
        sync(data_dir)
    };
    write().with_context(|| format!("cannot write {}", folder.join(PLAN).display()))?;
    finish(data_dir).map(drop)
}

/// Finishes a restore that has passed the point of no return; returns whether there was one. The caller holds the data directory's lock.
pub fn finish(data_dir: &Path) -> anyhow::Result<bool> {
    let folder = data_dir.join(FOLDER);
    let path = folder.join(PLAN);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let plan: Plan = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is damaged; its restore cannot be finished", path.display()))?;
    let names = Path::new(&plan.aside).components().collect::<Vec<_>>();
    if !matches!(names[..], [Component::Normal(_)]) || plan.parts.iter().any(|part| !PARTS.contains(&part.as_str())) {
        bail!("{} is damaged; its restore cannot be finished", path.display());
    }
    let carry = || -> std::io::Result<()> {
        let aside = data_dir.join(&plan.aside);
        match std::fs::DirBuilder::new().mode(0o700).create(&aside) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        for part in PARTS {
            let new = folder.join("parts").join(part);
            let planned = plan.parts.iter().any(|name| name == part);
            // A part that has left the folder is in its place already: what stands there is the new one.
            if planned && !exists(&new)? {
                continue;
            }
            for name in COMPANIONS.iter().filter(|name| name.starts_with(part)) {
                let (there, kept) = (data_dir.join(name), aside.join(name));
                if exists(&kept)? && left_by_a_look(&there)? {
                    std::fs::remove_file(&there)?;
                }
                move_aside(&there, &kept)?;
            }
            let (there, kept) = (data_dir.join(part), aside.join(part));
            if planned && new.is_file() {
                // The new one replaces the old one, so that there is no moment without: `down` reads the instance without the lock.
                link_aside(&there, &kept)?;
            } else {
                move_aside(&there, &kept)?;
            }
            sync(&aside)?;
            if planned {
                std::fs::rename(&new, &there)?;
            }
            sync(data_dir)?;
        }
        // The plan goes first: without it the rest is only what is left to be removed.
        std::fs::remove_file(&path)?;
        sync(&folder)?;
        // What was put aside may be nothing.
        match std::fs::remove_dir(&aside) {
            Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => Err(error),
            _ => Ok(()),
        }
    };
    carry().with_context(|| format!("cannot put the restored parts in place; what is left to do stands in {}, and any start of setpoint on this data directory tries again", path.display()))?;
    discard(data_dir)?;
    Ok(true)
}

/// Whether a database's companion holds nothing that was written: an index of the log, which is made anew, or an empty log.
fn left_by_a_look(path: &Path) -> std::io::Result<bool> {
    match path.symlink_metadata() {
        Ok(meta) => Ok(meta.is_file() && (meta.len() == 0 || path.extension() == Some("db-shm".as_ref()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Keeps a file under another name too, where it is there and was not kept already.
fn link_aside(from: &Path, to: &Path) -> std::io::Result<()> {
    match std::fs::hard_link(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            match from.metadata()?.ino() == to.metadata()?.ino() {
                true => Ok(()),
                false => Err(both(from, to)),
            }
        }
        // A file system without such links.
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
            move_aside(from, to)
        }
        linked => linked,
    }
}

fn both(from: &Path, to: &Path) -> std::io::Error {
    let text = format!("{} and {} are both there", from.display(), to.display());
    std::io::Error::new(ErrorKind::AlreadyExists, text)
}

/// Moves something aside where it is there and was not moved already.
fn move_aside(from: &Path, to: &Path) -> std::io::Result<()> {
    if !exists(from)? {
        return Ok(());
    }
    if exists(to)? {
        return Err(both(from, to));
    }
    std::fs::rename(from, to)
}

fn exists(path: &Path) -> std::io::Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The files of a data directory and what they hold.
    fn state(folder: &Path) -> BTreeMap<String, String> {
        fn walk(root: &Path, folder: &Path, into: &mut BTreeMap<String, String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(root, &path, into);
                } else {
                    let name = path.strip_prefix(root).unwrap().display().to_string();
                    into.insert(name, std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(folder, folder, &mut files);
        files
    }

    fn old(folder: &Path) {
        for name in ["store.db", "store.db-wal", "history.db", "instance.json", "kubeconfig"] {
            std::fs::write(folder.join(name), "old").unwrap();
        }
        std::fs::create_dir(folder.join("pki")).unwrap();
        std::fs::write(folder.join("pki/ca.crt"), "old").unwrap();
        std::fs::create_dir(folder.join("repositories")).unwrap();
        std::fs::write(folder.join("repositories/a"), "old").unwrap();
    }

    fn new(folder: &Path) {
        let parts = prepare(folder).unwrap();
        for name in ["store.db", "history.db", "instance.json"] {
            std::fs::write(parts.join(name), "new").unwrap();
        }
        std::fs::create_dir(parts.join("pki")).unwrap();
        std::fs::write(parts.join("pki/ca.crt"), "new").unwrap();
    }

    #[test]
    fn the_new_parts_take_the_place_of_the_old_ones_which_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        old(folder.path());
        new(folder.path());
        commit(folder.path(), "before").unwrap();
        let state = state(folder.path());
        for name in ["store.db", "history.db", "instance.json", "pki/ca.crt"] {
            assert_eq!(state[name], "new");
            assert_eq!(state[&format!("before/{name}")], "old");
        }
        assert_eq!(state["before/store.db-wal"], "old");
        assert_eq!(state["before/repositories/a"], "old");
        assert_eq!(state["kubeconfig"], "old");
        assert_eq!(state.len(), 11, "{state:?}");
        assert!(!finish(folder.path()).unwrap());
    }

    #[test]
    fn an_empty_folder_gets_the_parts_and_nothing_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        new(folder.path());
        commit(folder.path(), "before").unwrap();
        assert_eq!(state(folder.path()).len(), 4);
        assert!(!folder.path().join("before").exists());
        assert!(!folder.path().join(FOLDER).exists());
    }

    #[test]
    fn what_was_not_committed_is_not_taken_up() {
        let folder = tempfile::tempdir().unwrap();
        old(folder.path());
        let before = state(folder.path());
        new(folder.path());
        assert!(!finish(folder.path()).unwrap());
        assert_eq!(state(folder.path())["store.db"], "old");
        // The next attempt begins with an empty folder.
        assert_eq!(std::fs::read_dir(prepare(folder.path()).unwrap()).unwrap().count(), 0);
        discard(folder.path()).unwrap();
        assert_eq!(state(folder.path()), before);
    }

    #[test]
    fn a_restore_that_was_cut_off_after_any_step_is_finished_to_the_same_end() {
        let folder = tempfile::tempdir().unwrap();
        old(folder.path());
        new(folder.path());
        commit(folder.path(), "before").unwrap();
        let end = state(folder.path());

        // Every move in the order in which they are made; the crash comes after so many of them.
        let moves: Vec<(&str, &str)> = vec![
            ("store.db-wal", "before/store.db-wal"),
            ("store.db", "before/store.db"),
            (".restore/parts/store.db", "store.db"),
            ("history.db", "before/history.db"),
            (".restore/parts/history.db", "history.db"),
            ("instance.json", "before/instance.json"),
            (".restore/parts/instance.json", "instance.json"),
            ("pki", "before/pki"),
            (".restore/parts/pki", "pki"),
            ("repositories", "before/repositories"),
        ];
        for made in 0..=moves.len() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path();
            old(path);
            new(path);
            let parts = ["store.db", "history.db", "instance.json", "pki"];
            let plan = Plan {
                aside: "before".into(),
                parts: parts.map(String::from).to_vec(),
            };
            std::fs::write(path.join(FOLDER).join(PLAN), serde_json::to_vec(&plan).unwrap()).unwrap();
            if made > 0 {
                std::fs::create_dir(path.join("before")).unwrap();
            }
            for (from, to) in &moves[..made] {
                let (from, to) = (path.join(from), path.join(to));
                if from.is_file() && to.starts_with(path.join("before")) && from.extension() != Some("db-wal".as_ref())
                {
                    std::fs::hard_link(from, to).unwrap();
                } else {
                    std::fs::rename(from, to).unwrap();
                }
            }
            assert!(finish(path).unwrap(), "after {made} moves");
            assert_eq!(state(path), end, "after {made} moves");
        }
    }

    #[test]
    fn an_empty_log_that_a_look_left_meanwhile_is_no_hindrance_and_a_written_one_is() {
        for (log, finishes) in [("", true), ("written", false)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path();
            old(path);
            std::fs::write(path.join("store.db-shm"), "old").unwrap();
            new(path);
            let plan = Plan {
                aside: "before".into(),
                parts: vec!["store.db".into()],
            };
            std::fs::write(path.join(FOLDER).join(PLAN), serde_json::to_vec(&plan).unwrap()).unwrap();
            std::fs::create_dir(path.join("before")).unwrap();
            for name in ["store.db-wal", "store.db-shm"] {
                std::fs::rename(path.join(name), path.join("before").join(name)).unwrap();
            }
            std::fs::write(path.join("store.db-wal"), log).unwrap();
            std::fs::write(path.join("store.db-shm"), "index").unwrap();
            assert!(ensure_none_pending(path).is_err());
            assert_eq!(finish(path).is_ok(), finishes, "{log:?}");
            let state = state(path);
            assert_eq!(state["before/store.db-wal"], "old");
            if finishes {
                assert_eq!(state["before/store.db-shm"], "old");
                assert_eq!(state["store.db"], "new");
                assert!(!state.contains_key("store.db-wal") && !state.contains_key("store.db-shm"));
            }
        }
    }

    #[test]
    fn what_cannot_be_moved_is_told_before_anything_is_done() {
        let folder = tempfile::tempdir().unwrap();
        old(folder.path());
        let pki = folder.path().join("pki");
        let nothing = None::<&str>;
        nix::mount::mount(
            Some("tmpfs"),
            &pki,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            nothing,
        )
        .unwrap();
        let prepared = prepare(folder.path());
        nix::mount::umount(&pki).unwrap();
        assert!(prepared.unwrap_err().to_string().contains("unmount it first"));
        assert!(!folder.path().join(FOLDER).exists());
    }

    #[test]
    fn a_damaged_plan_moves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        old(folder.path());
        new(folder.path());
        let path = folder.path().join(FOLDER).join(PLAN);
        for bad in [
            "",
            "{",
            r#"{"aside":"../x","parts":[]}"#,
            r#"{"aside":"x","parts":["/etc"]}"#,
        ] {
            std::fs::write(&path, bad).unwrap();
            assert!(finish(folder.path()).unwrap_err().to_string().contains("damaged"));
            assert_eq!(state(folder.path())["store.db"], "old");
        }
    }
}
