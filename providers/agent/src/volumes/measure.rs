//! What a pod has written to the node's disk, and whether that is more than it may. A plain directory has no limit of its own, so that it is
//! measured now and then; a pod that is over its limits is evicted, in the kubelet's words.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use rustix::fs::{Dir, FileType, Mode, OFlags};

use super::Places;
use crate::resources;

/// Deeper directories are not counted.
const DEPTH: usize = 512;

/// A limit as it is written, and in bytes.
pub type Limit = (String, u64);

/// What is measured of a pod, and what it may be at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// emptyDirs: name, directory, limit as it is written and in bytes; without one the volume counts for the pod only.
    pub volumes: Vec<(String, PathBuf, Option<Limit>)>,
    /// Containers: name, and their limit as it is written and in bytes.
    pub containers: Vec<(String, Option<Limit>)>,
    /// What all together may be, as it is written and in bytes.
    pub pod: Option<Limit>,
}

/// Says what has to be measured of a pod; `None` when nothing of it is limited.
pub fn plan(places: &Places, pod: &Pod) -> Option<Plan> {
    let spec = pod.spec.as_ref()?;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let mut plan = Plan::default();
    for volume in spec.volumes.iter().flatten() {
        let Some(dir) = &volume.empty_dir else { continue };
        // What lies in memory is limited by its file system.
        if dir.medium.as_deref() == Some("Memory") {
            continue;
        }
        let limit = dir.size_limit.as_ref().and_then(|limit| {
            let bytes = resources::bytes(limit).filter(|bytes| *bytes > 0)?;
            Some((limit.0.clone(), bytes))
        });
        plan.volumes
            .push((volume.name.clone(), places.volume(uid, volume), limit));
    }
    let limit = |container: &Container| {
        let limit = container
            .resources
            .as_ref()?
            .limits
            .as_ref()?
            .get("ephemeral-storage")?;
        Some((limit.0.clone(), resources::bytes(limit)?))
    };
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        plan.containers.push((container.name.clone(), limit(container)));
    }
    // The pod's own limit is the sum of its containers', as far as they have one.
    let all: Vec<u64> = spec
        .containers
        .iter()
        .filter_map(|container| Some(limit(container)?.1))
        .collect();
    if !all.is_empty() {
        let sum: u64 = all.iter().copied().fold(0, u64::saturating_add);
        plan.pod = Some((binary(sum), sum));
    }
    let limited = plan.pod.is_some()
        || plan.volumes.iter().any(|(_, _, limit)| limit.is_some())
        || plan.containers.iter().any(|(_, limit)| limit.is_some());
    limited.then_some(plan)
}

/// Writes an amount with the largest binary suffix that it is a multiple of.
fn binary(bytes: u64) -> String {
    let suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut amount = bytes;
    let mut at = 0;
    while amount > 0 && amount.is_multiple_of(1024) && at + 1 < suffixes.len() {
        amount /= 1024;
        at += 1;
    }
    format!("{amount}{}", suffixes[at])
}

/// Measures a pod; returns why it has to go, if it does. `written` returns where a container's log and its own files are. Blocking.
pub fn check(plan: &Plan, written: impl Fn(&str) -> Vec<PathBuf>) -> io::Result<Option<String>> {
    let mut total: u64 = 0;
    for (name, path, limit) in &plan.volumes {
        let used = size(path)?;
        if let Some((text, bytes)) = limit
            && used > *bytes
        {
            return Ok(Some(format!(
                "Usage of EmptyDir volume \"{name}\" exceeds the limit \"{text}\". "
            )));
        }
        total = total.saturating_add(used);
    }
    let mut over = None;
    for (name, limit) in &plan.containers {
        let mut used: u64 = 0;
        for path in written(name) {
            used = used.saturating_add(size(&path)?);
        }
        if let Some((text, bytes)) = limit
            && used > *bytes
        {
            over.get_or_insert_with(|| {
                format!("Container {name} exceeded its local ephemeral storage limit \"{text}\". ")
            });
        }
        total = total.saturating_add(used);
    }
    if let Some((text, bytes)) = &plan.pod
        && total > *bytes
    {
        return Ok(Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {text}. "
        )));
    }
    Ok(over)
}

/// Returns the bytes that a file or tree occupies on its disk; a file with several names counts once, and what vanishes meanwhile not at all.
pub(crate) fn size(path: &Path) -> io::Result<u64> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(entry) => entry_size(&entry, &mut HashSet::new(), 0),
        Err(rustix::io::Errno::NOENT) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn entry_size(entry: &OwnedFd, seen: &mut HashSet<(u64, u64)>, depth: usize) -> io::Result<u64> {
    let found = rustix::fs::fstat(entry)?;
    let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    if !is_directory && found.st_nlink > 1 && !seen.insert((found.st_dev, found.st_ino)) {
        return Ok(0);
    }
    let mut sum = u64::try_from(found.st_blocks).unwrap_or(0).saturating_mul(512);
    if !is_directory || depth >= DEPTH {
        return Ok(sum);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(entry, ".", flags, Mode::empty())?;
    for child in Dir::read_from(&directory)? {
        let child = child?;
        if matches!(child.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(directory.as_fd(), child.file_name(), flags, Mode::empty()) {
            Ok(child) => sum = sum.saturating_add(entry_size(&child, seen, depth + 1)?),
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_writes_too_much_is_told_what() {
        let dir = tempfile::tempdir().expect("a directory");
        let places = Places::new(dir.path());
        let pod = |limits: serde_json::Value, size: serde_json::Value| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p", "uid": "u"},
                "spec": {
                    "containers": [{"name": "a", "resources": {"limits": limits}}, {"name": "b"}],
                    "volumes": [{"name": "v", "emptyDir": {"sizeLimit": size}}],
                },
            }))
            .expect("a pod")
        };
        assert_eq!(plan(&places, &pod(json!({}), json!(null))), None, "nothing is limited");
        let volume = dir.path().join("pods/u/volumes/v");
        std::fs::create_dir_all(&volume).expect("made");
        std::fs::write(volume.join("file"), vec![1; 64 << 10]).expect("written");
        std::fs::hard_link(volume.join("file"), volume.join("again")).expect("linked");
        let log = dir.path().join("log");
        std::fs::write(&log, vec![1; 32 << 10]).expect("written");
        let why = |limits, size| {
            let plan = plan(&places, &pod(limits, size)).expect("something is limited");
            check(&plan, |name| if name == "a" { vec![log.clone()] } else { Vec::new() }).expect("measured")
        };
        assert_eq!(
            why(json!({}), json!("100Ki")),
            None,
            "one file with two names counts once"
        );
        assert_eq!(
            why(json!({}), json!("32Ki")).as_deref(),
            Some("Usage of EmptyDir volume \"v\" exceeds the limit \"32Ki\". ")
        );
        assert_eq!(
            why(json!({"ephemeral-storage": "64Ki"}), json!(null)).as_deref(),
            Some("Pod ephemeral local storage usage exceeds the total limit of containers 64Ki. ")
        );
        std::fs::remove_dir_all(&volume).expect("removed");
        assert_eq!(why(json!({"ephemeral-storage": "64Ki"}), json!(null)), None);
        std::fs::write(&log, vec![1; 128 << 10]).expect("written");
        let plan = Plan {
            pod: None,
            ..plan(&places, &pod(json!({"ephemeral-storage": "64Ki"}), json!(null))).expect("limited")
        };
        assert_eq!(
            check(&plan, |_| vec![log.clone()]).expect("measured").as_deref(),
            Some("Container a exceeded its local ephemeral storage limit \"64Ki\". ")
        );
    }
}
