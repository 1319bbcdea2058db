//! The crates depend on one another only as ARCHITECTURE.md draws the arrows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What each crate may know of the others.
const ARROWS: [(&str, &[&str]); 13] = [
    ("state/cel", &[]),
    ("state/api", &["setpoint-cel"]),
    ("state/store", &[]),
    ("state/server", &["setpoint-api", "setpoint-store"]),
    ("providers/registry", &[]),
    ("providers/net", &[]),
    ("providers/runtime", &["setpoint-registry", "setpoint-net"]),
    ("providers/agent", &["setpoint-runtime", "setpoint-net"]),
    ("reconciler/plan", &["setpoint-api"]),
    ("reconciler/engine", &["setpoint-plan", "setpoint-templates"]),
    ("reconciler/controllers", &["setpoint-api"]),
    (
        "reconciler/daemon",
        &[
            "setpoint-agent",
            "setpoint-api",
            "setpoint-controllers",
            "setpoint-engine",
            "setpoint-net",
            "setpoint-plan",
            "setpoint-registry",
            "setpoint-runtime",
            "setpoint-server",
            "setpoint-store",
            "setpoint-templates",
        ],
    ),
    ("templates", &[]),
];

fn manifest(path: &Path) -> toml::Table {
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

#[test]
fn arrows_go_down_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let workspace = manifest(&root.join("Cargo.toml"));
    let members = workspace["workspace"]["members"].as_array().unwrap();
    assert_eq!(
        members.len(),
        allowed.len(),
        "a crate is missing in the table of arrows"
    );
    for member in members {
        let member = member.as_str().unwrap();
        let arrows = allowed
            .get(member)
            .unwrap_or_else(|| panic!("{member} is not in the table of arrows"));
        let manifest = manifest(&root.join(member).join("Cargo.toml"));
        let dependencies = manifest["dependencies"].as_table().unwrap();
        let known: BTreeSet<&str> = dependencies
            .keys()
            .map(String::as_str)
            .filter(|name| name.starts_with("setpoint"))
            .collect();
        assert_eq!(known, arrows.iter().copied().collect(), "what {member} knows");
    }
}

#[test]
fn unsafe_code_stays_in_the_runtimes_sys_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for (member, _) in ARROWS {
        look(&root.join(member).join("src"), &mut found);
    }
    assert!(found.is_empty(), "unsafe outside of the sys module: {found:?}");
}

fn look(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look(&path, found);
            continue;
        }
        let name = path.display().to_string();
        if name.contains("runtime/src/sys") || !name.ends_with(".rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (index, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl") {
                found.push(format!("{name}:{}", index + 1));
            }
        }
    }
}
