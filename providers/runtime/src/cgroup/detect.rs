//! Which hierarchies this host has and where our groups go in them.

use std::io;
use std::path::{Path, PathBuf};

use super::{Hierarchies, Hierarchy};

/// What we use of v1; others (cpuset, devices, freezer, …) are left as inherited.
const USED: [&str; 4] = ["cpu", "cpuacct", "memory", "pids"];

struct Mounted<'a> {
    root: &'a str,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

/// Parses `/proc/self/cgroup` and `/proc/self/mountinfo`; `controllers` reads those of a unified directory.
pub(super) fn detect(
    own: &str,
    mountinfo: &str,
    controllers: impl Fn(&Path) -> Vec<String>,
) -> io::Result<Hierarchies> {
    let mounts: Vec<Mounted<'_>> = mountinfo.lines().filter_map(parse_mount).collect();
    let mut list: Vec<Hierarchy> = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if number == "0" && names.is_empty() {
            if let Some(mount) = mounts.iter().find(|mount| mount.kind == "cgroup2") {
                let base = mount.point.clone();
                list.push(Hierarchy {
                    controllers: controllers(&base),
                    base,
                    unified: true,
                });
            }
            continue;
        }
        let named = names == "name=systemd";
        let names: Vec<&str> = names.split(',').collect();
        if !named && !names.iter().any(|name| USED.contains(name)) {
            continue;
        }
        let mount = mounts.iter().find(|mount| {
            mount.kind == "cgroup"
                && names
                    .iter()
                    .all(|name| mount.options.split(',').any(|option| option == *name))
        });
        let Some(mount) = mount else { continue };
        let base = if made_by_systemd(path) {
            mount.point.clone()
        } else {
            below(mount, path)
        };
        let controllers = if named {
            Vec::new()
        } else {
            names.iter().map(|&name| name.to_owned()).collect()
        };
        list.push(Hierarchy {
            base,
            controllers,
            unified: false,
        });
    }
    if list.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no cgroup hierarchy is mounted",
        ));
    }
    Ok(Hierarchies { list })
}

fn parse_mount(line: &str) -> Option<Mounted<'_>> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let kind = right.next()?;
    let options = right.nth(1).unwrap_or_default();
    Some(Mounted {
        root,
        point: PathBuf::from(point),
        kind,
        options,
    })
}

fn made_by_systemd(path: &str) -> bool {
    path.split('/')
        .any(|part| [".slice", ".scope", ".service"].iter().any(|end| part.ends_with(end)))
}

/// The directory of our own group, seen through a mount that may show only a part of the hierarchy.
fn below(mount: &Mounted<'_>, path: &str) -> PathBuf {
    let inside = if mount.root == "/" {
        Some(path)
    } else {
        path.strip_prefix(mount.root)
    };
    match inside.map(|inside| inside.trim_matches('/')) {
        Some(inside) if !inside.is_empty() => mount.point.join(inside),
        _ => mount.point.clone(),
    }
}

/// Finds every group of an instance that is left on this host, also of a daemon that ran in another group than this process.
pub(crate) fn remains(instance: &str) -> Vec<PathBuf> {
    let name = format!("setpoint-{instance}");
    let mut found = Vec::new();
    everywhere(&|group| group == name, &mut found);
    found
}

/// Finds the groups of every instance on this host, with the instance's four digits.
pub(crate) fn traces() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    everywhere(&|group| instance(group).is_some(), &mut found);
    let named = |path: PathBuf| Some((instance(path.file_name()?.to_str()?)?.to_owned(), path));
    found.into_iter().filter_map(named).collect()
}

/// Whose group it is, by its name.
fn instance(group: &str) -> Option<&str> {
    let digits = group.strip_prefix("setpoint-")?;
    (digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digits)
}

fn everywhere(wanted: &dyn Fn(&str) -> bool, found: &mut Vec<PathBuf>) {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for mount in mountinfo.lines().filter_map(parse_mount) {
        if mount.kind == "cgroup" || mount.kind == "cgroup2" {
            search(&mount.point, wanted, 8, found);
        }
    }
}

fn search(directory: &Path, wanted: &dyn Fn(&str) -> bool, depth: usize, found: &mut Vec<PathBuf>) {
    for child in super::children(directory) {
        if child.file_name().and_then(|name| name.to_str()).is_some_and(wanted) {
            found.push(child);
        } else if depth > 0 {
            search(&child, wanted, depth - 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw shared:3 - cgroup2 cgroup2 rw\n";

    #[test]
    fn hybrid_hosts_keep_each_controller_where_it_is() {
        let own = "9:name=systemd:/\n4:memory:/jobs/a\n3:cpuset:/\n1:cpu:/\n0::/\n";
        let found = detect(own, V1, |_| vec!["hugetlb".to_owned()]).unwrap();
        let bases: Vec<_> = found
            .list
            .iter()
            .map(|hierarchy| hierarchy.base.to_str().unwrap())
            .collect();
        assert_eq!(
            bases,
            [
                "/sys/fs/cgroup/systemd",
                "/sys/fs/cgroup/memory/jobs/a",
                "/sys/fs/cgroup/cpu",
                "/sys/fs/cgroup/unified"
            ]
        );
        assert!(found.has("memory") && found.has("cpu") && !found.has("pids"));
    }

    #[test]
    fn groups_leave_a_unit_of_systemd() {
        let own = "4:memory:/system.slice/setpoint.service\n";
        let found = detect(own, V1, |_| Vec::new()).unwrap();
        assert_eq!(found.list[0].base, Path::new("/sys/fs/cgroup/memory"));
    }

    #[test]
    fn a_unified_host_uses_the_mount_with_its_controllers() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = detect("0::/user.slice/x.scope\n", mounts, |_| {
            vec!["cpu".to_owned(), "memory".to_owned()]
        })
        .unwrap();
        assert_eq!(found.list.len(), 1);
        assert!(found.list[0].unified && found.has("memory"));
    }

    #[test]
    fn a_mount_that_shows_a_part_is_followed_from_there() {
        let mounts = "35 31 0:32 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let found = detect("4:memory:/docker/x/y\n", mounts, |_| Vec::new()).unwrap();
        assert_eq!(found.list[0].base, Path::new("/sys/fs/cgroup/memory/y"));
    }

    #[test]
    fn no_hierarchy_at_all_is_an_error() {
        assert!(detect("", "", |_| Vec::new()).is_err());
    }
}
