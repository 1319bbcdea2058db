use std::process::Command;

use super::*;
use crate::source::Class;

/// A folder with a work tree in it, driven by the real git.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        world.git(&["init", "-q", "-b", "main", "."]);
        world
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=A",
                "-c",
                "user.email=a@example.com",
                "-c",
                "protocol.file.allow=always",
            ])
            .args(arguments)
            .current_dir(self.path())
            .env("HOME", self.path())
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

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn open(&self) -> Repository {
        Repository::open(self.path()).unwrap()
    }
}

fn said<T>(result: Result<T, SourceError>) -> String {
    match result {
        Ok(_) => panic!("it worked"),
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(next) = cause {
                text = format!("{text}: {next}");
                cause = next.source();
            }
            text
        }
    }
}

#[test]
fn the_head_of_a_branch_is_read_with_its_commit() {
    let world = World::new();
    world.write("a", "1");
    let first = world.commit("First\n\nmore");
    world.git(&["branch", "feat/x"]);
    world.write("a", "2");
    let second = world.commit("Second \u{1b}[31m");
    let repository = world.open();
    let head = repository.head(None).unwrap().unwrap();
    assert_eq!((head.branch.as_str(), &head.commit), ("main", &second));
    assert_eq!(head.author, "A <a@example.com>");
    assert_eq!(head.subject, "Second  [31m");
    let feature = repository.head(Some("feat/x")).unwrap().unwrap();
    assert_eq!(
        (feature.branch.as_str(), &feature.commit, feature.subject.as_str()),
        ("feat/x", &first, "First")
    );
    assert_eq!(
        repository.head(Some("refs/heads/feat/x")).unwrap().unwrap().commit,
        first
    );
    assert_eq!(repository.branches().unwrap(), ["feat/x", "main"]);
    assert!(repository.is_ancestor(&first, &second).unwrap());
    assert!(!repository.is_ancestor(&second, &first).unwrap());
    assert!(repository.is_ancestor(&first, &first).unwrap());
    let log = repository.log(&second, 10).unwrap();
    assert_eq!(
        log.iter().map(|commit| &commit.id).collect::<Vec<_>>(),
        [&second, &first]
    );
    assert_eq!(repository.log(&second, 1).unwrap().len(), 1);
    assert_eq!(repository.commit(&first).unwrap().unwrap().subject, "First");
    assert_eq!(repository.commit(&"0".repeat(40)).unwrap(), None);
}

#[test]
fn a_repository_without_commits_has_no_head() {
    let world = World::new();
    assert_eq!(world.open().head(None).unwrap(), None);
    assert_eq!(world.open().head(Some("main")).unwrap(), None);
}

#[test]
fn a_branch_that_is_not_there_is_told_with_those_that_are() {
    let world = World::new();
    world.commit("x");
    world.git(&["branch", "other"]);
    let error = world.open().head(Some("prod")).unwrap_err();
    assert!(
        error.to_string().contains("has no branch prod; it has main, other"),
        "{error}"
    );
    assert_eq!(error.class(), Class::Terminal);
    world.git(&["symbolic-ref", "HEAD", "refs/heads/gone"]);
    assert!(said(world.open().head(None)).contains("has no branch gone; it has main"));
    for branch in ["", "a..b", "..", "a b", "\0", "a/"] {
        assert!(world.open().head(Some(branch)).is_err(), "{branch:?}");
    }
}

#[test]
fn a_detached_head_is_followed_where_it_is() {
    let world = World::new();
    let commit = world.commit("x");
    world.git(&["checkout", "-q", "--detach"]);
    let head = world.open().head(None).unwrap().unwrap();
    assert_eq!((head.branch.as_str(), head.commit), ("HEAD", commit));
}

