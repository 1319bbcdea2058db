//! The token by which a list goes on after a page.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{DecodeError, Engine};
use serde::{Deserialize, Serialize};

/// The one version of tokens, which is Kubernetes' too.
const VERSION: &str = "meta.k8s.io/v1";

/// Where the next page begins. Clients hand it back as they got it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Continue {
    #[serde(default)]
    v: String,
    /// The revision that the list is of; less than 0 is whatever there is now.
    #[serde(default)]
    pub(super) rv: i64,
    /// The key after which it begins.
    #[serde(default)]
    pub(super) start: String,
    /// How many objects come after that key at the revision, if they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) left: Option<u64>,
}

impl Continue {
    /// Writes a token for what comes after `key` at a revision.
    pub(super) fn encode(revision: u64, key: &str, left: Option<u64>) -> String {
        Continue {
            v: VERSION.to_owned(),
            // Revisions are SQLite's integers.
            rv: i64::try_from(revision).unwrap_or(i64::MAX),
            start: key.to_owned(),
            left,
        }
        .text()
    }

    /// Writes a token for what comes after `key` as things are when it is used.
    pub(super) fn from_now(key: &str) -> String {
        Continue {
            v: VERSION.to_owned(),
            rv: -1,
            start: key.to_owned(),
            left: None,
        }
        .text()
    }

    fn text(&self) -> String {
        // A struct of texts and numbers always serializes.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a token; says what is wrong with it.
    pub(super) fn decode(text: &str) -> Result<Continue, String> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| {
            let at = match error {
                DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
                _ => text.len(),
            };
            format!("continue key is not valid: illegal base64 data at input byte {at}")
        })?;
        let token: Continue =
            serde_json::from_slice(&bytes).map_err(|error| format!("continue key is not valid: {error}"))?;
        if token.v != VERSION {
            return Err(format!(
                "continue key is not valid: server does not recognize this encoded version {}",
                token.v
            ));
        }
        if token.rv == 0 {
            return Err(format!(
                "continue key is not valid: incorrect encoded start resourceVersion (version {VERSION})"
            ));
        }
        if token.start.is_empty() {
            return Err(format!(
                "continue key is not valid: encoded start key empty (version {VERSION})"
            ));
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_others_are_refused() {
        let token = Continue::decode(&Continue::encode(7, "default/a", Some(3))).expect("our own");
        assert_eq!((token.rv, token.start.as_str(), token.left), (7, "default/a", Some(3)));
        let token = Continue::decode(&Continue::from_now("-/a")).expect("our own");
        assert_eq!((token.rv, token.start.as_str(), token.left), (-1, "-/a", None));
        let of = |json: &str| URL_SAFE_NO_PAD.encode(json);
        for (text, why) in [
            ("a*b".to_owned(), "illegal base64 data at input byte 1"),
            (of("{}"), "server does not recognize this encoded version "),
            (
                of("{\"v\":\"v2\"}"),
                "server does not recognize this encoded version v2",
            ),
            (
                of("{\"v\":\"meta.k8s.io/v1\",\"start\":\"a\"}"),
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ),
            (
                of("{\"v\":\"meta.k8s.io/v1\",\"rv\":5}"),
                "encoded start key empty (version meta.k8s.io/v1)",
            ),
        ] {
            assert_eq!(
                Continue::decode(&text),
                Err(format!("continue key is not valid: {why}"))
            );
        }
        assert!(Continue::decode(&of("[1")).is_err());
    }
}
