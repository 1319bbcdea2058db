//! One rule of a role: what it allows, and whether rules cover each other.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Attributes;

/// A `PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Rule {
    /// The verbs; `*` is all.
    pub verbs: Vec<String>,
    /// The API groups; `*` is all.
    pub groups: Vec<String>,
    /// Resources as `pods`, `pods/log`, `*/scale`, `*`.
    pub resources: Vec<String>,
    /// The only names; empty is all.
    pub names: Vec<String>,
    /// Paths that are no resources; a `*` at the end stands for anything.
    pub paths: Vec<String>,
}

impl Rule {
    /// Reads one entry of a role's `rules`.
    pub(crate) fn read(value: &Value) -> Rule {
        let strings = |key: &str| -> Vec<String> {
            value[key]
                .as_array()
                .map(|items| {
                    items
                        .iter()
                        .filter_map(|item| item.as_str().map(str::to_owned))
                        .collect()
                })
                .unwrap_or_default()
        };
        Rule {
            verbs: strings("verbs"),
            groups: strings("apiGroups"),
            resources: strings("resources"),
            names: strings("resourceNames"),
            paths: strings("nonResourceURLs"),
        }
    }

    /// Reads all `rules` of a role.
    pub(crate) fn read_all(role: &Value) -> Vec<Rule> {
        role["rules"]
            .as_array()
            .map(|rules| rules.iter().map(Rule::read).collect())
            .unwrap_or_default()
    }

    /// The rule as objects hold it.
    pub(crate) fn to_value(&self) -> Value {
        let mut out = Map::new();
        let mut put = |key: &str, list: &[String]| {
            if !list.is_empty() {
                out.insert(key.to_owned(), list.into());
            }
        };
        put("verbs", &self.verbs);
        put("apiGroups", &self.groups);
        put("resources", &self.resources);
        put("resourceNames", &self.names);
        put("nonResourceURLs", &self.paths);
        Value::Object(out)
    }

    /// Whether the rule allows what is wanted.
    pub(crate) fn allows(&self, wanted: &Attributes<'_>) -> bool {
        if !has(&self.verbs, wanted.verb) {
            return false;
        }
        if let Some(path) = wanted.path {
            return self.paths.iter().any(|pattern| path_matches(pattern, path));
        }
        has(&self.groups, wanted.group)
            && self
                .resources
                .iter()
                .any(|resource| resource_matches(resource, wanted.resource, wanted.subresource))
            && (self.names.is_empty() || (!wanted.name.is_empty() && self.names.iter().any(|name| name == wanted.name)))
    }

    /// The rule taken apart: one verb, group, resource and name each.
    fn atoms(&self) -> Vec<Rule> {
        let one = |text: &String| vec![text.clone()];
        let mut atoms = Vec::new();
        for verb in &self.verbs {
            for path in &self.paths {
                atoms.push(Rule {
                    verbs: one(verb),
                    paths: one(path),
                    ..Rule::default()
                });
            }
            for group in &self.groups {
                for resource in &self.resources {
                    let base = Rule {
                        verbs: one(verb),
                        groups: one(group),
                        resources: one(resource),
                        ..Rule::default()
                    };
                    if self.names.is_empty() {
                        atoms.push(base.clone());
                    }
                    atoms.extend(self.names.iter().map(|name| Rule {
                        names: one(name),
                        ..base.clone()
                    }));
                }
            }
        }
        atoms
    }

    /// How many rules [`Rule::atoms`] makes.
    fn combinations(&self) -> usize {
        let resources = self
            .groups
            .len()
            .saturating_mul(self.resources.len())
            .saturating_mul(self.names.len().max(1));
        self.verbs
            .len()
            .saturating_mul(resources.saturating_add(self.paths.len()))
    }

    /// Whether this rule alone allows all that another allows.
    fn covers(&self, atom: &Rule) -> bool {
        let all = |ours: &[String], theirs: &[String]| theirs.iter().all(|item| has(ours, item));
        all(&self.verbs, &atom.verbs)
            && all(&self.groups, &atom.groups)
            && atom.resources.iter().all(|resource| {
                let (plain, sub) = resource.split_once('/').unwrap_or((resource, ""));
                self.resources
                    .iter()
                    .any(|ours| ours == resource || resource_matches(ours, plain, sub))
            })
            && (self.names.is_empty() || (!atom.names.is_empty() && all(&self.names, &atom.names)))
            && atom
                .paths
                .iter()
                .all(|path| self.paths.iter().any(|ours| ours == path || path_matches(ours, path)))
    }
}

/// The rules are so many combinations of verbs, groups, resources and names that nobody can say whether they are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// How many combinations are looked at, at most. A rule that is held as a whole counts for none.
const COMBINATIONS: usize = 50_000;

/// What of `wanted` no rule of `held` allows, taken apart; empty when `held` covers all of it.
pub(crate) fn uncovered(held: &[Rule], wanted: &[Rule]) -> Result<Vec<Rule>, TooMany> {
    let open: Vec<&Rule> = wanted
        .iter()
        .filter(|rule| !held.iter().any(|ours| ours.covers(rule)))
        .collect();
    let combinations = open
        .iter()
        .fold(0usize, |sum, rule| sum.saturating_add(rule.combinations()));
    if combinations > COMBINATIONS {
        return Err(TooMany);
    }
    Ok(open
        .into_iter()
        .flat_map(Rule::atoms)
        .filter(|atom| !held.iter().any(|rule| rule.covers(atom)))
        .collect())
}

/// Puts rules that were taken apart together again where they differ by their verb only.
pub(crate) fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    let mut places: HashMap<Rule, usize> = HashMap::new();
    for rule in rules {
        let key = Rule {
            verbs: Vec::new(),
            ..rule.clone()
        };
        match places.get(&key) {
            Some(place) if rule.paths.is_empty() => out[*place].verbs.extend(rule.verbs),
            _ => {
                places.insert(key, out.len());
                out.push(rule);
            }
        }
    }
    out
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let (plain, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
    sub == subresource && (plain == resource || (plain == "*" && !sub.is_empty()))
}

fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}
