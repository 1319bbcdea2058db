//! The first minutes: `up --init quickstart ./fleet`, a change, a push.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;

use super::Fleet;
use crate::harness::{DEADLINE, World, http_get, program};

#[test]
fn init_makes_a_repository_and_a_clone_deploys_them_and_goes_on_with_them() {
    let mut world = World::start_with(&["--init", "quickstart", "./fleet"]);
    let fleet = Fleet::at(world.folder().join("fleet"));
    let first = fleet.git(&["rev-parse", "HEAD"]);
    for app in ["hello", "web"] {
        world.healthy_at(app, &first);
    }
    let bare = fleet.git(&["remote", "get-url", "origin"]);
    assert!(bare.starts_with(world.data_dir().to_str().unwrap()), "{bare}");
    // The clone can commit and push on a machine whose git knows nobody.
    let values = fleet.read("values/hello.yaml");
    let changed = values
        .lines()
        .filter(|line| !line.starts_with("replicas:"))
        .collect::<Vec<_>>()
        .join("\n");
    let commit = fleet.push(&[("values/hello.yaml", &format!("{changed}\nreplicas: 2\n"))]);
    world.healthy_at("hello", &commit);
    assert_eq!(
        world.get(&["deployment", "hello", "-n", "quickstart"]).unwrap()["spec"]["replicas"],
        2
    );
    world.end_daemon(nix::sys::signal::Signal::SIGTERM);
    world.up_with(&["--init", "quickstart", "./fleet"]);
    let commit = fleet.push(&[("values/hello.yaml", &format!("{changed}\nreplicas: 1\n"))]);
    world.healthy_at("hello", &commit);
}

#[test]
fn a_push_of_a_new_version_fails_no_request() {
    let world = World::start_with(&["--init", "quickstart", "./fleet"]);
    let fleet = Fleet::at(world.folder().join("fleet"));
    let first = fleet.git(&["rev-parse", "HEAD"]);
    world.healthy_at("hello", &first);
    world.healthy_at("web", &first);
    let service = world.get(&["service", "hello", "-n", "quickstart"]).unwrap();
    let address = format!("http://{}/", service["spec"]["clusterIP"].as_str().unwrap());
    let common = fleet.read("values/common.yaml").replace("demo:v1", "demo:v2");
    let (stop, stopped) = mpsc::channel::<()>();
    let asked = std::thread::spawn(move || {
        let mut answers = Vec::new();
        while matches!(stopped.try_recv(), Err(mpsc::TryRecvError::Empty)) {
            answers.push(http_get(&address));
        }
        answers
    });
    let commit = fleet.push(&[("values/common.yaml", &common)]);
    world.healthy_at("hello", &commit);
    drop(stop);
    let answers = asked.join().unwrap();
    let failed: Vec<&String> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(
        failed.is_empty(),
        "{} of {} requests failed: {failed:?}",
        failed.len(),
        answers.len()
    );
    assert!(answers.iter().flatten().any(|page| page.contains("v1")));
    assert!(answers.iter().flatten().any(|page| page.contains("v2")));
}

#[test]
fn a_person_sees_the_roll_out_the_addresses_and_what_happens() {
    let mut world = World::prepare();
    let mut child = program()
        .args(["up", "--api-port", "0", "--init", "quickstart", "./fleet", "--data-dir"])
        .arg(world.data_dir())
        .current_dir(world.folder())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    world.adopt(child);
    let mut seen = Vec::new();
    let mut until = |what: &str, wanted: &dyn Fn(&str) -> bool| {
        loop {
            match receive.recv_timeout(DEADLINE) {
                Ok(line) => {
                    seen.push(line.clone());
                    if wanted(&line) {
                        return line;
                    }
                }
                Err(error) => panic!("{what} was not shown ({error}): {seen:#?}"),
            }
        }
    };
    until("the app's health", &|line| {
        line.contains("hello") && line.contains("Healthy")
    });
    let address = until("the address", &|line| line.contains("curl http://"));
    let url = address.split("curl ").nth(1).unwrap();
    assert!(http_get(url).is_ok(), "{address}");
    until("what to try", &|line| line.contains("git push"));
    let fleet = Fleet::at(world.folder().join("fleet"));
    let common = fleet.read("values/common.yaml").replace("demo:v1", "demo:v2");
    let commit = fleet.push(&[("values/common.yaml", &common)]);
    until("the commit", &|line| line.contains(&commit[..7]));
    until("the end of the roll-out", &|line| {
        line.contains("hello") && line.contains("is healthy after")
    });
}
