//! What is checked across apps: one app a name, `after` without strangers or cycles.

use std::collections::HashMap;

use super::{Fault, Located};

/// Checks names and `after`; `line` tells the line of an offset.
pub(super) fn check(apps: &[Located], line: impl Fn(usize) -> u32) -> Result<(), Fault> {
    let mut indices: HashMap<&str, usize> = HashMap::new();
    for (index, located) in apps.iter().enumerate() {
        let name = located.app.name.as_str();
        if let Some(first) = indices.insert(name, index).and_then(|first| apps.get(first)) {
            let (first, second) = (line(first.name), line(located.name));
            return Fault::new(
                located.name,
                format!("two apps are named {name}: lines {first} and {second}; give one of them another name"),
            );
        }
    }
    let mut waits: Vec<Vec<(usize, usize)>> = Vec::with_capacity(apps.len());
    for located in apps {
        let mut list = Vec::new();
        for (name, offset) in located.app.after.iter().zip(&located.after) {
            match indices.get(name.as_str()) {
                Some(index) => list.push((*index, *offset)),
                None => return Fault::new(*offset, stranger(name, apps)),
            }
        }
        waits.push(list);
    }
    match cycle(&waits) {
        None => Ok(()),
        Some((members, offset)) => {
            let names: Vec<&str> = members
                .iter()
                .filter_map(|index| apps.get(*index))
                .map(|located| located.app.name.as_str())
                .collect();
            let first = names.first().copied().unwrap_or_default();
            Fault::new(
                offset,
                format!(
                    "the apps wait for each other: {} → {first}; take one `after` out",
                    names.join(" → ")
                ),
            )
        }
    }
}

fn stranger(name: &str, apps: &[Located]) -> String {
    const SHOWN: usize = 20;
    let mut names: Vec<&str> = apps
        .iter()
        .take(SHOWN)
        .map(|located| located.app.name.as_str())
        .collect();
    if apps.len() > SHOWN {
        names.push("…");
    }
    format!(
        "`after` names the app {name}, which this file does not have; it has {}",
        names.join(", ")
    )
}

/// Finds a cycle, as its members in order and the place of the `after` that closes it. Iterative: a chain may be as long as the file.
fn cycle(waits: &[Vec<(usize, usize)>]) -> Option<(Vec<usize>, usize)> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; waits.len()];
    for start in 0..waits.len() {
        // Each entry is an app that is being followed and how many of its `after`s have been looked at.
        let mut trail: Vec<(usize, usize)> = Vec::new();
        if marks[start] == Mark::New {
            marks[start] = Mark::Open;
            trail.push((start, 0));
        }
        while let Some((app, seen)) = trail.last_mut() {
            let Some((next, offset)) = waits[*app].get(*seen).copied() else {
                marks[*app] = Mark::Done;
                trail.pop();
                continue;
            };
            *seen += 1;
            match marks[next] {
                Mark::Done => {}
                Mark::New => {
                    marks[next] = Mark::Open;
                    trail.push((next, 0));
                }
                Mark::Open => {
                    let members = trail
                        .iter()
                        .map(|(app, _)| *app)
                        .skip_while(|app| *app != next)
                        .collect();
                    return Some((members, offset));
                }
            }
        }
    }
    None
}
