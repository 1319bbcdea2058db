//! Where a repository can be: pushed to, on disk, at a distance.

use super::{Fleet, WEB, following, good, toml};
use crate::harness::{World, text};

#[test]
fn each_commit_of_a_repository_on_disk_counts_and_so_does_a_branch_that_is_named() {
    let (world, fleet) = following(&["web"], "");
    let commit = fleet.commit(&[("web.yaml", &good("two"))]);
    world.healthy_at("web", &commit);
    // Another branch is nobody's business.
    fleet.git(&["checkout", "--quiet", "-b", "feature/x"]);
    let before = fleet.commit(&[("web.yaml", &good("three"))]);
    // HEAD is what is followed, and a checkout moves it.
    world.healthy_at("web", &before);
}

#[test]
fn a_remote_is_fetched_and_a_sync_fetches_at_once() {
    let mut world = World::prepare();
    let fleet = Fleet::init(
        world.folder().join("elsewhere"),
        &[
            ("setpoint.toml", &toml(&["web"], "")),
            ("web/web.yaml.hbs", WEB),
            ("web.yaml", &good("one")),
        ],
    );
    let url = format!("file://{}", fleet.path().display());
    world.up_with(&[&url, "--name", "far", "--branch", "main"]);
    let first = fleet.git(&["rev-parse", "HEAD"]);
    world.healthy_at("web", &first);
    let second = fleet.commit(&[("web.yaml", &good("two"))]);
    let output = world.setpoint(&["sync", "web"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(world.app("web").unwrap()["revision"], second);
}

#[test]
fn what_is_no_repository_is_said_before_anything_starts() {
    let world = World::prepare();
    let output = crate::harness::program()
        .args(["up", "--data-dir"])
        .arg(world.data_dir())
        .arg(world.folder().join("nowhere"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("nowhere"), "{}", text(&output.stderr));
    let output = crate::harness::program()
        .args(["up", "--init", "nothing", "./x", "--data-dir"])
        .arg(world.data_dir())
        .output()
        .unwrap();
    assert!(text(&output.stderr).contains("quickstart"), "{}", text(&output.stderr));
}
