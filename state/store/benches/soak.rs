//! Thirty days of a cluster in as long as the machine needs: `cargo bench -p setpoint-store --bench soak [-- DAYS] [--scaled]`.
//!
//! 20 changes a second over 2,000 pods, with the limits that the store has by itself; with `--scaled`, with limits as much smaller as
//! the days are fewer than thirty. Fails when the database exceeds its limit by more than a tenth, its write-ahead log 64 MiB, or when
//! writes become slower: the p99 of the last third more than twice that of the first.

#[path = "soak/cluster.rs"]
mod cluster;

use std::time::{Duration, Instant};

use cluster::{Failure, Sample, Scale};

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

fn row(cells: [&str; 9]) {
    println!("| {} |", cells.map(|cell| format!("{cell:>10}")).join(" | "));
}

fn tell(sample: &Sample) {
    row([
        &format!("{:.2}", sample.day),
        &mebibytes(sample.bytes),
        &mebibytes(sample.bytes_max),
        &mebibytes(sample.wal_max),
        &sample.free_pages.to_string(),
        &format!("{:.1} h", sample.window as f64 / 3600.0),
        &milliseconds(sample.p50),
        &milliseconds(sample.p99),
        &milliseconds(sample.slowest),
    ]);
}

/// The middle of the p99 of some parts: one busy moment of the machine is not the store's.
fn middle(samples: &[Sample]) -> Duration {
    let mut times: Vec<Duration> = samples.iter().map(|sample| sample.p99).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let days = arguments
        .iter()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(30.0);
    let scale = if arguments.iter().any(|argument| argument == "--scaled") {
        Scale::scaled(days)
    } else {
        Scale::whole(days)
    };
    let dir = tempfile::tempdir()?;
    let hours = scale.keep_age.as_secs_f64() / 3600.0;
    println!(
        "{days} days, at most {} and {hours:.1} h of history\n",
        mebibytes(scale.keep_bytes)
    );
    row([
        "day", "database", "at most", "log ≤", "free", "window", "p50", "p99", "slowest",
    ]);
    row(["---:"; 9]);
    let started = Instant::now();
    let samples = cluster::run(dir.path(), scale, tell).await?;
    let took = started.elapsed().as_secs_f64();
    println!(
        "\n{:.0} changes a second, {took:.0} s",
        days * 86_400.0 * cluster::CHANGES as f64 / took
    );
    let mut faults = cluster::faults(&scale, &samples);
    let third = samples.len() / 3;
    let (first, last) = (middle(&samples[..third]), middle(&samples[samples.len() - third..]));
    if last > first * 2 {
        faults.push(format!(
            "p99 was {} and has become {}",
            milliseconds(first),
            milliseconds(last)
        ));
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(faults.join("\n").into())
}
