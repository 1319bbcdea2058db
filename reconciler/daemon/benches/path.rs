//! How long the path takes, from a create to a running container and back, beside the floor in the same run.
//!
//! Prints one table. Run as root on a quiet machine: `make bench` (or `cargo bench -p setpoint`). `RUNS` sets the number of
//! runs per row (30 unless given), `IDLE` the seconds of the idle measurement (60 unless given).

#[path = "path/floor.rs"]
mod floor;
#[path = "harness/instance.rs"]
mod instance;
#[path = "path/rows.rs"]
mod rows;
#[path = "harness/start.rs"]
mod start;
#[path = "harness/table.rs"]
mod table;
#[path = "harness/workload.rs"]
mod workload;

fn main() -> anyhow::Result<()> {
    if floor::main_when_asked()? {
        return Ok(());
    }
    start::main(rows::all)
}