#[test]
fn bare_repositories_git_folders_and_linked_work_trees_open() {
    let world = World::new();
    let commit = world.commit("x");
    world.git(&["clone", "-q", "--bare", ".", "bare.git"]);
    world.git(&["worktree", "add", "-q", "-b", "side", "linked"]);
    for path in ["bare.git", ".git", "linked", "."] {
        let repository = Repository::open(&world.path().join(path)).unwrap();
        assert_eq!(repository.head(Some("main")).unwrap().unwrap().commit, commit, "{path}");
    }
    let linked = Repository::open(&world.path().join("linked")).unwrap();
    assert_eq!(linked.head(None).unwrap().unwrap().branch, "side");
    let paths = linked.paths();
    assert!(paths.git_dir.ends_with(".git/worktrees/linked"), "{paths:?}");
    assert!(paths.common_dir.ends_with(".git"), "{paths:?}");
    assert!(paths.git_dir.join("HEAD").is_file() && paths.common_dir.join("refs").is_dir());
}

#[test]
fn what_is_no_repository_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    assert!(said(Repository::open(&folder.path().join("none"))).contains("does not exist"));
    assert!(said(Repository::open(folder.path())).contains("is no git repository"));
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert!(said(Repository::open(&folder.path().join("file"))).contains("is no git repository"));
    std::fs::write(folder.path().join(".git"), "rubbish").unwrap();
    assert!(said(Repository::open(folder.path())).contains("is no git repository"));
    std::fs::write(folder.path().join(".git"), "gitdir: /nowhere/at/all").unwrap();
    assert!(Repository::open(folder.path()).is_err());
}

#[test]
fn formats_that_cannot_be_read_come_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, advice) in [
        (["--ref-format=reftable", "r"], "git refs migrate"),
        (["--object-format=sha256", "s"], "--object-format=sha1"),
    ] {
        let status = Command::new("git")
            .args(["init", "-q"])
            .args(arguments)
            .current_dir(folder.path())
            .status()
            .unwrap();
        if !status.success() {
            eprintln!("SKIPPED: this git does not know {}", arguments[0]);
            continue;
        }
        let error = Repository::open(&folder.path().join(arguments[1]))
            .map(|_| ())
            .unwrap_err();
        assert!(error.to_string().contains(advice), "{error}");
        assert_eq!(error.class(), Class::Terminal);
    }
}

#[test]
fn a_repository_of_somebody_else_opens() {
    let world = World::new();
    let commit = world.commit("x");
    let status = Command::new("chown")
        .args(["-R", "12345:12345"])
        .arg(world.path())
        .status()
        .unwrap();
    if !status.success() {
        eprintln!("SKIPPED: only root can give a repository to somebody else");
        return;
    }
    assert_eq!(world.open().head(None).unwrap().unwrap().commit, commit);
}

#[test]
fn files_come_relative_to_their_folder() {
    let world = World::new();
    world.write("setpoint.toml", "x");
    world.write("charts/web/Chart.yaml", "name: web");
    world.write("charts/web/templates/a.yaml", [0, 159, 146, 150]);
    world.write("charts/other/b", "");
    let commit = world.commit("x");
    let repository = world.open();
    let files = repository.files(&commit, "charts/web").unwrap();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["Chart.yaml", "templates/a.yaml"]);
    assert_eq!(files["templates/a.yaml"], [0, 159, 146, 150]);
    assert_eq!(repository.files(&commit, "").unwrap().len(), 4);
    assert_eq!(repository.files(&commit, "./charts/").unwrap().len(), 3);
    assert_eq!(repository.file(&commit, "setpoint.toml").unwrap(), Some(b"x".to_vec()));
    assert_eq!(repository.file(&commit, "none").unwrap(), None);
    assert_eq!(repository.file(&commit, "setpoint.toml/x").unwrap(), None);
    assert!(said(repository.file(&commit, "charts")).contains("is a folder"));
    assert!(said(repository.files(&commit, "setpoint.toml")).contains("is a file"));
    assert!(said(repository.files(&commit, "chart")).contains("has no chart"));
    assert!(said(repository.files(&commit, "../x")).contains("may not leave"));
    assert!(said(repository.file(&commit, "/etc/passwd")).contains("is absolute"));
    assert!(said(repository.file(&"1".repeat(40), "x")).contains("has no commit"));
    assert!(said(repository.file("HEAD", "x")).contains("has no commit"));
}

