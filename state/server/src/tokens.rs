//! Service account tokens: JSON Web Tokens signed with a key of this installation (ES256).
//!
//! A token names its account with the account's uid and, when it is bound, a pod, Secret or node with its uid; whether these
//! still exist is asked at each use, by `authn`. The keys lie in the data directory, readable for their owner only ([`keys`]).
//! Tokens that are kept in a Secret for good have no end of their own and another form, as Kubernetes' have ([`claims`]).

mod claims;
mod keys;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;
use serde_json::{Value, json};
use setpoint_api::Status;

pub(crate) use claims::Claims;
pub use claims::Named;
pub use keys::TokenKeyError;

use crate::registry::{Now, TokenRequest, TokenSigner};
use keys::Keys;

/// Who issues the tokens, and whom they are for when nobody else is named.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// How far the clock of the machine that signed may be ahead, in seconds.
const SKEW: i64 = 60;

/// Signs and checks tokens.
pub(crate) struct Tokens {
    keys: RwLock<Keys>,
    now: Now,
}

/// Why a token is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// It is no token of ours.
    #[error("invalid bearer token")]
    Invalid,
    /// Its time is over, or has not come.
    #[error("service account token has expired")]
    Expired,
    /// It is for somebody else.
    #[error("token audiences {} is invalid for the target audiences {}", quoted(.given), quoted(.wanted))]
    Audience {
        /// Whom it is for.
        given: Vec<String>,
        /// Whom it should be for.
        wanted: Vec<String>,
    },
}

impl Tokens {
    /// Reads the keys from a directory, or makes one.
    pub(crate) fn open(dir: &Path, now: Now) -> Result<Tokens, TokenKeyError> {
        let keys = RwLock::new(Keys::open(dir, now())?);
        Ok(Tokens { keys, now })
    }

    /// Takes the next step of the keys' renewal where one is due; says whether one was. Cheap when none is.
    pub(crate) fn renew(&self) -> Result<bool, TokenKeyError> {
        let now = (self.now)();
        if !self.keys.read().is_due(now) {
            return Ok(false);
        }
        self.keys.write().renew(now)
    }

    /// Checks form, signature, issuer, time and audience. `audiences` empty means: for the API itself.
    pub(crate) fn verify(&self, token: &str, audiences: &[String]) -> Result<Claims, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Invalid)?;
        let header = decode_json(header)?;
        if header["alg"] != "ES256" {
            return Err(TokenError::Invalid);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Invalid)?;
        if !self.keys.read().accepts(&header["kid"], signed.as_bytes(), &signature) {
            return Err(TokenError::Invalid);
        }
        let payload = decode_json(payload)?;
        let own = [ISSUER.to_owned()];
        let wanted = if audiences.is_empty() { &own[..] } else { audiences };
        if payload["iss"] == claims::LEGACY_ISSUER {
            // A token for good is for the API alone; its Secret, not a date, ends it.
            if !wanted.contains(&own[0]) {
                return Err(TokenError::Audience {
                    given: own.to_vec(),
                    wanted: wanted.to_vec(),
                });
            }
            return Claims::read_legacy(&payload, own.to_vec());
        }
        if payload["iss"] != ISSUER {
            return Err(TokenError::Invalid);
        }
        let now = (self.now)().as_second();
        let not_before = payload["nbf"].as_i64().unwrap_or(i64::MIN);
        let expires = payload["exp"].as_i64().ok_or(TokenError::Invalid)?;
        if now >= expires || now.saturating_add(SKEW) < not_before {
            return Err(TokenError::Expired);
        }
        let given: Vec<String> = match &payload["aud"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let good: Vec<String> = given
            .iter()
            .filter(|audience| wanted.contains(audience))
            .cloned()
            .collect();
        if good.is_empty() {
            return Err(TokenError::Audience {
                given,
                wanted: wanted.to_vec(),
            });
        }
        Claims::read(&payload, good)
    }

    /// The public keys as a JSON Web Key Set: those that sign, will sign, and have signed what may still be in use.
    pub(crate) fn key_set(&self) -> Value {
        self.keys.read().key_set()
    }

    /// What OpenID Connect clients look for to check the tokens.
    pub(crate) fn openid_configuration(&self) -> Value {
        json!({
            "issuer": ISSUER,
            "jwks_uri": format!("{ISSUER}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    fn signed(&self, payload: &Value) -> Result<String, Status> {
        let keys = self.keys.read();
        let header = json!({"alg": "ES256", "kid": keys.signing_id(), "typ": "JWT"});
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let text = format!("{}.{}", encode(&header), encode(payload));
        let signature = keys
            .sign(text.as_bytes())
            .ok_or_else(|| Status::internal("the token cannot be signed"))?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl TokenSigner for Tokens {
    fn sign(&self, request: &TokenRequest<'_>) -> Result<String, Status> {
        let TokenRequest {
            account,
            namespace,
            audiences,
            expires,
            ..
        } = request;
        let now = (self.now)().as_second();
        let mut own = json!({"namespace": namespace, "serviceaccount": account.to_value()});
        let bound = [("pod", request.pod), ("secret", request.secret), ("node", request.node)];
        for (key, named) in bound {
            if let Some(named) = named {
                own[key] = named.to_value();
            }
        }
        self.signed(&json!({
            "iss": ISSUER,
            "sub": format!("system:serviceaccount:{namespace}:{}", account.name),
            "aud": audiences,
            "iat": now,
            "nbf": now,
            "exp": expires.as_second(),
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": own,
        }))
    }

    fn sign_for_secret(&self, namespace: &str, account: &Named, secret: &str) -> Result<String, Status> {
        self.signed(&claims::legacy(namespace, account, secret))
    }

    fn own_audience(&self) -> &str {
        ISSUER
    }
}

/// A list as Kubernetes prints it: `["a" "b"]`.
pub(crate) fn quoted(list: &[String]) -> String {
    let list: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", list.join(" "))
}

fn decode_json(part: &str) -> Result<Value, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Invalid)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Invalid)
}

#[cfg(test)]
mod tests;
