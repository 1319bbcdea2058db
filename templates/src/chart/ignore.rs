//! `.helmignore`.

use regex::Regex;

use super::glob::path_regex;

struct Rule {
    pattern: Regex,
    negated: bool,
    folders_only: bool,
    by_name: bool,
}

/// The rules of a `.helmignore`.
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    /// Reads the rules; what comes by default hides files whose names begin with a dot under `templates`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Vec::new();
        for line in text.trim_start_matches('\u{feff}').lines().chain(["templates/.?*"]) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.contains("**") {
                return Err("double-star (**) syntax is not supported".to_owned());
            }
            let (negated, rest) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
            let (folders_only, rest) = rest.strip_suffix('/').map_or((false, rest), |rest| (true, rest));
            let by_name = !rest.contains('/');
            let rest = rest.strip_prefix('/').unwrap_or(rest);
            let pattern = path_regex(rest).ok_or("syntax error in pattern")?;
            rules.push(Rule {
                pattern,
                negated,
                folders_only,
                by_name,
            });
        }
        Ok(Self(rules))
    }

    /// Says whether the path, or a folder above it, is left out.
    pub(super) fn ignores(&self, path: &str) -> bool {
        let ends = path
            .match_indices('/')
            .map(|(at, _)| (at, true))
            .chain([(path.len(), false)]);
        ends.into_iter()
            .any(|(end, is_folder)| self.matches(&path[..end], is_folder))
    }

    fn matches(&self, path: &str, is_folder: bool) -> bool {
        for rule in &self.0 {
            let subject = if rule.by_name {
                path.rsplit('/').next().unwrap_or(path)
            } else {
                path
            };
            if rule.negated {
                if rule.folders_only && !is_folder || !rule.pattern.is_match(subject) {
                    return true;
                }
                continue;
            }
            if rule.folders_only && !is_folder {
                continue;
            }
            if rule.pattern.is_match(subject) {
                return true;
            }
        }
        false
    }
}
