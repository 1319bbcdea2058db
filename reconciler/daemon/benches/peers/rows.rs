//! The tables.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::crun::Crun;
use crate::docker::{Daemon, Run, Service};
use crate::instance::pss_kb;
use crate::marks::{DEADLINE, Marks, servers, wait_answers};
use crate::peer::Peer;
use crate::podman::Podman;
use crate::setpoint::{Setpoint, World};
use crate::table::{Times, head, row};
use crate::{image, services};

/// How many pods the memory of supervisors is measured with.
const MANY: usize = 50;

/// Measures every peer, one after another, and prints the tables.
pub fn all() -> anyhow::Result<()> {
    let runs: usize = std::env::var("RUNS").map_or(Ok(20), |text| text.parse())?;
    anyhow::ensure!(runs > 0, "RUNS is at least 1");
    let wanted = std::env::var("PEERS").unwrap_or_else(|_| "crun,setpoint,kubectl,podman,docker,swarm".to_owned());
    let wants = |name: &str| wanted.split(',').any(|peer| peer == name);
    let folder = tempfile::Builder::new().prefix("setpoint-peers-").tempdir()?;
    image::write(folder.path())?;
    let marks = Marks::new(folder.path())?;
    println!(
        "a row of 1 pod is of {runs} runs, of 10 pods of {}, of 100 of one",
        share(runs, 10)
    );
    if wants("crun") {
        measure(&mut Crun::new(folder.path(), marks.folder())?, &marks, runs)?;
    }
    if wants("setpoint") || wants("kubectl") {
        let world = World::start(folder.path())?;
        if wants("setpoint") {
            measure(&mut Setpoint::new(world.clone(), marks.folder(), None), &marks, runs)?;
        }
        if wants("kubectl") {
            let kubectl =
                std::env::var_os("SETPOINT_TEST_KUBECTL").map_or_else(|| PathBuf::from("kubectl"), PathBuf::from);
            measure(
                &mut Setpoint::new(world.clone(), marks.folder(), Some(kubectl)),
                &marks,
                runs,
            )?;
        }
        if std::env::var("SERVICES").as_deref() != Ok("0") {
            services::measure(&world, &mut Setpoint::new(world.clone(), marks.folder(), None), &marks)?;
        }
    }
    if wants("podman") {
        measure(&mut Podman::new(folder.path(), marks.folder())?, &marks, runs)?;
    }
    if wants("docker") || wants("swarm") {
        let daemon = Daemon::start(folder.path())?;
        if wants("docker") {
            measure(&mut Run::new(daemon.clone(), marks.folder()), &marks, runs)?;
        }
        if wants("swarm") {
            for delay in [false, true] {
                measure(&mut Service::new(daemon.clone(), marks.folder(), delay)?, &marks, runs)?;
            }
        }
    }
    Ok(())
}

fn share(runs: usize, count: usize) -> usize {
    (runs / count).max(1)
}

/// Measures one peer. What it started is removed whatever happens.
fn measure(peer: &mut dyn Peer, marks: &Marks, runs: usize) -> anyhow::Result<()> {
    println!("\n{}", peer.name());
    head();
    let measured = rows(peer, marks, runs);
    let removed = peer.remove();
    measured.with_context(|| format!("cannot measure {}", peer.name()))?;
    removed
}

fn rows(peer: &mut dyn Peer, marks: &Marks, runs: usize) -> anyhow::Result<()> {
    let counts = std::env::var("COUNTS").unwrap_or_else(|_| "1,10,100".to_owned());
    for count in counts.split(',') {
        let count: usize = count.parse().context("COUNTS is numbers with commas between")?;
        let (mut running, mut ready) = (Times::new(), Times::new());
        for _ in 0..share(runs, count) {
            marks.clear()?;
            let start = Instant::now();
            peer.start(count)?;
            let addresses = marks.wait(count)?;
            running.push(start.elapsed());
            if peer.has_network() {
                let addresses: Option<Vec<_>> = addresses.into_iter().collect();
                wait_answers(&addresses.context("a container does not know its address")?)?;
                ready.push(start.elapsed());
            }
            peer.remove()?;
        }
        row(&format!("{count} created -> running"), running);
        if peer.has_network() {
            row(&format!("{count} created -> all answer"), ready);
        }
    }
    if peer.restarts() {
        row("killed -> running again", killed(peer, marks, runs)?);
    }
    marks.clear()?;
    peer.start(MANY)?;
    marks.wait(MANY)?;
    let (supervisors, daemons) = peer.supervisors()?;
    let sum = |pids: &[i32]| -> anyhow::Result<f64> {
        let sizes: anyhow::Result<Vec<u64>> = pids.iter().map(|pid| pss_kb(u64::try_from(*pid)?)).collect();
        Ok(sizes?.iter().sum::<u64>() as f64 / 1024.0)
    };
    let each = sum(&supervisors)? / MANY as f64;
    println!(
        "memory that supervises {MANY}: {each:.2} MB PSS each, daemons {:.1} MB",
        sum(&daemons)?
    );
    peer.remove()
}

/// Kills the program of one container, each time once it serves.
fn killed(peer: &mut dyn Peer, marks: &Marks, runs: usize) -> anyhow::Result<Times> {
    let mut times = Times::new();
    // A new container each time: those who wait longer with each restart are measured at their best.
    for _ in 0..share(runs, 2) {
        marks.clear()?;
        peer.start(1)?;
        let addresses: Option<Vec<_>> = marks.wait(1)?.into_iter().collect();
        wait_answers(&addresses.context("the container does not know its address")?)?;
        // Docker counts as a restart only what has run for ten seconds or has not failed before; the first kill is such.
        let start = Instant::now();
        let pid = loop {
            if let [pid] = servers()?[..] {
                break pid;
            }
            anyhow::ensure!(start.elapsed() < DEADLINE, "there is not one program of a container");
            std::thread::sleep(Duration::from_millis(1));
        };
        marks.clear()?;
        let start = Instant::now();
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        marks.wait(1)?;
        times.push(start.elapsed());
        peer.remove()?;
    }
    Ok(times)
}