#[test]
fn the_id_of_a_folder_changes_with_its_content_only() {
    let world = World::new();
    world.write("a/x", "1");
    world.write("b/x", "1");
    let first = world.commit("x");
    world.write("b/x", "2");
    let second = world.commit("y");
    let repository = world.open();
    assert_eq!(
        repository.tree_id(&first, "a").unwrap(),
        repository.tree_id(&second, "a").unwrap()
    );
    assert_eq!(
        repository.tree_id(&first, "a").unwrap(),
        repository.tree_id(&first, "b").unwrap()
    );
    assert_ne!(
        repository.tree_id(&first, "b").unwrap(),
        repository.tree_id(&second, "b").unwrap()
    );
    assert_ne!(
        repository.tree_id(&first, "").unwrap(),
        repository.tree_id(&second, "").unwrap()
    );
    assert_eq!(repository.tree_id(&first, "c").unwrap(), None);
}

#[test]
fn links_inside_the_repository_are_followed() {
    let world = World::new();
    world.write("shared/common.yaml", "shared");
    world.write("shared/inner/deep", "deep");
    world.link("web/values.yaml", "../shared/common.yaml");
    world.link("web/lib", "../shared");
    world.link("again", "web/lib/inner");
    let commit = world.commit("x");
    let repository = world.open();
    let files = repository.files(&commit, "web").unwrap();
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        ["lib/common.yaml", "lib/inner/deep", "values.yaml"]
    );
    assert_eq!(files["values.yaml"], b"shared");
    assert_eq!(repository.file(&commit, "again/deep").unwrap(), Some(b"deep".to_vec()));
    assert_eq!(
        repository.file(&commit, "web/lib/inner/deep").unwrap(),
        Some(b"deep".to_vec())
    );
}

#[test]
fn links_that_leave_dangle_or_turn_in_circles_are_errors_that_name_them() {
    for (path, target, problem) in [
        ("a/out", "/etc/passwd", "absolute path"),
        ("a/out", "../../etc/passwd", "leaves the repository"),
        ("a/gone", "nothing", "not in the repository"),
        ("a/self", "self", "circle"),
        ("a/up", "..", "folder that it is in"),
        ("a/here", ".", "folder that it is in"),
    ] {
        let world = World::new();
        world.write("a/x", "1");
        world.link(path, target);
        let commit = world.commit("x");
        let error = said(world.open().files(&commit, "a"));
        assert!(error.contains(problem) && error.starts_with('a'), "{target}: {error}");
    }
}

#[test]
fn links_that_double_are_bounded() {
    let world = World::new();
    world.write("d0/x", "1");
    for level in 1..30 {
        world.link(&format!("d{level}/a"), &format!("../d{}", level - 1));
        world.link(&format!("d{level}/b"), &format!("../d{}", level - 1));
    }
    let commit = world.commit("x");
    assert!(said(world.open().files(&commit, "d29")).contains("one too many"));
}

#[test]
fn submodules_are_named() {
    let world = World::new();
    world.write("a/x", "1");
    let commit = world.commit("x");
    world.git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{commit},a/sub"),
    ]);
    world.git(&["commit", "-q", "-m", "y"]);
    let commit = world.git(&["rev-parse", "HEAD"]);
    let error = said(world.open().files(&commit, "a"));
    assert!(error.contains("a/sub is a submodule"), "{error}");
    assert!(said(world.open().file(&commit, "a/sub/x")).contains("a/sub is a submodule"));
}

#[test]
fn sizes_are_bounded_before_anything_is_unpacked() {
    let world = World::new();
    let file = std::fs::File::create(world.path().join("big")).unwrap();
    file.set_len(MAX_TOTAL + 1).unwrap();
    let commit = world.commit("x");
    assert!(said(world.open().file(&commit, "big")).contains("may have 64 MB"));
    assert!(said(world.open().files(&commit, "")).contains("big has"));
}

