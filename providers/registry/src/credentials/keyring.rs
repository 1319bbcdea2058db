//! Credentials by the images that they are for.

use super::{Credential, matching};

/// The registry that names without a host mean, as docker's configuration calls it.
const DEFAULT: &str = "index.docker.io";

/// Credentials by key; what is added first is tried first among equal keys.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    entries: Vec<(String, Credential)>,
    /// What is asked after this one.
    next: Option<Box<Keyring>>,
}

impl Keyring {
    /// Adds credentials for what a key of a docker configuration means.
    pub fn add(&mut self, key: &str, credential: Credential) {
        self.entries.push((matching::key(key), credential));
    }

    /// Returns this keyring, with another one that is asked after it.
    pub fn or(mut self, next: Keyring) -> Self {
        self.next = Some(Box::new(match self.next.take() {
            Some(following) => following.or(next),
            None => next,
        }));
        self
    }

    /// Returns whether it holds nothing at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.next.as_ref().is_none_or(|next| next.is_empty())
    }

    /// Returns what to try for an image's name (`host[:port]/repository`), most specific first, each only once.
    pub fn lookup(&self, image: &str) -> Vec<Credential> {
        let mut found = self.own(image);
        for credential in self.next.iter().flat_map(|next| next.lookup(image)) {
            let same = |known: &Credential| known.user == credential.user && known.proof == credential.proof;
            if !found.iter().any(same) {
                found.push(credential);
            }
        }
        found
    }

    fn own(&self, image: &str) -> Vec<Credential> {
        let mut keys: Vec<&str> = self.entries.iter().map(|(key, _)| key.as_str()).collect();
        // Downwards: a longer path comes before what it begins with, and letters come before stars.
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys.dedup();
        let of = |wanted: &str| {
            let entries = self.entries.iter().filter(move |(key, _)| key == wanted);
            entries.map(|(_, credential)| credential.clone()).collect::<Vec<_>>()
        };
        let found: Vec<Credential> = keys
            .iter()
            .filter(|key| matching::matches(key, image))
            .flat_map(|key| of(key))
            .collect();
        if found.is_empty() && (image.starts_with("docker.io/") || image.starts_with("index.docker.io/")) {
            return of(DEFAULT);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Origin, Proof};
    use super::*;

    fn keyring(keys: &[(&str, &str)]) -> Keyring {
        let mut keyring = Keyring::default();
        for (key, user) in keys {
            let credential = Credential {
                user: (*user).to_owned(),
                proof: Proof::Password("p".into()),
                origin: Origin::Given,
            };
            keyring.add(key, credential);
        }
        keyring
    }

    fn users(keyring: &Keyring, image: &str) -> Vec<String> {
        keyring.lookup(image).into_iter().map(|found| found.user).collect()
    }

    #[test]
    fn the_most_specific_comes_first_and_all_candidates_follow() {
        let first = keyring(&[("r.example", "host"), ("r.example/team", "team"), ("*.example", "star")]);
        let all = first.or(keyring(&[("r.example", "node"), ("r.example/team", "team")]));
        assert_eq!(users(&all, "r.example/team/app"), ["team", "host", "star", "node"]);
        assert_eq!(users(&all, "r.example/app"), ["host", "star", "node"]);
        assert!(users(&all, "s.other/app").is_empty());
    }

    #[test]
    fn several_of_one_key_are_tried_in_their_order() {
        let all = keyring(&[("r.example", "one"), ("r.example", "two")]);
        assert_eq!(users(&all, "r.example/app"), ["one", "two"]);
    }

    #[test]
    fn dockers_own_key_is_for_names_without_a_host() {
        let all = keyring(&[("https://index.docker.io/v1/", "hub")]);
        assert_eq!(users(&all, "docker.io/library/nginx"), ["hub"]);
        assert!(users(&all, "quay.io/nginx").is_empty());
    }
}
