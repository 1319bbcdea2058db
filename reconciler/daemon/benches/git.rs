//! How long it takes from git to what runs: a push, a live edit, a hundred apps; beside the same without git in the same run.
//!
//! Prints one table. Run as root on a quiet machine: `make bench` (or `cargo bench -p setpoint --bench git`). `RUNS` sets the
//! number of runs per row (30 unless given), `IDLE` the seconds of the idle measurement (60 unless given).
//!
//! Every moment is one at which a client's watch, which stands before the clock starts, has shown the state that is waited for.

#[path = "git/apps.rs"]
mod apps;
#[path = "git/drift.rs"]
mod drift;
#[path = "git/fleet.rs"]
mod fleet;
#[path = "harness/instance.rs"]
mod instance;
#[path = "git/objects.rs"]
mod objects;
#[path = "git/push.rs"]
mod push;
#[path = "git/socket.rs"]
mod socket;
#[path = "harness/start.rs"]
mod start;
#[path = "harness/table.rs"]
mod table;
#[path = "git/watch.rs"]
mod watch;
#[path = "harness/workload.rs"]
mod workload;

use std::time::Duration;

use crate::fleet::Fleet;
use crate::instance::Instance;

fn main() -> anyhow::Result<()> {
    start::main(all)
}

/// Measures every row and prints the table.
async fn all(runs: usize, idle: Duration) -> anyhow::Result<()> {
    println!("{runs} runs a row; readiness probes with periodSeconds: 1, the least that Kubernetes takes\n");
    table::head();
    {
        let (instance, fleet) = following(&[push::files(), drift::files(runs)].concat()).await?;
        let client = instance.client().await?;
        push::rows(&fleet, &client, runs).await?;
        drift::rows(&client, runs).await?;
    }
    let (mut instance, fleet) = following(&apps::files()?).await?;
    apps::rows(&mut instance, &fleet, runs, idle).await
}

/// The arguments with which every daemon starts: it leaves the usual port to others, and says where its socket is.
const UP: [&str; 4] = ["-o", "json", "--api-port", "0"];

/// Starts an instance that follows a bare repository with these files.
async fn following(files: &[(String, String)]) -> anyhow::Result<(Instance, Fleet)> {
    let mut instance = Instance::new()?;
    let fleet = Fleet::make(instance.folder(), files)?;
    let origin = fleet.origin();
    instance.up(&[&UP[..], &[origin.as_str()]].concat()).await?;
    // Until it is there, pods of it would be tried again with growing pauses.
    instance.demo_root().await?;
    Ok((instance, fleet))
}
