//! A daemon that dies in the middle: the next one reaches the same end.

use nix::sys::signal::Signal;

use super::{following, good, values};
use crate::harness::http_get;

#[test]
fn a_killed_daemon_goes_on_with_what_it_was_doing() {
    let (mut world, fleet) = following(&["web", "other"], "sync = { deadline = \"20s\" }");
    // In the middle of a roll-out that will be well.
    let second = fleet.commit(&[("web.yaml", &good("two"))]);
    world.until_app("web", "taken up", |app| app["wanted"] == second);
    world.end_daemon(Signal::SIGKILL);
    world.up();
    world.healthy_at("web", &second);
    // In the middle of one that will not.
    let third = fleet.commit(&[("web.yaml", &values("setpoint.dev/demo:crash", "three", "/healthz"))]);
    world.until_app("web", "under way", |app| app["wanted"] == third);
    world.end_daemon(Signal::SIGKILL);
    world.up();
    let failed = world.failed_at("web", &third);
    assert_eq!(failed["revision"], second, "{failed}");
    // While nobody is there.
    world.end_daemon(Signal::SIGKILL);
    let fourth = fleet.commit(&[("web.yaml", &good("four"))]);
    world.up();
    world.healthy_at("web", &fourth);
    assert!(
        http_get(&format!("http://{}/", world.cluster_ip("web")))
            .unwrap()
            .contains("MESSAGE=four")
    );
}
