//! Who may use an image that is here, by how it came here (Kubernetes' KEP-2535, with the kubelet's default policy `NeverVerifyPreloadedImages`).
//!
//! What was fetched with credentials of a pod is for pods that have them too; everybody else has to show the registry his own. What was imported,
//! fetched anonymously or with this machine's credentials is for every pod. What is kept of credentials is a digest.
//!
//! [`Access`] is of an image, by its names; [`Holders`] alone is of a layer's blob, which many images may have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use setpoint_registry::{Credential, ImageReference, Keyring, Origin};

/// How many Secrets are remembered of one name of an image; the oldest goes.
const REMEMBERED: usize = 100;
/// How many names of an image are remembered: whoever can name registries can make up as many as he likes.
const NAMES: usize = 100;

/// How an image came here.
#[derive(Clone, Debug)]
pub(super) enum Came {
    /// From a file, by somebody who administers this machine.
    Imported,
    /// From a registry, under this name (without tag and digest).
    Pulled {
        name: String,
        credential: Option<Credential>,
    },
}

/// Who may use an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Access {
    /// It was imported.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    imported: bool,
    /// By the names under which it was fetched. Empty as well for what was installed before this was written down: that is taken for imported.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pulled: BTreeMap<String, Holders>,
}

impl Came {
    /// Returns what tells apart who would wait for whom: the registry, and the credential that is shown to it.
    pub fn place(&self) -> (String, String) {
        match self {
            Came::Imported => Default::default(),
            Came::Pulled { name, credential } => {
                let host = name.split('/').next().unwrap_or_default();
                (
                    host.to_owned(),
                    credential.as_ref().map(Credential::hash).unwrap_or_default(),
                )
            }
        }
    }
}

/// Who has shown that he may have something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Holders {
    /// Every pod of this machine.
    everyone: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Secret>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Secret {
    namespace: String,
    name: String,
    uid: String,
    hash: String,
}

impl Access {
    /// Notes how the image came here once more.
    pub fn note(&mut self, came: &Came) {
        let (name, credential) = match came {
            Came::Imported => {
                self.imported = true;
                return;
            }
            Came::Pulled { name, credential } => (name, credential),
        };
        self.pulled
            .entry(name.clone())
            .or_default()
            .let_have(credential.as_ref());
    }

    /// Adds what an earlier record of the image knew.
    pub fn succeed(&mut self, earlier: Access) {
        // What is being installed now is noted already, and alone.
        let latest = self.pulled.keys().next().cloned();
        let unknown = !earlier.imported && earlier.pulled.is_empty();
        self.imported |= earlier.imported || unknown;
        for (name, holders) in earlier.pulled {
            let mine = self.pulled.entry(name).or_default();
            mine.everyone |= holders.everyone;
            for secret in holders.secrets {
                if !mine.secrets.iter().any(|known| known.uid == secret.uid) {
                    mine.secrets.insert(0, secret);
                }
            }
        }
        // Whoever comes by a name that was forgotten shows himself to the registry once more.
        while self.pulled.len() > NAMES {
            let surplus = self.pulled.keys().find(|name| latest.as_ref() != Some(*name)).cloned();
            let Some(surplus) = surplus else { return };
            self.pulled.remove(&surplus);
        }
    }

    /// Whether no registry is known to have it.
    pub fn only_imported(&self) -> bool {
        self.pulled.is_empty()
    }

    /// Whether a pod with these credentials may use the image by this name without asking the registry.
    pub fn allows(&self, reference: &ImageReference, secrets: &Keyring) -> bool {
        if self.imported || self.pulled.is_empty() {
            return true;
        }
        let name = reference.name();
        self.pulled
            .get(&name)
            .is_some_and(|holders| holders.let_in(&name, secrets))
    }

    /// Whether a pod with these credentials may use the image by its id: if it may by one of the names that it was fetched by.
    pub fn allows_by_id(&self, secrets: &Keyring) -> bool {
        let mut pulled = self.pulled.iter();
        self.imported || self.pulled.is_empty() || pulled.any(|(name, holders)| holders.let_in(name, secrets))
    }
}

impl Holders {
    /// Notes that it came in this way once more.
    pub fn note(&mut self, came: &Came) {
        match came {
            Came::Imported => self.everyone = true,
            Came::Pulled { credential, .. } => self.let_have(credential.as_ref()),
        }
    }

    /// Whether what is about to come in this way need not be fetched to show that it may be had.
    pub fn may_have(&self, came: &Came) -> bool {
        match came {
            // Who wrote an archive may name a layer that it does not hold, and everybody may have what was imported.
            Came::Imported => self.everyone,
            Came::Pulled { credential, .. } => {
                self.everyone || credential.as_ref().is_some_and(|credential| self.holds(credential))
            }
        }
    }