#[test]
fn revisions_resolve_by_name_and_by_the_beginning_of_an_id() {
    let world = World::new();
    let commit = world.commit("x");
    world.git(&["tag", "-a", "v1", "-m", "one"]);
    let repository = world.open();
    for revision in ["HEAD", "main", "v1", &commit, &commit[..7], &commit[..4].to_uppercase()] {
        assert_eq!(
            repository.resolve(revision).unwrap().as_ref(),
            Some(&commit),
            "{revision}"
        );
    }
    for revision in [
        "",
        "abc",
        "nothing",
        "main~1",
        "HEAD@{1}",
        ":/x",
        "ffffffff",
        "..",
        &"a".repeat(41),
    ] {
        assert_eq!(repository.resolve(revision).unwrap(), None, "{revision}");
    }
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    let world = World::new();
    world.write("a", "some text");
    let commit = world.commit("x");
    let mut objects = Vec::new();
    for folder in std::fs::read_dir(world.path().join(".git/objects")).unwrap() {
        let folder = folder.unwrap().path();
        if folder.file_name().is_some_and(|name| name.len() == 2) {
            objects.extend(std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert_eq!(objects.len(), 3);
    for object in &objects {
        let good = std::fs::read(object).unwrap();
        std::fs::remove_file(object).unwrap();
        let flipped = good
            .iter()
            .enumerate()
            .map(|(at, byte)| if at == good.len() / 2 { byte ^ 0x55 } else { *byte })
            .collect();
        for bad in [
            Vec::new(),
            b"rubbish".to_vec(),
            good[..good.len() / 2].to_vec(),
            flipped,
        ] {
            std::fs::write(object, bad).unwrap();
            let repository = world.open();
            let read = repository.head(None).and_then(|_| repository.files(&commit, ""));
            assert!(read.is_err(), "{object:?}");
            drop((
                repository.log(&commit, 5),
                repository.resolve(&commit[..8]),
                repository.tree_id(&commit, "a"),
            ));
        }
        std::fs::remove_file(object).unwrap();
        assert!(world.open().files(&commit, "").is_err());
        std::fs::write(object, good).unwrap();
    }
    assert!(world.open().files(&commit, "").is_ok());
    for (file, text) in [
        (".git/refs/heads/main", "rubbish"),
        (".git/HEAD", "ref: "),
        (".git/HEAD", ""),
        (".git/config", "[[["),
    ] {
        world.write(file, text);
        assert!(
            Repository::open(world.path())
                .and_then(|repository| repository.head(None))
                .is_err(),
            "{file} {text:?}"
        );
    }
}

#[test]
fn damaged_packs_are_errors_and_never_a_panic() {
    let world = World::new();
    for round in 0..20 {
        world.write("a/file", format!("some text {round}\n").repeat(50));
        world.write(&format!("b/{round}"), format!("{round}"));
        world.commit("x");
    }
    world.git(&["gc", "-q"]);
    let commit = world.git(&["rev-parse", "HEAD"]);
    let packs: Vec<_> = std::fs::read_dir(world.path().join(".git/objects/pack"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let mut failed = 0;
    for file in packs
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "pack" || end == "idx"))
    {
        let good = std::fs::read(file).unwrap();
        std::fs::remove_file(file).unwrap();
        for step in 0..40 {
            let at = good.len() * step / 40;
            let mut flipped = good.clone();
            flipped[at] ^= 0x15;
            let mut zeroed = good.clone();
            zeroed[at..].fill(0);
            for bad in [&flipped[..], &zeroed, &good[..at]] {
                std::fs::write(file, bad).unwrap();
                let read = Repository::open(world.path()).and_then(|repository| {
                    repository.log(&commit, 50)?;
                    repository.is_ancestor(&"1".repeat(40), &commit)?;
                    repository.resolve(&commit[..6])?;
                    repository.files(&commit, "")
                });
                failed += usize::from(read.is_err());
                std::fs::remove_file(file).unwrap();
            }
        }
        std::fs::write(file, good).unwrap();
    }
    assert!(failed > 100, "{failed}");
    assert_eq!(world.open().files(&commit, "").unwrap().len(), 21);
}
