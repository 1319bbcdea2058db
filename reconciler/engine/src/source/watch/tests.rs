use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::*;
use crate::source::Repository;

const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    folder: tempfile::TempDir,
    watcher: Watcher,
    wakes: Receiver<String>,
}

impl World {
    /// A work tree `tree` with one commit on main and a bare clone of it, `bare`; both watched under their names.
    fn new() -> Self {
        let (sender, wakes) = channel();
        let sender = Mutex::new(sender);
        let watcher = Watcher::new(move |key| drop(sender.lock().send(key.to_owned()))).unwrap();
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
            watcher,
            wakes,
        };
        world.git(".", &["init", "-q", "-b", "main", "tree"]);
        world.commit("tree");
        world.git(".", &["clone", "-q", "--bare", "tree", "bare"]);
        world.git("tree", &["remote", "add", "origin", "../bare"]);
        world.watch("tree");
        world.watch("bare");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn git(&self, folder: &str, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "gc.auto=0"])
            .args(arguments)
            .current_dir(self.path(folder))
            .env("HOME", self.folder.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn commit(&self, folder: &str) -> String {
        self.git(folder, &["commit", "-q", "--allow-empty", "-m", "x"]);
        self.git(folder, &["rev-parse", "HEAD"])
    }

    fn watch(&self, name: &str) {
        let paths = Repository::open(&self.path(name)).unwrap().paths();
        self.watcher.watch(name, &paths).unwrap();
    }

    fn head(&self, name: &str, branch: Option<&str>) -> Option<String> {
        let repository = Repository::open(&self.path(name)).ok()?;
        repository.head(branch).ok().flatten().map(|head| head.commit)
    }

    /// Follows the wakes of `name` until its branch is at `commit`, reading the ref only when woken.
    fn sees(&self, name: &str, branch: Option<&str>, commit: &str) {
        self.until(name, || self.head(name, branch).as_deref() == Some(commit));
    }

    fn until(&self, name: &str, reached: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.wakes.recv_timeout(left) {
                Ok(key) if key == name && reached() => return,
                Ok(_) => {}
                Err(_) => panic!("{name} was not woken for what it waited for"),
            }
        }
    }

    /// Waits until the wakes of what happened before are over.
    fn quiet(&self) {
        while self.wakes.recv_timeout(Duration::from_millis(700)).is_ok() {}
    }
}

#[test]
fn commits_in_a_work_tree_and_pushes_into_a_bare_repository_wake() {
    let world = World::new();
    let commit = world.commit("tree");
    world.sees("tree", None, &commit);
    world.git("tree", &["push", "-q", "origin", "main"]);
    world.sees("bare", None, &commit);
}

#[test]
fn a_work_tree_that_is_moved_away_and_one_that_takes_its_place_wake() {
    let world = World::new();
    world.quiet();
    std::fs::rename(world.path("tree"), world.path("old")).unwrap();
    world.until("tree", || !world.path("tree").exists());
    world.quiet();
    world.git(".", &["clone", "-q", "bare", "tree"]);
    world.until("tree", || world.path("tree").exists());
    // Whoever looks then finds another folder and has it watched in place of the one that is gone.
    world.watcher.unwatch("tree");
    world.watch("tree");
    world.quiet();
    let commit = world.commit("tree");
    world.sees("tree", None, &commit);
}

#[test]
fn what_happens_beside_a_repository_wakes_nobody() {
    let world = World::new();
    world.quiet();
    std::fs::write(world.path("other"), "x").unwrap();
    std::fs::remove_file(world.path("other")).unwrap();
    assert!(world.wakes.recv_timeout(Duration::from_millis(700)).is_err());
    let commit = world.commit("tree");
    world.sees("tree", None, &commit);
    assert!(!world.watcher.state.lock().folders[world.folder.path()].recursive);
}

#[test]
fn none_of_many_updates_is_missed() {
    let world = World::new();
    for round in 0..100 {
        let commit = world.commit("tree");
        world.sees("tree", None, &commit);
        if round % 4 == 0 {
            let branch = format!("feat/{round}/deep");
            world.git("tree", &["push", "-q", "origin", &format!("main:{branch}")]);
            world.sees("bare", Some(&branch), &commit);
        }
    }
}

#[test]
fn packing_refs_and_moving_packed_ones_wake() {
    let world = World::new();
    world.git("bare", &["pack-refs", "--all"]);
    let commit = world.commit("tree");
    world.git("tree", &["push", "-q", "origin", "main"]);
    world.sees("bare", None, &commit);
    world.git("bare", &["branch", "other"]);
    world.git("bare", &["gc", "-q"]);
    world.quiet();
    // Deleting a packed branch only rewrites packed-refs.
    world.git("bare", &["branch", "-q", "-D", "other"]);
    world.until("bare", || world.head("bare", Some("other")).is_none());
}

