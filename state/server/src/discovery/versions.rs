//! The order of versions: stable before beta before alpha, the newest first, anything else last.

use std::cmp::Ordering;

/// Compares two versions; the one that clients should prefer is less.
pub(super) fn by_priority(one: &str, other: &str) -> Ordering {
    match (parse(one), parse(other)) {
        (Some(one), Some(other)) => other.cmp(&one),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => one.cmp(other),
    }
}

/// Reads `v1`, `v1beta2`, `v2alpha1` as (stability, major, minor), each growing with preference.
fn parse(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let number = |text: &str| text.parse::<u32>().ok();
    if let Some(major) = number(rest) {
        return Some((2, major, 0));
    }
    let (stability, (major, minor)) = match rest.split_once("beta") {
        Some(parts) => (1, parts),
        None => (0, rest.split_once("alpha")?),
    };
    Some((stability, number(major)?, number(minor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_first_and_newer_before_older() {
        let mut versions = ["foo", "v1alpha1", "v1", "v2beta1", "v10", "v2", "v1beta2", "bar"];
        versions.sort_by(|one, other| by_priority(one, other));
        assert_eq!(
            versions,
            ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "bar", "foo"]
        );
    }
}
