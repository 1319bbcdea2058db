//! Service account tokens: JSON Web Tokens signed with a key of this installation (ES256).
//!
//! A token names its account with the account's uid and, when it is bound, a pod with its uid; whether these still exist
//! is asked at each use, by `authn`. The key lies in the data directory, readable for its owner only.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};
use setpoint_api::Status;

use crate::registry::{Now, TokenSigner};

/// Who issues the tokens, and whom they are for when nobody else is named.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Why the signing key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// The file cannot be read or written.
    #[error("cannot {operation} the token signing key {path}")]
    File {
        /// What was being done, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file holds something else, or no key could be made.
    #[error(
        "the token signing key {path} is not usable ({reason}); remove it to have a new one made, which ends all tokens"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What ring says.
        reason: String,
    },
}

/// Signs and checks tokens.
pub struct Tokens {
    key: EcdsaKeyPair,
    random: SystemRandom,
    key_id: String,
    now: Now,
}

/// What a genuine token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The account's namespace.
    pub namespace: String,
    /// The account's name.
    pub name: String,
    /// The account's uid.
    pub uid: String,
    /// The pod that the token is bound to, as (name, uid).
    pub pod: Option<(String, String)>,
    /// Whom the token is for.
    pub audiences: Vec<String>,
    /// The token's own id.
    pub id: String,
}

/// Why a token is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token of ours.
    #[error("invalid bearer token")]
    Invalid,
    /// Its time is over, or has not come.
    #[error("service account token has expired")]
    Expired,
    /// It is for somebody else.
    #[error("token audiences {given:?} is invalid for the target audiences {wanted:?}")]
    Audience {
        /// Whom it is for.
        given: Vec<String>,
        /// Whom it should be for.
        wanted: Vec<String>,
    },
}

