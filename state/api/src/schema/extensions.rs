//! How the lists and maps of the built-in types merge: a table of facts, since the generated types do not carry them.
//!
//! A line of `extensions.tsv` is a type, a field (`-` for the type itself) and facts: `list=set`, `list=map:port,protocol`,
//! `map=atomic`, `patch=merge,retainKeys`, `key=name`.

use std::collections::HashMap;

static TABLE: &str = include_str!("extensions.tsv");

/// The facts of one field or type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `atomic`, `set`, `map`, or "".
    pub list_type: &'static str,
    /// Names joined by commas.
    pub list_keys: &'static str,
    /// `atomic`, `granular`, or "".
    pub map_type: &'static str,
    /// `merge`, `replace`, `retainKeys`, joined by commas.
    pub patch_strategy: &'static str,
    /// The merge key of strategic merge patches.
    pub patch_key: &'static str,
}

/// The whole table, parsed; made when needed and dropped again.
pub(crate) struct Table(HashMap<(&'static str, &'static str), Facts>);

impl Table {
    pub fn read() -> Table {
        let rows = TABLE
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| {
                let mut columns = line.split('\t');
                let key = (columns.next().unwrap_or_default(), columns.next().unwrap_or_default());
                let mut facts = Facts::default();
                for column in columns {
                    match column.split_once('=') {
                        Some(("list", value)) => {
                            (facts.list_type, facts.list_keys) = value.split_once(':').unwrap_or((value, ""));
                        }
                        Some(("map", value)) => facts.map_type = value,
                        Some(("patch", value)) => facts.patch_strategy = value,
                        Some(("key", value)) => facts.patch_key = value,
                        _ => {}
                    }
                }
                (key, facts)
            });
        Table(rows.collect())
    }

    /// Returns the facts of a definition's field; "-" asks for the definition itself.
    pub fn facts(&self, definition: &str, field: &str) -> Facts {
        self.0
            .get(&(short_name(definition), field))
            .copied()
            .unwrap_or_default()
    }

    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (&(&'static str, &'static str), &Facts)> {
        self.0.iter()
    }
}

/// Returns a definition's name without its common prefix: `core.v1.PodSpec`, `meta.v1.ObjectMeta`.
pub(crate) fn short_name(definition: &str) -> &str {
    let prefixes = [
        "io.k8s.apimachinery.pkg.apis.",
        "io.k8s.api.",
        "io.k8s.apiextensions-apiserver.pkg.apis.",
        "io.k8s.kube-aggregator.pkg.apis.",
        "io.k8s.apimachinery.pkg.",
    ];
    prefixes
        .iter()
        .find_map(|prefix| definition.strip_prefix(prefix))
        .unwrap_or(definition)
}
