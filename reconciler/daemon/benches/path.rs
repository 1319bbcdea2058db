//! How long the path takes, from a create to a running container and back, beside the floor in the same run.
//!
//! Prints one table. Run as root on a quiet machine: `make bench` (or `cargo bench -p setpoint`). `RUNS` sets the number of
//! runs per row (30 unless given), `IDLE` the seconds of the idle measurement (60 unless given).

#[path = "path/floor.rs"]
mod floor;
#[path = "path/instance.rs"]
mod instance;
#[path = "path/rows.rs"]
mod rows;

use std::time::Duration;

fn main() -> anyhow::Result<()> {
    if floor::main_when_asked()? {
        return Ok(());
    }
    // `cargo test --benches` starts benches too; without the argument that `cargo bench` gives there is nothing to do.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "this bench starts real containers: run it as root"
    );
    let number = |name: &str, default: u64| std::env::var(name).map_or(Ok(default), |text| text.parse());
    let (runs, idle) = (number("RUNS", 30)?, number("IDLE", 60)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(rows::all(usize::try_from(runs)?, Duration::from_secs(idle)))
}
