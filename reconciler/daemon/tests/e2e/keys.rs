//! Secrets at rest: sealed wherever they lie, and sealed anew when the key changes.

use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{World, alive, program, text, wait_for};

const WORD: &str = "nobody-reads-this-at-rest";

fn json(world: &World, args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.extend(["-o", "json"]);
    let output = world.setpoint(&all);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn create_secret(world: &World, name: &str) {
    world.kubectl(&[
        "create",
        "secret",
        "generic",
        name,
        &format!("--from-literal=word={WORD}"),
    ]);
}

/// The files of the databases that hold the word, plain or as the API encodes it.
fn leaks(world: &World) -> Vec<String> {
    let encoded = "bm9ib2R5LXJlYWRzLXRoaXMtYXQtcmVzd";
    std::fs::read_dir(world.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.display().to_string().contains(".db"))
        .filter(|path| {
            let bytes = std::fs::read(path).unwrap();
            [WORD, encoded]
                .iter()
                .any(|word| bytes.windows(word.len()).any(|window| window == word.as_bytes()))
        })
        .map(|path| path.display().to_string())
        .collect()
}

fn newest(world: &World) -> String {
    let keys = json(world, &["key", "list"]);
    let keys = keys["keys"].as_array().unwrap();
    assert!(keys.last().unwrap()["newest"].as_bool().unwrap());
    keys.last().unwrap()["key"].as_str().unwrap().to_string()
}

#[test]
fn a_rotation_seals_everything_anew_beside_the_daemon_and_without_one() {
    let mut world = World::start();
    let file = world.data_dir().join("store.key");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    create_secret(&world, "first");
    assert_eq!(leaks(&world), Vec::<String>::new());
    let pid = world.daemon_pid();
    let before = newest(&world);

    let rotated = json(&world, &["key", "rotate"]);
    assert_eq!(rotated["leftWithOlderKeys"], 0);
    assert_eq!(world.daemon_pid(), pid, "the daemon goes on");
    create_secret(&world, "second");
    let keys = json(&world, &["key", "list"]);
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    assert_eq!(keys["keys"][0]["key"], before);
    assert_eq!(keys["keys"][0]["store"], 0);
    assert!(keys["keys"][1]["store"].as_u64().unwrap() >= 2);
    assert_eq!(keys["keys"][1]["key"], rotated["key"]);

    world.end_daemon(Signal::SIGKILL);
    let again = json(&world, &["key", "rotate"]);
    assert_ne!(again["key"], rotated["key"]);
    world.up();
    for name in ["first", "second"] {
        let secret = world.get(&["secret", name]).unwrap();
        assert!(secret["data"]["word"].as_str().unwrap().starts_with("bm9ib2R5"));
    }
    assert_eq!(leaks(&world), Vec::<String>::new());
    let table = text(&world.setpoint(&["key", "list"]).stdout);
    assert!(
        table.contains("seals and opens") && table.contains(again["key"].as_str().unwrap()),
        "{table}"
    );
}

#[test]
fn a_lost_key_file_keeps_the_daemon_from_starting_and_is_not_made_anew() {
    let mut world = World::start();
    create_secret(&world, "first");
    let id = newest(&world);
    world.end_daemon(Signal::SIGTERM);
    let (file, away) = (world.data_dir().join("store.key"), world.folder().join("away"));
    std::fs::rename(&file, &away).unwrap();
    for command in [
        &["up", "--api-port", "0"][..],
        &["key", "rotate"],
        &["backup", "/dev/null/x"],
    ] {
        let output = world.setpoint(command);
        assert!(!output.status.success());
        let said = text(&output.stderr);
        assert!(
            said.contains("store.key is missing") || command[0] == "backup",
            "{said}"
        );
        assert!(said.contains(&id) || command[0] == "backup", "{said}");
    }
    assert!(!file.exists());
    std::fs::rename(&away, &file).unwrap();
    world.up();
    world.get(&["secret", "first"]).unwrap();
}

#[test]
fn the_doctor_finds_what_is_wrong_and_says_what_to_do() {
    let mut world = World::start();
    create_secret(&world, "first");
    let healthy = json(&world, &["doctor"]);
    assert_eq!(healthy["failed"], 0, "{healthy:#}");
    let row = |report: &Value, name: &str| -> Value {
        let rows = report["checks"].as_array().unwrap();
        rows.iter()
            .find(|row| row["name"] == name)
            .unwrap_or_else(|| panic!("no {name}: {report:#}"))
            .clone()
    };
    for name in [
        "store.db",
        "history.db",
        "keys",
        "certificates",
        "versions",
        "data directory",
        "machine",
    ] {
        assert_eq!(row(&healthy, name)["status"], "ok", "{name}: {healthy:#}");
    }
    let pid = world.daemon_pid().to_string();
    assert!(
        row(&healthy, "versions")["findings"][0]["what"]
            .as_str()
            .unwrap()
            .contains(&pid)
    );
    assert!(
        row(&healthy, "keys")["findings"][0]["what"]
            .as_str()
            .unwrap()
            .contains("sealed values: ")
    );

    world.end_daemon(Signal::SIGTERM);
    let file = world.data_dir().join("store.key");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let port = world.announced["api"]
        .as_str()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .to_string();
    let taken = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    let output = world.setpoint(&["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    let table = text(&output.stdout);
    assert!(table.contains("chmod 600") && table.contains("--api-port"), "{table}");
    drop(taken);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();

    let away = world.folder().join("away");
    std::fs::rename(&file, &away).unwrap();
    let store = world.data_dir().join("store.db");
    let whole = std::fs::read(&store).unwrap();
    let mut damaged = whole.clone();
    let end = damaged.len();
    damaged[4096..end].fill(0x55);
    let output = world.setpoint(&["doctor", "-o", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(row(&report, "keys")["status"], "failed", "{report:#}");
    std::fs::rename(&away, &file).unwrap();
    std::fs::write(&store, &damaged).unwrap();
    let output = world.setpoint(&["doctor", "-o", "json"]);
    std::fs::write(&store, &whole).unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(row(&report, "store.db")["status"], "failed", "{report:#}");
    assert!(
        row(&report, "store.db")["findings"][0]["advice"]
            .as_str()
            .unwrap()
            .contains("restore")
    );
    assert_eq!(json(&world, &["doctor"])["failed"], 0);
}

#[test]
fn the_doctor_tells_of_what_a_lost_instance_has_left_on_the_host() {
    let mut lost = World::start();
    lost.demo("web", 1);
    let id = lost.id();
    lost.end_daemon(Signal::SIGKILL);
    let folder = tempfile::tempdir().unwrap();
    let output = program()
        .args(["doctor", "-o", "json", "--data-dir"])
        .arg(folder.path())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["checks"].as_array().unwrap();
    let left = rows.iter().find(|row| row["name"] == "left on the host").unwrap();
    let found = left["findings"].as_array().unwrap();
    let own = found
        .iter()
        .find(|finding| finding["what"].as_str().unwrap().contains(&format!("instance {id}")));
    let own = own.unwrap_or_else(|| panic!("{left:#}"));
    assert_eq!(own["status"], "warning");
    let what = own["what"].as_str().unwrap();
    assert!(
        what.contains("links and tables") && what.contains("cgroups with"),
        "{what}"
    );
    let advice = own["advice"].as_str().unwrap();
    assert!(advice.contains("setpoint down --data-dir"), "{advice}");
}

#[test]
fn the_end_of_its_terminal_ends_the_daemon_and_leaves_the_pods() {
    let world = World::prepare();
    let daemon = || {
        let pid: i32 = std::fs::read_to_string(world.data_dir().join("daemon.lock"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        alive(pid).then_some(pid)
    };
    let up = format!(
        "exec {} up --api-port 0 --data-dir {}",
        program().get_program().display(),
        world.data_dir().display()
    );
    let typescript = world.folder().join("typescript");
    let mut terminal = std::process::Command::new("script")
        .args(["--quiet", "--flush", "--command", &up])
        .arg(&typescript)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the daemon to be ready", || {
        std::fs::read_to_string(&typescript)
            .ok()?
            .contains("is ready")
            .then_some(())
    });
    let pid = daemon().unwrap();
    // With its terminal, the signal is about the keys.
    let rotated = json(&world, &["key", "rotate"]);
    assert_eq!(rotated["leftWithOlderKeys"], 0);
    assert_eq!(daemon(), Some(pid));
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    wait_for("the daemon to end", || daemon().is_none().then_some(()));
}
