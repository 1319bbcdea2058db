//! Docker's configuration files, in the two forms that Secrets and machines hold them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::keyring::Keyring;
use super::{Credential, Origin, Proof};

/// The key of a Secret of the type `kubernetes.io/dockerconfigjson`.
const CONFIG_JSON: &str = ".dockerconfigjson";
/// The key of a Secret of the type `kubernetes.io/dockercfg`.
const CONFIG: &str = ".dockercfg";

/// Why credentials cannot be read. Never says what they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place} {reason}")]
pub struct CredentialsError {
    /// The file, or the key of a Secret.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
}

#[derive(Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    pub helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    pub store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(alias = "identityToken")]
    identitytoken: Option<String>,
    #[serde(alias = "registryToken")]
    registrytoken: Option<String>,
}

/// Adds what a Secret's data holds; data without either of the two keys adds nothing.
pub fn from_secret<'a>(
    data: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    origin: &Origin,
    keyring: &mut Keyring,
) -> Result<(), CredentialsError> {
    for (key, bytes) in data {
        match key {
            CONFIG_JSON => add(&parse(bytes, key)?.auths, key, origin, keyring)?,
            CONFIG => {
                let auths: BTreeMap<String, Entry> =
                    serde_json::from_slice(bytes).map_err(|error| unreadable(key, &error))?;
                add(&auths, key, origin, keyring)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Parses a file of the newer form.
pub(super) fn parse(bytes: &[u8], place: &str) -> Result<Config, CredentialsError> {
    serde_json::from_slice(bytes).map_err(|error| unreadable(place, &error))
}

impl Config {
    /// Adds what stands in the file itself.
    pub fn add_to(&self, place: &str, keyring: &mut Keyring) -> Result<(), CredentialsError> {
        let origin = Origin::Node {
            place: place.to_owned(),
        };
        add(&self.auths, place, &origin, keyring)
    }
}

/// Says where a text is malformed, never what stands there: serde_json's own message may quote a value.
fn unreadable(place: &str, error: &serde_json::Error) -> CredentialsError {
    let what = match error.classify() {
        serde_json::error::Category::Data => "is not a docker configuration",
        _ => "is not JSON",
    };
    CredentialsError {
        place: place.to_owned(),
        reason: format!("{what} (line {}, column {})", error.line(), error.column()),
    }
}

fn add(
    auths: &BTreeMap<String, Entry>,
    place: &str,
    origin: &Origin,
    keyring: &mut Keyring,
) -> Result<(), CredentialsError> {
    for (host, entry) in auths {
        if let Some((user, proof)) = entry.read(place, host)? {
            let origin = origin.clone();
            keyring.add(host, Credential { user, proof, origin });
        }
    }
    Ok(())
}

impl Entry {
    /// Returns user and proof; `None` for an entry that a helper fills.
    fn read(&self, place: &str, host: &str) -> Result<Option<(String, Proof)>, CredentialsError> {
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (mut user, mut password) = (some(&self.username), some(&self.password));
        if let Some(auth) = some(&self.auth) {
            let bad = || CredentialsError {
                place: place.to_owned(),
                reason: format!("has an auth for {host} that is not the base64 of USER:PASSWORD"),
            };
            let plain = BASE64_STANDARD.decode(auth.trim()).map_err(|_| bad())?;
            // Docker pads with zeros.
            let plain = String::from_utf8(plain).map_err(|_| bad())?;
            let (name, secret) = plain.trim_end_matches('\0').split_once(':').ok_or_else(bad)?;
            (user, password) = (Some(name.to_owned()), Some(secret.to_owned()));
        }
        let user = user.unwrap_or_default();
        if let Some(token) = some(&self.identitytoken) {
            return Ok(Some((user, Proof::IdentityToken(token))));
        }
        if let Some(token) = some(&self.registrytoken) {
            return Ok(Some((user, Proof::RegistryToken(token))));
        }
        Ok(password
            .filter(|_| !user.is_empty())
            .map(|password| (user, Proof::Password(password))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::Secret {
            namespace: "shop".into(),
            name: "pull".into(),
            uid: "1".into(),
        }
    }

    fn read(key: &str, text: &str) -> Result<Keyring, CredentialsError> {
        let mut keyring = Keyring::default();
        from_secret([(key, text.as_bytes())], &origin(), &mut keyring).map(|()| keyring)
    }

    #[test]
    fn both_forms_of_secrets_and_all_forms_of_entries_are_read() {
        let auth = BASE64_STANDARD.encode("ann:s:e");
        let auths = format!(
            r#"{{"a.example": {{"auth": "{auth}"}}, "https://b.example/v1/": {{"username": "bob", "password": "p"}},
                "c.example": {{"username": "00", "identitytoken": "t"}}, "d.example": {{}}}}"#
        );
        for (key, text) in [
            (CONFIG, auths.clone()),
            (CONFIG_JSON, format!(r#"{{"auths": {auths}}}"#)),
        ] {
            let keyring = read(key, &text).unwrap();
            let found = |image: &str| {
                keyring
                    .lookup(image)
                    .into_iter()
                    .map(|c| (c.user, c.proof))
                    .collect::<Vec<_>>()
            };
            assert_eq!(found("a.example/x"), [("ann".into(), Proof::Password("s:e".into()))]);
            assert_eq!(found("b.example/x"), [("bob".into(), Proof::Password("p".into()))]);
            assert_eq!(found("c.example/x"), [("00".into(), Proof::IdentityToken("t".into()))]);
            assert_eq!(found("d.example/x"), []);
        }
    }

    #[test]
    fn errors_say_where_and_never_what() {
        for text in [
            r#"{"auths": {"a.example": {"auth": "c2VjcmV0"}}}"#,
            r#"{"auths": {"a.example": {"password": ["c2VjcmV0"]}}}"#,
            r#"{"auths": "c2VjcmV0"}"#,
            r#"{"auths": c2VjcmV0"#,
        ] {
            let error = read(CONFIG_JSON, text).unwrap_err().to_string();
            assert!(
                error.starts_with(".dockerconfigjson ") && !error.contains("ecr"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let keyring = read(CONFIG, r#"{"a.example": {"username": "bob", "password": "hidden"}}"#).unwrap();
        assert!(!format!("{keyring:?} {:?}", keyring.lookup("a.example/x")[0].proof).contains("hidden"));
    }
}