    fn let_have(&mut self, credential: Option<&Credential>) {
        match credential.map(|credential| (credential, &credential.origin)) {
            Some((credential, Origin::Secret { namespace, name, uid })) => {
                self.secrets.retain(|known| known.uid != *uid);
                self.secrets.push(Secret {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    uid: uid.clone(),
                    hash: credential.hash(),
                });
                let surplus = self.secrets.len().saturating_sub(REMEMBERED);
                self.secrets.drain(..surplus);
            }
            Some((_, Origin::Node { .. } | Origin::Given)) | None => self.everyone = true,
        }
    }

    fn holds(&self, credential: &Credential) -> bool {
        let hash = credential.hash();
        self.secrets.iter().any(|known| {
            let same = matches!(&credential.origin, Origin::Secret { namespace, name, uid }
                if *uid == known.uid && *namespace == known.namespace && *name == known.name);
            // A Secret whose content was renewed is still the one that was let in.
            same || known.hash == hash
        })
    }

    fn let_in(&self, name: &str, secrets: &Keyring) -> bool {
        self.everyone || secrets.lookup(name).iter().any(|credential| self.holds(credential))
    }
}

#[cfg(test)]
mod tests {
    use setpoint_registry::Proof;

    use super::*;

    fn credential(uid: &str, password: &str) -> Credential {
        Credential {
            user: "ann".into(),
            proof: Proof::Password(password.into()),
            origin: Origin::Secret {
                namespace: "shop".into(),
                name: "pull".into(),
                uid: uid.into(),
            },
        }
    }

    fn holding(credential: Credential) -> Keyring {
        let mut keyring = Keyring::default();
        keyring.add("r.example", credential);
        keyring
    }

    fn pulled(credential: Option<Credential>) -> Access {
        let mut access = Access::default();
        access.note(&Came::Pulled {
            name: "r.example/app".into(),
            credential,
        });
        access
    }

    #[test]
    fn what_was_fetched_with_a_secret_is_for_those_who_have_the_secret_or_what_it_says() {
        let access = pulled(Some(credential("1", "right")));
        let app: ImageReference = "r.example/app:v1".parse().unwrap();
        for (held, expected) in [
            (Keyring::default(), false),
            (holding(credential("1", "right")), true),
            (holding(credential("1", "renewed")), true),
            (holding(credential("2", "right")), true),
            (holding(credential("2", "wrong")), false),
        ] {
            assert_eq!(access.allows(&app, &held), expected, "{held:?}");
        }
        let elsewhere = "other.example/app:v1".parse().unwrap();
        assert!(
            !access.allows(&elsewhere, &holding(credential("1", "right"))),
            "a name is not another"
        );
        assert!(!serde_json::to_string(&access).unwrap().contains("right"));
    }

    #[test]
    fn what_was_imported_or_fetched_anonymously_is_for_everybody() {
        let app: ImageReference = "r.example/app:v1".parse().unwrap();
        let mut imported = pulled(Some(credential("1", "right")));
        imported.note(&Came::Imported);
        let mut node = credential("1", "right");
        node.origin = Origin::Node { place: "f".into() };
        for access in [imported, pulled(None), pulled(Some(node)), Access::default()] {
            assert!(access.allows(&app, &Keyring::default()), "{access:?}");
        }
    }

    #[test]
    fn a_layer_is_for_those_who_fetched_it_and_for_everybody_once_anybody_could() {
        let came = |credential: Option<Credential>| Came::Pulled {
            name: "r.example/app".into(),
            credential,
        };
        let mut holders = Holders::default();
        holders.note(&came(Some(credential("1", "right"))));
        for (whose, expected) in [
            (came(Some(credential("1", "renewed"))), true),
            (came(Some(credential("2", "right"))), true),
            (came(Some(credential("2", "wrong"))), false),
            (came(None), false),
            (Came::Imported, false),
        ] {
            assert_eq!(holders.may_have(&whose), expected, "{whose:?}");
        }
        let mut node = credential("1", "node");
        node.origin = Origin::Node { place: "f".into() };
        assert!(
            !holders.may_have(&came(Some(node.clone()))),
            "the machine has to show it too"
        );
        holders.note(&came(Some(node)));
        assert!(holders.may_have(&came(None)));
    }

    #[test]
    fn names_are_bounded_and_the_latest_counts() {
        let mut known = pulled(None);
        for number in 0..300 {
            let mut access = Access::default();
            access.note(&Came::Pulled {
                name: format!("r{number}.example/app"),
                credential: None,
            });
            access.succeed(known);
            known = access;
            let latest = format!("r{number}.example/app:v1").parse().unwrap();
            assert!(known.allows(&latest, &Keyring::default()) && known.pulled.len() <= NAMES);
        }
        assert!(!known.only_imported());
    }

    #[test]
    fn what_was_known_before_is_kept() {
        let app: ImageReference = "r.example/app:v1".parse().unwrap();
        let mut access = pulled(Some(credential("2", "two")));
        access.succeed(pulled(Some(credential("1", "one"))));
        for known in [credential("1", "one"), credential("2", "two")] {
            assert!(access.allows(&app, &holding(known)));
        }
        assert!(!access.allows(&app, &Keyring::default()));
        access.succeed(Access::default());
        assert!(
            access.allows(&app, &Keyring::default()),
            "it was here before this was written down"
        );
    }
}