#[test]
fn new_nested_branches_wake() {
    let world = World::new();
    let commit = world.head("bare", None).unwrap();
    world.git("bare", &["update-ref", "refs/heads/feat/x/y", &commit]);
    world.sees("bare", Some("feat/x/y"), &commit);
    world.quiet();
    let next = world.commit("tree");
    world.git("tree", &["push", "-q", "origin", "main:feat/x/y", "main:feat/x/z/a"]);
    world.sees("bare", Some("feat/x/y"), &next);
    world.sees("bare", Some("feat/x/z/a"), &next);
}

#[test]
fn switching_head_wakes() {
    let world = World::new();
    world.git("bare", &["branch", "other"]);
    world.quiet();
    world.git("bare", &["symbolic-ref", "HEAD", "refs/heads/other"]);
    let branch = || {
        Repository::open(&world.path("bare"))
            .unwrap()
            .head(None)
            .unwrap()
            .unwrap()
            .branch
    };
    world.until("bare", || branch() == "other");
}

#[test]
fn updates_by_libgit2_wake() {
    let world = World::new();
    let commit = world.commit("tree");
    world.git("tree", &["push", "-q", "origin", "main:side"]);
    world.sees("bare", Some("side"), &commit);
    world.quiet();
    let bare = git2::Repository::open_bare(world.path("bare")).unwrap();
    bare.reference("refs/heads/main", git2::Oid::from_str(&commit).unwrap(), true, "moved")
        .unwrap();
    world.sees("bare", None, &commit);
}

#[test]
fn linked_work_trees_wake_for_their_own_head_and_for_shared_branches() {
    let world = World::new();
    world.git("tree", &["worktree", "add", "-q", "-b", "side", "../linked"]);
    world.watch("linked");
    world.quiet();
    let commit = world.commit("linked");
    world.sees("linked", None, &commit);
    world.quiet();
    world.git("linked", &["checkout", "-q", "-b", "third"]);
    let branch = || {
        Repository::open(&world.path("linked"))
            .unwrap()
            .head(None)
            .unwrap()
            .unwrap()
            .branch
    };
    world.until("linked", || branch() == "third");
}

#[test]
fn reading_wakes_nobody() {
    let world = World::new();
    world.quiet();
    for _ in 0..50 {
        world.head("bare", None);
        world.head("tree", None);
    }
    world.git("tree", &["status"]);
    assert!(world.wakes.recv_timeout(Duration::from_millis(300)).is_err());
}

#[test]
fn a_repository_that_vanishes_is_reported_and_watched_again_when_it_is_back() {
    let world = World::new();
    world.quiet();
    assert!(world.watcher.watches("bare"));
    std::fs::remove_dir_all(world.path("bare")).unwrap();
    world.until("bare", || !world.watcher.watches("bare"));
    assert!(world.watcher.watches("tree"));
    world.git(".", &["clone", "-q", "--bare", "tree", "bare"]);
    world.watch("bare");
    assert!(world.watcher.watches("bare"));
    world.quiet();
    let commit = world.commit("tree");
    world.git("tree", &["push", "-q", "../bare", "main"]);
    world.sees("bare", None, &commit);
    world.quiet();
    std::fs::rename(world.path("bare"), world.path("moved")).unwrap();
    world.until("bare", || !world.watcher.watches("bare"));
}

#[test]
fn several_keys_share_a_repository_until_each_lets_go() {
    let world = World::new();
    let paths = Repository::open(&world.path("bare")).unwrap().paths();
    world.watcher.watch("second", &paths).unwrap();
    world.watcher.unwatch("bare");
    world.quiet();
    assert!(!world.watcher.watches("bare") && world.watcher.watches("second"));
    let commit = world.commit("tree");
    world.git("tree", &["push", "-q", "origin", "main"]);
    world.until("second", || world.head("bare", None).as_deref() == Some(&commit));
    world.watcher.unwatch("second");
    world.watcher.unwatch("nobody");
    world.quiet();
    world.git("bare", &["branch", "unseen"]);
    assert!(world.wakes.recv_timeout(Duration::from_millis(300)).is_err());
}

#[test]
fn a_folder_that_is_not_there_cannot_be_watched() {
    let world = World::new();
    let none = GitPaths {
        root: world.path("none"),
        git_dir: world.path("none"),
        common_dir: world.path("none"),
    };
    assert!(world.watcher.watch("none", &none).is_err());
    assert!(!world.watcher.watches("none"));
}

#[test]
fn the_limit_that_is_reached_is_named() {
    let error = explain(notify::Error::new(notify::ErrorKind::MaxFilesWatch), Path::new("/x"));
    assert!(
        error.to_string().contains("sysctl fs.inotify.max_user_watches="),
        "{error}"
    );
    let error = explain(
        notify::Error::io(std::io::Error::from_raw_os_error(24)),
        Path::new("/x"),
    );
    assert!(
        error.to_string().contains("sysctl fs.inotify.max_user_instances="),
        "{error}"
    );
}
