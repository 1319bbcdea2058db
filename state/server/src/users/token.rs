//! Bearer tokens of users: `setpoint.USER.SECRET`, both parts base64url. Only the digest of the whole is kept.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What the tokens of users begin with; those of service accounts are JSON Web Tokens, which begin otherwise.
const PREFIX: &str = "setpoint.";
/// The longest token that is looked at, in bytes.
const LONGEST: usize = 1024;

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is called in lists and when it is removed.
    pub id: String,
    /// The digest of the token's text, in hexadecimal.
    pub sha256: String,
    /// When it ends; `None` for never.
    pub expires: Option<Timestamp>,
}

/// A token's text, which is shown once. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText(String);

impl fmt::Debug for TokenText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("TokenText")
    }
}

impl TokenText {
    /// Makes the token of a user from random bytes.
    pub fn new(user: &str, random: &[u8; 32]) -> TokenText {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        TokenText(format!("{PREFIX}{}.{}", encode(user.as_bytes()), encode(random)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn kept(&self, expires: Option<Timestamp>) -> Token {
        let sha256 = digest(&self.0);
        Token {
            // Long enough to tell a user's tokens apart, and of no use to whoever reads it.
            id: sha256.chars().take(10).collect(),
            sha256,
            expires,
        }
    }
}

impl Token {
    /// Reads a token from the list in a user's Secret.
    pub(super) fn from_value(value: &Value) -> Result<Token, String> {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let (id, sha256) = (text("id"), text("sha256"));
        if id.is_empty() || sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("a token has no id, or no digest".to_owned());
        }
        let expires = match &value["expires"] {
            Value::Null => None,
            time => {
                let time = time.as_str().and_then(|time| time.parse().ok());
                Some(time.ok_or_else(|| format!("the end of token {id} is no time"))?)
            }
        };
        Ok(Token { id, sha256, expires })
    }

    /// The token for the list in a user's Secret.
    pub(super) fn to_value(&self) -> Value {
        json!({"id": self.id, "sha256": self.sha256, "expires": self.expires.map(|time| time.to_string())})
    }

    /// Whether this text is the token, and good at this time.
    pub(crate) fn accepts(&self, text: &str, now: Timestamp) -> bool {
        // Digests may be compared at any speed: what is learned of one says nothing of a text that has it.
        self.expires.is_none_or(|end| now < end) && digest(text) == self.sha256
    }
}

/// The user whose token a text says it is; `None` when it is no token of a user.
pub(crate) fn user_of(text: &str) -> Option<String> {
    if text.len() > LONGEST {
        return None;
    }
    let (user, _) = text.strip_prefix(PREFIX)?.split_once('.')?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(user).ok()?).ok()
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_text_until_its_end() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let text = TokenText::new("Ann", &[7; 32]);
        assert_eq!(user_of(text.as_str()).as_deref(), Some("Ann"));
        let kept = text.kept(Some(at(100)));
        assert!(kept.accepts(text.as_str(), at(99)));
        assert!(!kept.accepts(text.as_str(), at(100)));
        assert!(!kept.accepts(TokenText::new("Ann", &[8; 32]).as_str(), at(99)));
        assert_eq!(Token::from_value(&kept.to_value()), Ok(kept));
        assert!(!format!("{text:?}").contains(text.as_str()));
    }

    #[test]
    fn what_is_no_token_of_a_user_names_none() {
        for text in [
            "",
            "a.b.c",
            "setpoint.",
            "setpoint.!.x",
            "setpoint.QQ",
            &format!("setpoint.{}.x", "Q".repeat(4000)),
        ] {
            assert_eq!(user_of(text), None, "{text}");
        }
    }
}