impl Tokens {
    /// Reads the key from a file, or makes one.
    pub fn open(path: &Path, now: Now) -> Result<Tokens, TokenKeyError> {
        let random = SystemRandom::new();
        let file = |operation| {
            move |source| TokenKeyError::File {
                operation,
                path: path.to_owned(),
                source,
            }
        };
        let bad = |reason: String| TokenKeyError::Key {
            path: path.to_owned(),
            reason,
        };
        let der = match fs::read(path) {
            Ok(der) => der,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                    .map_err(|error| bad(error.to_string()))?;
                write_secret(path, der.as_ref()).map_err(file("write"))?;
                der.as_ref().to_vec()
            }
            Err(error) => return Err(file("read")(error)),
        };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random)
            .map_err(|error| bad(error.to_string()))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        let key_id = URL_SAFE_NO_PAD.encode(digest.as_ref());
        Ok(Tokens {
            key,
            random,
            key_id,
            now,
        })
    }

    /// Checks form, signature, issuer, time and audience. `audiences` empty means: for the API itself.
    pub fn verify(&self, token: &str, audiences: &[String]) -> Result<Claims, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Invalid)?;
        let header = decode_json(header)?;
        if header["alg"] != "ES256" {
            return Err(TokenError::Invalid);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Invalid)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| TokenError::Invalid)?;
        let payload = decode_json(payload)?;
        if payload["iss"] != ISSUER {
            return Err(TokenError::Invalid);
        }
        let now = (self.now)().as_second();
        let not_before = payload["nbf"].as_i64().unwrap_or(i64::MIN);
        let expires = payload["exp"].as_i64().ok_or(TokenError::Invalid)?;
        // A clock may be off a little between the machine that signed and this one.
        if now >= expires || now + 60 < not_before {
            return Err(TokenError::Expired);
        }
        let given: Vec<String> = match &payload["aud"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(many) => many
                .iter()
                .filter_map(|item| item.as_str().map(str::to_owned))
                .collect(),
            _ => Vec::new(),
        };
        let own = [ISSUER.to_owned()];
        let wanted = if audiences.is_empty() { &own[..] } else { audiences };
        if !given.iter().any(|audience| wanted.contains(audience)) {
            return Err(TokenError::Audience {
                given,
                wanted: wanted.to_vec(),
            });
        }
        let bound = &payload["kubernetes.io"];
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or(TokenError::Invalid);
        let pod = match &bound["pod"] {
            Value::Object(pod) => Some((
                text(pod.get("name").unwrap_or(&Value::Null))?,
                text(pod.get("uid").unwrap_or(&Value::Null))?,
            )),
            _ => None,
        };
        Ok(Claims {
            namespace: text(&bound["namespace"])?,
            name: text(&bound["serviceaccount"]["name"])?,
            uid: text(&bound["serviceaccount"]["uid"])?,
            pod,
            audiences: given.into_iter().filter(|audience| wanted.contains(audience)).collect(),
            id: payload["jti"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// The public key as a JSON Web Key Set.
    pub fn key_set(&self) -> Value {
        // An uncompressed point: one byte of form, then x and y.
        let point = self.key.public_key().as_ref();
        let half = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": half(1..33), "y": half(33..65),
        }]})
    }

    /// What OpenID Connect clients look for to check the tokens.
    pub fn openid_configuration(&self) -> Value {
        json!({
            "issuer": ISSUER,
            "jwks_uri": format!("{ISSUER}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}

impl TokenSigner for Tokens {
    fn sign(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        audiences: &[String],
        expires: Timestamp,
        bound: Option<&Value>,
    ) -> Result<String, Status> {
        let now = (self.now)().as_second();
        let mut own = json!({
            "namespace": namespace,
            "serviceaccount": {"name": name, "uid": uid},
        });
        if let Some(bound) = bound {
            let key = match bound["kind"].as_str() {
                Some("Pod") => "pod",
                Some("Secret") => "secret",
                Some("Node") => "node",
                _ => {
                    return Err(Status::bad_request(
                        "a token can be bound to a Pod, Secret or Node only",
                    ));
                }
            };
            own[key] = json!({"name": bound["name"], "uid": bound["uid"]});
        }
        let audiences = match audiences {
            [] => vec![ISSUER.to_owned()],
            some => some.to_vec(),
        };
        let header = json!({"alg": "ES256", "kid": self.key_id, "typ": "JWT"});
        let payload = json!({
            "iss": ISSUER,
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "aud": audiences,
            "iat": now,
            "nbf": now,
            "exp": expires.as_second(),
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": own,
        });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&payload));
        let signature = self
            .key
            .sign(&self.random, signed.as_bytes())
            .map_err(|_| Status::internal("the token cannot be signed"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}

fn decode_json(part: &str) -> Result<Value, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Invalid)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Invalid)
}

/// Writes a file that only its owner reads, all of it or nothing.
fn write_secret(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    fn tokens(dir: &Path, at: &Arc<AtomicI64>) -> Tokens {
        let at = Arc::clone(at);
        let now: Now = Arc::new(move || Timestamp::from_second(at.load(Ordering::SeqCst)).expect("a time in range"));
        Tokens::open(&dir.join("key"), now).expect("a key")
    }

    fn sign(tokens: &Tokens, audiences: &[String], bound: Option<&Value>) -> String {
        let expires = Timestamp::from_second(2_000).expect("a time");
        tokens
            .sign("default", "robot", "u-1", audiences, expires, bound)
            .expect("a token")
    }

    #[test]
    fn a_token_is_good_until_it_expires_also_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Arc::new(AtomicI64::new(1_000));
        let pod = json!({"kind": "Pod", "name": "p", "uid": "u-2"});
        let token = sign(&tokens(dir.path(), &clock), &[], Some(&pod));
        let again = tokens(dir.path(), &clock);
        let claims = again.verify(&token, &[]).expect("a good token");
        assert_eq!((claims.namespace.as_str(), claims.name.as_str()), ("default", "robot"));
        assert_eq!(claims.uid, "u-1");
        assert_eq!(claims.pod, Some(("p".to_owned(), "u-2".to_owned())));
        clock.store(2_000, Ordering::SeqCst);
        assert_eq!(again.verify(&token, &[]), Err(TokenError::Expired));
    }

    #[test]
    fn a_token_for_others_or_with_a_changed_byte_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Arc::new(AtomicI64::new(1_000));
        let tokens = tokens(dir.path(), &clock);
        let vault = vec!["vault".to_owned()];
        let token = sign(&tokens, &vault, None);
        assert!(matches!(tokens.verify(&token, &[]), Err(TokenError::Audience { .. })));
        assert_eq!(tokens.verify(&token, &vault).expect("good").audiences, vault);
        let payload = URL_SAFE_NO_PAD.encode(r#"{"iss":"x"}"#);
        let parts: Vec<&str> = token.split('.').collect();
        let forged = format!("{}.{payload}.{}", parts[0], parts[2]);
        assert_eq!(tokens.verify(&forged, &vault), Err(TokenError::Invalid));
        assert_eq!(tokens.verify("", &[]), Err(TokenError::Invalid));
        assert_eq!(tokens.verify("a.b.c", &[]), Err(TokenError::Invalid));
    }

    #[test]
    fn the_key_is_readable_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Arc::new(AtomicI64::new(0));
        let tokens = tokens(dir.path(), &clock);
        let mode = fs::metadata(dir.path().join("key"))
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(tokens.key_set()["keys"][0]["crv"], "P-256");
    }
}
