//! Measures starting containers and processes in them, and the memory of shims. Run as root: `cargo run --release --example start`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use setpoint_runtime::images::{Image, ImageStore};
use setpoint_runtime::spec::{ContainerSpec, ExecSpec, SandboxSpec};
use setpoint_runtime::{Runtime, RuntimeConfig, reexec_main};

/// How often each is measured.
const RUNS: usize = 40;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    reexec_main();
    tokio::runtime::Runtime::new()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("sp").tempdir()?;
    let instance = format!("b{:04x}", std::process::id() & 0xffff);
    let (data_dir, run_dir) = (folder.path().join("data"), folder.path().join("run"));
    #[allow(clippy::disallowed_methods, reason = "an example is the edge of its process")]
    let now: setpoint_runtime::Now = Arc::new(jiff::Timestamp::now);
    let images = Arc::new(ImageStore::open(&folder.path().join("images"))?);
    let config = RuntimeConfig {
        data_dir: data_dir.clone(),
        run_dir: run_dir.clone(),
        instance: instance.clone(),
        now,
    };
    let (runtime, _) = Runtime::open(config.clone(), images.clone(), None).await?;
    // The host's own root: there is no image on a fresh machine.
    let image = Image {
        id: format!("sha256:{}", "0".repeat(64)),
        layers: vec![PathBuf::from("/")],
        ..Image::default()
    };
    let sleeper = |attempt: usize| ContainerSpec {
        name: "app".to_owned(),
        attempt: attempt as u32,
        image: image.id.clone(),
        command: Some(vec!["sleep".to_owned(), "1000".to_owned()]),
        ..ContainerSpec::default()
    };

    let (mut sandboxes, mut starts, mut execs, mut kills) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for number in 0..10 {
        let begin = Instant::now();
        runtime.create_sandbox(sandbox(number)).await?;
        sandboxes.push(begin.elapsed());
        runtime
            .start_container_with(&format!("pod-{number}"), sleeper(0), &image)
            .await?;
    }
    for run in 1..=RUNS {
        let begin = Instant::now();
        let started = runtime.start_container_with("pod-0", sleeper(run), &image).await?;
        starts.push(begin.elapsed());

        let command = vec!["true".to_owned()];
        let begin = Instant::now();
        let session = runtime
            .exec(
                "pod-0",
                &started.id(),
                ExecSpec {
                    command,
                    ..ExecSpec::default()
                },
            )
            .await?;
        session.exit.await?;
        execs.push(begin.elapsed());

        let begin = Instant::now();
        runtime.stop_container("pod-0", &started.id(), Duration::ZERO).await?;
        kills.push(begin.elapsed());
        runtime.remove_container("pod-0", &started.id()).await?;
    }
    println!("{:<28}{:>9}{:>9}{:>9}", "milliseconds", "min", "p50", "p99");
    print("sandbox", sandboxes);
    print("container start", starts);
    print("exec until exit", execs);
    print("kill until exit", kills);
    for state in runtime.sandboxes() {
        println!("shim of {:<12} PSS {:>6} kB", state.spec.id, pss(state.pid)?);
    }
    drop(runtime);
    let begin = Instant::now();
    let (_, adopted) = Runtime::open(config, images, None).await?;
    println!(
        "{} sandboxes adopted in {:.1} ms",
        adopted.len(),
        millis(begin.elapsed())
    );
    Runtime::remove_all(&data_dir, &run_dir, &instance).await?;
    Ok(())
}

fn sandbox(number: u8) -> SandboxSpec {
    SandboxSpec {
        id: format!("pod-{number}"),
        hostname: "web".to_owned(),
        ip: Some([10, 42, 0, number + 2].into()),
        ..SandboxSpec::default()
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn print(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| millis(times[(times.len() - 1) * share / 100]);
    println!("{name:<28}{:>9.2}{:>9.2}{:>9.2}", at(0), at(50), at(99));
}

/// The memory of a process in kB, shared pages counted by their share.
fn pss(pid: i32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .ok_or("no Pss in smaps_rollup")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
