//! Who may use an image that is here, by how it came here (Kubernetes' KEP-2535, with the kubelet's default policy `NeverVerifyPreloadedImages`).
//!
//! What was fetched with credentials of a pod is for pods that have them too; everybody else has to show the registry his own. What was imported,
//! fetched anonymously or with this machine's credentials is for every pod. What is kept of credentials is a digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use setpoint_registry::{Credential, ImageReference, Keyring, Origin};

/// How many Secrets are remembered of one name of an image; the oldest goes.
const REMEMBERED: usize = 100;

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

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Holders {
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
        let holders = self.pulled.entry(name.clone()).or_default();
        match credential.as_ref().map(|credential| (credential, &credential.origin)) {
            Some((credential, Origin::Secret { namespace, name, uid })) => {
                holders.secrets.retain(|known| known.uid != *uid);
                holders.secrets.push(Secret {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    uid: uid.clone(),
                    hash: credential.hash(),
                });
                let surplus = holders.secrets.len().saturating_sub(REMEMBERED);
                holders.secrets.drain(..surplus);
            }
            Some((_, Origin::Node { .. } | Origin::Given)) | None => holders.everyone = true,
        }
    }

    /// Adds what an earlier record of the image knew.
    pub fn succeed(&mut self, earlier: Access) {
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
    fn let_in(&self, name: &str, secrets: &Keyring) -> bool {
        let holds = |credential: &Credential| {
            let hash = credential.hash();
            self.secrets.iter().any(|known| {
                let same = matches!(&credential.origin, Origin::Secret { namespace, name, uid }
                    if *uid == known.uid && *namespace == known.namespace && *name == known.name);
                // A Secret whose content was renewed is still the one that was let in.
                same || known.hash == hash
            })
        };
        self.everyone || secrets.lookup(name).iter().any(holds)
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
