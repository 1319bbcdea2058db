//! Namespaces in which peers can do to networks and mounts what they like.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// An address that is not of the loopback's: a swarm wants one to advertise.
pub const ADDRESS: &str = "192.0.2.1";

/// Moves this process, which has one thread, into network and mount namespaces of its own.
pub fn enter() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("cannot make namespaces")?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .context("cannot make mounts private")?;
    // On a hybrid host crun 1.8 refuses controllers that sit beside the others' hierarchy; without that mount it takes the first version.
    let unified = Path::new("/sys/fs/cgroup/unified");
    match umount2(unified, MntFlags::MNT_DETACH) {
        // Where it is no mount there is nothing to take away.
        Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
        Err(error) => return Err(error).context("cannot hide the second version of cgroups"),
    }
    let address = format!("{ADDRESS}/24");
    for arguments in [
        &["link", "set", "lo", "up"][..],
        &["link", "add", "up0", "type", "veth", "peer", "name", "up1"],
        &["address", "add", &address, "dev", "up0"],
        &["link", "set", "up0", "up"],
        &["link", "set", "up1", "up"],
        &["route", "add", "default", "via", "192.0.2.2"],
    ] {
        run("ip", arguments)?;
    }
    Ok(())
}

/// Runs a program to its end; what it says is told when it fails, and returned else.
pub fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}; `bash .ci/bench --bench peers` installs it"))?;
    anyhow::ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
