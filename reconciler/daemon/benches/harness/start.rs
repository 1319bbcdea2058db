//! How a bench starts: what it is given, what it needs.

use std::time::Duration;

use anyhow::bail;

/// Runs the rows with the number of runs and the time at rest that the environment names.
pub fn main<F>(rows: impl FnOnce(usize, Duration) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
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
    anyhow::ensure!(runs > 0, "RUNS is at least 1");
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("a TLS provider was installed already");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(rows(usize::try_from(runs)?, Duration::from_secs(idle)))
}
