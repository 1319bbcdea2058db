use std::process::Command;

use super::*;

fn me() -> Identity {
    Identity {
        name: "Setpoint".to_owned(),
        email: "setpoint@localhost".to_owned(),
    }
}

fn files() -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([
        ("setpoint.toml".to_owned(), b"# apps\n".to_vec()),
        ("charts/web/templates/a.yaml".to_owned(), b"a: 1\n".to_vec()),
    ])
}

fn git(folder: &Path, home: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_new_repository_has_one_commit_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/fleet.git");
    let commit = init_bare(&path, "main", &files(), "Start\n", &me(), 1_700_000_000).unwrap();
    let repository = Repository::open(&path).unwrap();
    let head = repository.head(None).unwrap().unwrap();
    assert_eq!(
        (head.branch.as_str(), &head.commit, head.time),
        ("main", &commit, 1_700_000_000)
    );
    assert_eq!(repository.files(&commit, "").unwrap(), files());
    assert_eq!(git(&path, folder.path(), &["fsck", "--strict", "--no-dangling"]), "");
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    let again = tempfile::tempdir().unwrap();
    assert_eq!(
        init_bare(again.path(), "main", &files(), "Start\n", &me(), 1_700_000_000).unwrap(),
        commit
    );
    assert!(matches!(
        init_bare(again.path(), "main", &files(), "Start\n", &me(), 0),
        Err(SourceError::Occupied { .. })
    ));
}

#[test]
fn a_repository_that_was_left_unfinished_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.git");
    std::fs::create_dir_all(folder.path().join(".fleet.git.partial/objects")).unwrap();
    init_bare(&path, "main", &files(), "Start", &me(), 0).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_committed_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.git");
    let outside = BTreeMap::from([("../x".to_owned(), Vec::new())]);
    let inside_git = BTreeMap::from([(".git/config".to_owned(), Vec::new())]);
    let nobody = Identity {
        name: " ".to_owned(),
        email: "a>b".to_owned(),
    };
    assert!(init_bare(&path, "main", &outside, "m", &me(), 0).is_err());
    assert!(init_bare(&path, "main", &inside_git, "m", &me(), 0).is_err());
    assert!(init_bare(&path, "ma in", &files(), "m", &me(), 0).is_err());
    assert!(init_bare(&path, "-x", &files(), "m", &me(), 0).is_err());
    assert!(init_bare(&path, "main", &files(), "m", &nobody, 0).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    init_bare(&path, "feat/x", &BTreeMap::new(), "nothing", &me(), 0).unwrap();
}

#[test]
fn a_clone_commits_and_pushes_without_any_configuration_of_git() {
    let folder = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let bare = folder.path().join("fleet.git");
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    init_bare(&bare, "trunk", &files(), "Start", &me(), 0).unwrap();
    for dest in [folder.path().join("a/fleet"), empty] {
        assert!(!is_clone_of(&dest, &bare).unwrap());
        clone_into(&bare, &dest, &me()).unwrap();
        assert!(is_clone_of(&dest, &bare).unwrap());
        assert!(!is_clone_of(&dest, folder.path()).unwrap());
        assert!(matches!(
            clone_into(&bare, &dest, &me()),
            Err(SourceError::Occupied { .. })
        ));
        assert_eq!(git(&dest, home.path(), &["status", "--porcelain"]), "");
        std::fs::write(dest.join("charts/web/templates/a.yaml"), format!("{dest:?}")).unwrap();
        git(&dest, home.path(), &["commit", "-q", "-am", "Change"]);
        git(&dest, home.path(), &["pull", "-q", "--rebase"]);
        git(&dest, home.path(), &["push", "-q"]);
        let pushed = Repository::open(&bare).unwrap().head(None).unwrap().unwrap();
        assert_eq!(pushed.commit, git(&dest, home.path(), &["rev-parse", "HEAD"]));
        assert_eq!(
            (pushed.author.as_str(), pushed.branch.as_str()),
            ("Setpoint <setpoint@localhost>", "trunk")
        );
    }
    assert_eq!(git(&bare, home.path(), &["fsck", "--strict", "--no-dangling"]), "");
}

#[test]
fn a_place_that_is_taken_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let bare = folder.path().join("fleet.git");
    init_bare(&bare, "main", &files(), "Start", &me(), 0).unwrap();
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "mine").unwrap();
    assert!(matches!(
        clone_into(&bare, &taken, &me()),
        Err(SourceError::Occupied { .. })
    ));
    assert!(matches!(
        init_bare(&taken, "main", &files(), "m", &me(), 0),
        Err(SourceError::Occupied { .. })
    ));
    assert_eq!(std::fs::read(&taken).unwrap(), b"mine");
    assert!(clone_into(&folder.path().join("none"), &folder.path().join("x"), &me()).is_err());
    assert!(!folder.path().join("x").exists());
}
