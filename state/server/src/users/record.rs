//! A user as its Secret holds it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{NAMESPACE, SECRET_TYPE, Token};

/// The longest name of a user or group, in bytes.
const LONGEST: usize = 253;
/// How many groups or tokens one user may have.
const MOST: usize = 64;

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name, as RBAC's subjects have it.
    pub name: String,
    /// The groups, beside `system:authenticated`.
    pub groups: Vec<String>,
    /// When the certificate that was made for the user ends; `None` when none was.
    pub certificate_expires: Option<Timestamp>,
    /// The bearer tokens.
    pub tokens: Vec<Token>,
}

/// Why a Secret is no user.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is of another type.
    #[error("the Secret is not of type {SECRET_TYPE}")]
    Type,
    /// A key of its data is missing or unreadable.
    #[error("data[{key}]: {reason}")]
    Data {
        /// The key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl User {
    /// The name of the Secret that holds the user of this name. A user's name may hold what a Secret's may not.
    pub fn secret_name(user: &str) -> String {
        let digest = Sha256::digest(user.as_bytes());
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("setpoint-user-{hex}")
    }

    /// Reads a user from its Secret.
    pub fn from_secret(secret: &Value) -> Result<User, RecordError> {
        if secret["type"] != SECRET_TYPE {
            return Err(RecordError::Type);
        }
        let text = |key: &'static str| -> Result<Option<String>, RecordError> {
            let bad = |reason: &str| RecordError::Data {
                key,
                reason: reason.to_owned(),
            };
            match &secret["data"][key] {
                Value::Null => Ok(None),
                value => {
                    let encoded = value.as_str().ok_or_else(|| bad("it is not text"))?;
                    let bytes = STANDARD.decode(encoded).map_err(|_| bad("it is not base64"))?;
                    String::from_utf8(bytes).map(Some).map_err(|_| bad("it is not UTF-8"))
                }
            }
        };
        let bad = |key, reason: String| RecordError::Data { key, reason };
        let name = text("name")?.unwrap_or_default();
        check_name(&name).map_err(|reason| bad("name", reason))?;
        let groups: Vec<String> = text("groups")?.unwrap_or_default().lines().map(str::to_owned).collect();
        if groups.len() > MOST {
            return Err(bad("groups", format!("there may be {MOST} at most")));
        }
        for group in &groups {
            check_word(group).map_err(|reason| bad("groups", reason))?;
        }
        let certificate_expires = match text("certificateExpires")? {
            None => None,
            Some(time) => Some(
                time.parse()
                    .map_err(|error| bad("certificateExpires", format!("{error}")))?,
            ),
        };
        let tokens = match text("tokens")? {
            None => Vec::new(),
            Some(json) => {
                let list: Vec<Value> = serde_json::from_str(&json).map_err(|error| bad("tokens", error.to_string()))?;
                let read = list.iter().map(Token::from_value).collect::<Result<Vec<_>, _>>();
                read.map_err(|reason| bad("tokens", reason))?
            }
        };
        if tokens.len() > MOST {
            return Err(bad("tokens", format!("there may be {MOST} at most")));
        }
        Ok(User {
            name,
            groups,
            certificate_expires,
            tokens,
        })
    }

    /// The user's Secret, as it is created.
    pub fn to_secret(&self) -> Value {
        let mut data = self.data();
        if let Some(data) = data.as_object_mut() {
            data.retain(|_, value| !value.is_null());
        }
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": User::secret_name(&self.name), "namespace": NAMESPACE},
            "type": SECRET_TYPE,
            "data": data,
        })
    }

    /// The Secret's data. What there is none of is null, so that it goes with a merge patch.
    pub fn data(&self) -> Value {
        let mut data = Map::new();
        let mut put = |key: &str, text: Option<String>| {
            let value = text.map_or(Value::Null, |text| STANDARD.encode(text).into());
            data.insert(key.to_owned(), value);
        };
        put("name", Some(self.name.clone()));
        put("groups", (!self.groups.is_empty()).then(|| self.groups.join("\n")));
        put(
            "certificateExpires",
            self.certificate_expires.map(|time| time.to_string()),
        );
        let tokens: Vec<Value> = self.tokens.iter().map(Token::to_value).collect();
        put("tokens", (!tokens.is_empty()).then(|| Value::from(tokens).to_string()));
        Value::Object(data)
    }
}

/// Says what is wrong with a user's name.
fn check_name(name: &str) -> Result<(), String> {
    if name.starts_with("system:") {
        return Err(format!("{name:?} begins with \"system:\", which is Kubernetes' own"));
    }
    check_word(name)
}

/// Says what is wrong with the name of a user or group.
fn check_word(word: &str) -> Result<(), String> {
    if word.is_empty() {
        return Err("it is empty".to_owned());
    }
    if word.len() > LONGEST {
        return Err(format!("{word:?} is longer than {LONGEST} bytes"));
    }
    if word.chars().any(|c| c.is_control()) || word.trim() != word {
        return Err(format!("{word:?} holds a control character, or space at an end"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_comes_back_from_its_secret_as_it_went_in() {
        let user = User {
            name: "ann@example.com".to_owned(),
            groups: vec!["team a".to_owned(), "ops".to_owned()],
            certificate_expires: Some("2027-01-01T00:00:00Z".parse().expect("a time")),
            tokens: vec![Token {
                id: "1".to_owned(),
                sha256: "00".repeat(32),
                expires: None,
            }],
        };
        assert_eq!(User::from_secret(&user.to_secret()), Ok(user));
        let plain = User {
            name: "b".to_owned(),
            ..User::default()
        };
        assert_eq!(User::from_secret(&plain.to_secret()), Ok(plain));
    }

    #[test]
    fn names_that_are_kubernetes_own_or_break_lines_are_refused() {
        for name in ["", "system:node:one", "a\nb", " a", &"a".repeat(300)] {
            let user = User {
                name: name.to_owned(),
                ..User::default()
            };
            assert!(User::from_secret(&user.to_secret()).is_err(), "{name:?}");
        }
        assert_eq!(User::from_secret(&json!({"type": "Opaque"})), Err(RecordError::Type));
    }

    #[test]
    fn every_user_has_a_secret_of_a_name_that_a_secret_may_have() {
        assert_ne!(User::secret_name("a"), User::secret_name("A"));
        let name = User::secret_name("Ünï@x y");
        assert!(
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "{name}"
        );
    }
}
