//! Freezing git repositories while others push to them.
//!
//! git and libgit2 change a file only by renaming another into its place, and never one of the objects: so a second link to a file is a copy
//! of it that stays as it is. References are taken before objects: whatever they point to was there by then. It may still be
//! moved, from loose objects into a pack or from packs into another, and the old files removed; so objects are looked through until
//! none that was seen at first is gone at the end.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// How often objects are looked through before a repository counts as too busy.
const ATTEMPTS: usize = 10;

/// Freezes every repository of a folder into another one.
pub fn link(from: &Path, to: &Path) -> anyhow::Result<()> {
    make_dir(to)?;
    for name in names(from)? {
        let (repository, frozen) = (from.join(&name), to.join(&name));
        if repository.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            freeze(&repository, &frozen)?;
        }
    }
    Ok(())
}

fn freeze(repository: &Path, frozen: &Path) -> anyhow::Result<()> {
    make_dir(frozen)?;
    // A reference that is packed meanwhile is found in the file of packed ones, if that is read after the loose ones.
    let rest = names(repository)?.into_iter().filter(|name| {
        let name = name.to_string_lossy();
        !matches!(&*name, "refs" | "objects" | "packed-refs") && !name.ends_with(".lock")
    });
    for name in ["refs".into(), "packed-refs".into()].into_iter().chain(rest) {
        link_tree(&repository.join(&name), &frozen.join(&name))?;
    }
    let objects = repository.join("objects");
    make_dir(&frozen.join("objects"))?;
    for _ in 0..ATTEMPTS {
        let before = list(&objects)?;
        let mut all = true;
        for name in list(&objects)?.union(&before) {
            all &= link_file(&objects.join(name), &frozen.join("objects").join(name))?;
        }
        if all && before.is_subset(&list(&objects)?) {
            return Ok(());
        }
    }
    bail!(
        "{} is being packed again and again; try the backup again when git is done with it",
        repository.display()
    )
}

/// Lists the files below a folder by their paths from there, without those that are still being written.
fn list(folder: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    fn below(folder: &Path, path: &Path, into: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
        for name in names(&folder.join(path))? {
            let text = name.to_string_lossy();
            if text.starts_with("tmp_") || text.starts_with("incoming-") || text.ends_with(".lock") {
                continue;
            }
            let path = path.join(&name);
            match folder.join(&path).symlink_metadata() {
                Ok(meta) if meta.is_dir() => below(folder, &path, into)?,
                Ok(meta) if meta.is_file() => {
                    into.insert(path);
                }
                _ => {}
            }
        }
        Ok(())
    }
    let mut files = BTreeSet::new();
    below(folder, Path::new(""), &mut files)?;
    Ok(files)
}

/// Freezes a file, or a folder with what is below it. What is gone meanwhile, or is neither, is left out.
pub fn link_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    match from.symlink_metadata() {
        Ok(meta) if meta.is_dir() => {
            make_dir(to)?;
            for name in names(from)? {
                if !name.to_string_lossy().ends_with(".lock") {
                    link_tree(&from.join(&name), &to.join(&name))?;
                }
            }
            Ok(())
        }
        Ok(meta) if meta.is_file() => link_file(from, to).map(drop),
        Ok(_) => {
            tracing::warn!("{} is neither file nor folder and is left out", from.display());
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", from.display())),
    }
}

/// Freezes a file; returns whether it was there.
fn link_file(from: &Path, to: &Path) -> anyhow::Result<bool> {
    if let Some(folder) = to.parent() {
        make_dir(folder)?;
    }
    let linked = std::fs::hard_link(from, to).or_else(|error| match error.kind() {
        ErrorKind::AlreadyExists => Ok(()),
        ErrorKind::CrossesDevices => std::fs::copy(from, to).map(drop),
        _ => Err(error),
    });
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot link {} to {}", from.display(), to.display())),
    }
}

fn make_dir(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}

/// The names in a folder; none when it is gone.
fn names(folder: &Path) -> anyhow::Result<Vec<std::ffi::OsString>> {
    let read = || -> std::io::Result<Vec<_>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            names.push(entry?.file_name());
        }
        names.sort();
        Ok(names)
    };
    match read() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        read => read.with_context(|| format!("cannot list {}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn git(folder: &Path, args: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(["-c", "user.name=n", "-c", "user.email=n@example.com"])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    }

    #[test]
    fn repositories_are_whole_while_others_push_and_pack() {
        let folder = tempfile::tempdir().unwrap();
        let repositories = folder.path().join("repositories");
        let bare = repositories.join("fleet.git");
        std::fs::create_dir_all(&bare).unwrap();
        git(&bare, &["init", "--bare", "-q", "-b", "main", "."]);
        let work = folder.path().join("work");
        git(
            folder.path(),
            &["clone", "-q", bare.to_str().unwrap(), work.to_str().unwrap()],
        );
        let commit = |number: usize| {
            std::fs::write(work.join("file"), format!("{number}")).unwrap();
            git(&work, &["add", "-A"]);
            git(&work, &["commit", "-q", "-m", &number.to_string()]);
            git(&work, &["push", "-q", "origin", "HEAD:main"]);
            if number.is_multiple_of(3) {
                git(&bare, &["gc", "-q", "--prune=now"]);
            }
        };
        commit(0);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (1..13).for_each(commit);
                done.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            let mut round = 0;
            while round < 3 || !done.load(std::sync::atomic::Ordering::Relaxed) {
                let to = folder.path().join(format!("frozen-{round}"));
                link(&repositories, &to).unwrap();
                let frozen = to.join("fleet.git");
                git(&frozen, &["fsck", "--full", "--strict", "--no-dangling"]);
                git(&frozen, &["log", "--format=%H", "main"]);
                round += 1;
            }
        });
        let last = folder.path().join("last");
        link(&repositories, &last).unwrap();
        assert_eq!(
            git(&last.join("fleet.git"), &["rev-parse", "main"]),
            git(&work, &["rev-parse", "HEAD"])
        );
    }

    #[test]
    fn links_and_sockets_are_left_out_and_missing_folders_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("pki");
        std::fs::create_dir(&from).unwrap();
        std::fs::write(from.join("ca.crt"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", from.join("link")).unwrap();
        let to = folder.path().join("to");
        link_tree(&from, &to).unwrap();
        assert_eq!(names(&to).unwrap(), ["ca.crt"]);
        link_tree(&folder.path().join("missing"), &folder.path().join("none")).unwrap();
        assert!(!folder.path().join("none").exists());
    }
}
