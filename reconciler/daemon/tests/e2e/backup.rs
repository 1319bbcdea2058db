//! Backups: taken beside a running daemon, put back after a loss, and refused where they would do harm.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::git::Fleet;
use crate::harness::{World, http_get, program, text};

/// Runs a command that must succeed, and returns what it printed as JSON.
fn json(world: &World, args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.extend(["-o", "json"]);
    let output = world.setpoint(&all);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs a command that must fail, and returns what it said.
fn refused(world: &World, args: &[&str]) -> String {
    let output = world.setpoint(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", text(&output.stdout));
    text(&output.stderr)
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_restore_brings_back_the_old_state_and_its_pods_and_never_an_older_revision() {
    let mut world = World::start_with(&["--init", "quickstart", "./fleet"]);
    let fleet = Fleet::at(world.folder().join("fleet"));
    let first = fleet.git(&["rev-parse", "HEAD"]);
    world.healthy_at("hello", &first);
    world.demo("kept", 2);
    world.kubectl(&[
        "create",
        "secret",
        "generic",
        "password",
        "--from-literal=word=nobody-sees-this",
    ]);
    let before = world.get(&["secret", "password"]).unwrap();
    let pods = world.ready_pods("app=kept", 2);
    let pids: Vec<i32> = pods.iter().map(|pod| world.pid_of(pod)).collect();

    let file = world.folder().join("backup");
    let path = file.to_str().unwrap();
    let made = json(&world, &["backup", path]);
    let names: Vec<&str> = made["contents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "store.db",
            "history.db",
            "instance.json",
            "service-account.key",
            "pki",
            "repositories"
        ]
    );
    assert_eq!(made["holdsKey"], false);
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(8).any(|window| window == b"nobody-s"));
    assert!(refused(&world, &["backup", path]).contains("--force"));

    // What happens after the backup is lost by the restore, and nothing else.
    let second = fleet.push(&[(
        "values/common.yaml",
        &fleet.read("values/common.yaml").replace("demo:v1", "demo:v2"),
    )]);
    world.healthy_at("hello", &second);
    world.kubectl(&["delete", "secret", "password"]);
    world.kubectl(&["create", "configmap", "later", "--from-literal=a=b"]);
    let later = world.get(&["configmap", "later"]).unwrap();
    let old = revision(&later);
    assert!(refused(&world, &["restore", "--force", path]).contains(&world.daemon_pid().to_string()));
    world.end_daemon(Signal::SIGKILL);
    assert!(refused(&world, &["restore", path]).contains("--force"));

    let restored = json(&world, &["restore", "--force", path]);
    let aside = std::path::PathBuf::from(restored["replaced"].as_str().unwrap());
    assert!(aside.join("store.db").exists() && aside.join("repositories").is_dir());
    world.up();
    let after = world.get(&["secret", "password"]).unwrap();
    assert_eq!(after["data"], before["data"]);
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert!(world.get(&["configmap", "later"]).is_none());
    let adopted = world.ready_pods("app=kept", 2);
    for (pod, pid) in pods.iter().zip(&pids) {
        let same = adopted.iter().find(|p| p["metadata"]["uid"] == pod["metadata"]["uid"]);
        assert_eq!(world.pid_of(same.expect("the pod is the same")), *pid);
    }
    http_get(&format!("http://{}/", world.cluster_ip("kept"))).unwrap();
    // The repository is as it was, and takes the commit again that came after the backup.
    world.healthy_at("hello", &first);
    fleet.git(&["push", "--quiet"]);
    world.healthy_at("hello", &second);

    // A client that has seen the time after the backup is told to list again; it is never shown an older number.
    let configmaps = "/api/v1/namespaces/default/configmaps";
    let list: Value = serde_json::from_str(&world.kubectl(&["get", "--raw", configmaps])).unwrap();
    assert!(revision(&list) > old, "{} after {old}", revision(&list));
    for query in [
        "resourceVersion={}&resourceVersionMatch=Exact",
        "watch=true&timeoutSeconds=5&resourceVersion={}",
    ] {
        let query = query.replace("{}", &old.to_string());
        let output = world.kubectl_output(&["get", "--raw", &format!("{configmaps}?{query}")]);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(said.contains("Expired") || said.contains("too old"), "{query}: {said}");
    }
    world.kubectl(&["create", "configmap", "new", "--from-literal=a=b"]);
    assert!(revision(&world.get(&["configmap", "new"]).unwrap()) > old);
}

#[test]
fn a_lost_machine_is_restored_from_the_backup_and_the_key() {
    let mut world = World::start();
    world.kubectl(&["create", "secret", "generic", "password", "--from-literal=word=hunter2"]);
    let (file, with_key) = (world.folder().join("backup"), world.folder().join("backup-with-key"));
    let (path, path_with_key) = (file.to_str().unwrap(), with_key.to_str().unwrap());
    // With the daemon, and without one.
    json(&world, &["backup", path]);
    world.end_daemon(Signal::SIGTERM);
    let made = json(&world, &["backup", "--with-key", path_with_key]);
    assert_eq!(made["holdsKey"], true);
    assert!(
        made["keyFile"].as_str().unwrap().ends_with("store.key"),
        "the key itself is not printed"
    );
    let kept_key = world.folder().join("copy-of-the-key");
    std::fs::copy(world.data_dir().join("store.key"), &kept_key).unwrap();
    let id = made["key"].as_str().unwrap().to_string();

    world.setpoint(&["down"]);
    std::fs::remove_dir_all(world.data_dir()).unwrap();
    let said = refused(&world, &["restore", path]);
    assert!(said.contains(&id) && said.contains("--key"), "{said}");
    assert!(refused(&world, &["restore", "--dry-run", path]).contains(&id));
    let seen = json(&world, &["restore", "--dry-run", path_with_key]);
    assert_eq!(seen["whole"], true);
    json(&world, &["restore", path, "--key", kept_key.to_str().unwrap()]);
    assert!(world.data_dir().join("store.key").exists());
    world.up();
    assert_eq!(
        world.get(&["secret", "password"]).unwrap()["data"]["word"],
        "aHVudGVyMg=="
    );
    world.end_daemon(Signal::SIGTERM);

    // The other one needs nothing but itself.
    world.setpoint(&["down"]);
    std::fs::remove_dir_all(world.data_dir()).unwrap();
    json(&world, &["restore", path_with_key]);
    world.up();
    assert_eq!(
        world.get(&["secret", "password"]).unwrap()["data"]["word"],
        "aHVudGVyMg=="
    );
}

#[test]
fn a_file_that_is_cut_or_no_backup_restores_nothing() {
    let mut world = World::start();
    let file = world.folder().join("backup");
    let path = file.to_str().unwrap();
    json(&world, &["backup", path]);
    world.end_daemon(Signal::SIGTERM);
    let whole = std::fs::read(&file).unwrap();
    let store = std::fs::read(world.data_dir().join("store.db")).unwrap();
    for length in [0, 10, 200, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file, &whole[..length]).unwrap();
        refused(&world, &["restore", "--force", path]);
    }
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    std::fs::write(&file, &changed).unwrap();
    let said = refused(&world, &["restore", "--force", path]);
    assert!(
        said.contains("nothing was restored") && said.contains("was changed"),
        "{said}"
    );
    assert_eq!(std::fs::read(world.data_dir().join("store.db")).unwrap(), store);
    let left: Vec<String> = std::fs::read_dir(world.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("restore") || name.contains("backup"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    world.up();
}

#[test]
fn a_full_disk_and_an_empty_folder_are_told_of() {
    let mut world = World::start();
    let full = world.folder().join("full");
    std::fs::create_dir(&full).unwrap();
    nix::mount::mount(
        Some("tmpfs"),
        &full,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some("size=4k"),
    )
    .unwrap();
    let output = world.setpoint(&["backup", full.join("backup").to_str().unwrap()]);
    let left = std::fs::read_dir(&full).unwrap().count();
    nix::mount::umount(&full).unwrap();
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(
        said.contains("No space left") && said.contains("cannot write the backup"),
        "{said}"
    );
    assert_eq!(left, 0);
    world.end_daemon(Signal::SIGTERM);
    let empty = tempfile::tempdir().unwrap();
    let output = program()
        .arg("backup")
        .arg(empty.path().join("file"))
        .arg("--data-dir")
        .arg(empty.path().join("data"))
        .output()
        .unwrap();
    assert!(
        text(&output.stderr).contains("nothing to back up"),
        "{}",
        text(&output.stderr)
    );
    assert!(!empty.path().join("data").exists());
}
