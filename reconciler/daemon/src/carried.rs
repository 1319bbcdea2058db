//! The charts and examples that the binary carries, so that a first deployment needs no network.

use std::collections::BTreeMap;

mod table {
    include!(concat!(env!("OUT_DIR"), "/carried.rs"));
}

/// Returns the files of a carried chart; `None` when there is none of that name.
pub fn chart(name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
    below(table::CHARTS, name)
}

/// Returns the files of a carried example; `None` when there is none of that name.
pub fn example(name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
    below(table::EXAMPLES, name)
}

/// Returns the names of the carried charts.
pub fn charts() -> Vec<&'static str> {
    names(table::CHARTS)
}

/// Returns the names of the carried examples that are repositories.
pub fn examples() -> Vec<&'static str> {
    let repositories = table::EXAMPLES
        .iter()
        .filter_map(|(path, _)| path.strip_suffix("/setpoint.toml"));
    repositories.filter(|name| !name.contains('/')).collect()
}

fn names(table: &'static [(&'static str, &'static [u8])]) -> Vec<&'static str> {
    let mut names: Vec<&str> = table
        .iter()
        .filter_map(|(path, _)| path.split_once('/').map(|(name, _)| name))
        .collect();
    names.dedup();
    names
}

fn below(table: &[(&str, &[u8])], name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
    let files: BTreeMap<String, Vec<u8>> = table
        .iter()
        .filter_map(|(path, bytes)| {
            let rest = path.strip_prefix(name)?.strip_prefix('/')?;
            Some((rest.to_owned(), bytes.to_vec()))
        })
        .collect();
    (!files.is_empty() && !name.is_empty()).then_some(files)
}

#[cfg(test)]
mod tests {
    #[test]
    fn charts_of_both_engines_and_the_quickstart_are_carried() {
        assert!(super::charts().contains(&"demo"));
        assert!(super::charts().contains(&"web"));
        assert!(super::chart("demo").unwrap().contains_key("Chart.yaml"));
        assert!(super::examples().contains(&"quickstart"));
        assert!(super::example("quickstart").unwrap().contains_key("setpoint.toml"));
        assert!(super::chart("dem").is_none());
        assert!(super::chart("").is_none());
    }
}
