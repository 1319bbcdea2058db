//! Which rule a key is kept by.

use crate::log::Rule;

/// The rules of an open log.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    pub(super) fn new(rules: Vec<Rule>) -> Rules {
        Rules(rules)
    }

    /// The rule of a key, when it has one.
    pub(super) fn of(&self, key: &str) -> Option<&Rule> {
        self.0.iter().find(|rule| key.starts_with(&rule.prefix))
    }

    /// Whether superseded values of a key stay readable.
    pub(super) fn history(&self, key: &str) -> bool {
        self.of(key).is_none_or(|rule| rule.history)
    }

    /// Whether the values of a key are encrypted.
    pub(super) fn sealed(&self, key: &str) -> bool {
        self.of(key).is_some_and(|rule| rule.sealed)
    }

    /// How keys that start with a prefix keep their history.
    pub(super) fn reach(&self, prefix: &str) -> Reach {
        let mut without = self.0.iter().filter(|rule| !rule.history);
        if self.of(prefix).is_some_and(|rule| !rule.history) {
            Reach::None
        } else if without.any(|rule| rule.prefix.starts_with(prefix)) {
            Reach::Some
        } else {
            Reach::All
        }
    }

    /// Whether there are keys that keep no history.
    pub(super) fn any_without_history(&self) -> bool {
        self.0.iter().any(|rule| !rule.history)
    }

    /// The rules by which keys go by themselves.
    pub(super) fn expiring(&self) -> impl Iterator<Item = &Rule> {
        self.0
            .iter()
            .filter(|rule| rule.expire.is_some() || rule.at_most.is_some())
    }

    /// The prefixes of what is encrypted.
    pub(super) fn sealed_prefixes(&self) -> Vec<&str> {
        self.0
            .iter()
            .filter(|rule| rule.sealed)
            .map(|rule| rule.prefix.as_str())
            .collect()
    }
}

/// Which of the keys of a prefix keep their history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Every one.
    All,
    /// Some do, others do not.
    Some,
    /// Not one.
    None,
}
