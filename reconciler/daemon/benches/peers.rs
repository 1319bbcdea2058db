//! Pods beside the peers' containers: `crun`, `podman kube play`, `docker run` and `docker service create`, in one run.
//!
//! Prints tables: 1, 10 and 100 pods from create to running and to answering; a killed process until it runs again; the memory of
//! what supervises 50 pods; connections and bytes a second through one of 1, 100 and 5,000 services.
//!
//! One measure for all: each container's first action is a line in a folder of the host ("running"), and then it serves HTTP at its
//! own address ("ready": the first answer). Images are there already. What a peer's own statuses say, and when, is not asked.
//!
//! Run as root on a quiet machine: `bash .ci/bench --bench peers`. It installs the peers where they are missing and works in
//! network and mount namespaces of its own, so that nothing of theirs touches the host. `RUNS` sets the number of runs of the rows with one pod (20
//! unless given; a row of ten pods has a tenth of them), `PEERS` the peers by a comma-separated list, `COUNTS` the numbers of pods (`1,10,100`),
//! `SERVICES=0` leaves services out.

#![allow(
    clippy::disallowed_methods,
    reason = "what peers do can only be looked at again and again, under a deadline"
)]

#[path = "peers/crun.rs"]
mod crun;
#[path = "peers/docker.rs"]
mod docker;
#[path = "peers/image.rs"]
mod image;
#[allow(dead_code, reason = "benches share it, and each uses a part")]
#[path = "harness/instance.rs"]
mod instance;
#[path = "peers/marks.rs"]
mod marks;
#[path = "peers/peer.rs"]
mod peer;
#[path = "peers/podman.rs"]
mod podman;
#[path = "peers/private.rs"]
mod private;
#[path = "peers/rows.rs"]
mod rows;
#[path = "peers/services.rs"]
mod services;
#[path = "peers/setpoint.rs"]
mod setpoint;
#[path = "harness/table.rs"]
mod table;

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` starts benches too; without the argument that `cargo bench` gives there is nothing to do.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "this bench starts real containers: run it as root"
    );
    private::enter()?;
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        anyhow::bail!("a TLS provider was installed already");
    }
    rows::all()
}
