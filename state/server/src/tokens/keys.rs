//! The keys that sign tokens: one signs, the next is published before it does, those before it are accepted as long as anything
//! that they signed may be in use.
//!
//! `service-account.key` signs. Once a year `service-account.next.key` is made and published, so that whoever keeps the key set for
//! a while (an OpenID Connect client) knows it in time; a week later it takes the place of the first, whose public half stays in
//! `service-account.old.json` with the day on which it was replaced. Public halves are never removed: a token that is kept in a
//! Secret has no end, and a key takes a hundred bytes a year.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};

const SIGNING: &str = "service-account.key";
const NEXT: &str = "service-account.next.key";
const OLD: &str = "service-account.old.json";

/// How long a key signs before the next is made.
const SIGNS_FOR: SignedDuration = SignedDuration::from_hours(24 * 365);
/// How long the next one is published before it signs.
const PUBLISHED_FOR: SignedDuration = SignedDuration::from_hours(24 * 7);

/// Why the signing keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TokenKeyError {
    /// A file cannot be read or written.
    #[error("cannot {operation} the token signing key {path}", path = path.display())]
    File {
        /// What was being done, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file holds something else, or no key could be made.
    #[error(
        "the token signing key {path} is not usable ({reason}); remove it to have a new one made, which ends the tokens that it signed",
        path = path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A key with its private half.
struct Key {
    pair: EcdsaKeyPair,
    public: Public,
    /// When it was made.
    since: Timestamp,
}

/// A key that is accepted.
#[derive(Clone)]
struct Public {
    id: String,
    point: Vec<u8>,
}

impl Public {
    fn new(point: &[u8]) -> Public {
        let digest = ring::digest::digest(&ring::digest::SHA256, point);
        Public {
            id: URL_SAFE_NO_PAD.encode(digest.as_ref()),
            point: point.to_vec(),
        }
    }

    fn to_jwk(&self) -> Value {
        // An uncompressed point: one byte of form, then x and y.
        let half = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(self.point.get(range).unwrap_or_default());
        json!({
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": half(1..33), "y": half(33..65),
        })
    }
}

/// The keys of one installation.
pub(super) struct Keys {
    dir: PathBuf,
    random: SystemRandom,
    signing: Key,
    next: Option<Key>,
    /// Oldest first, each with the time at which it was replaced.
    old: Vec<(Public, String)>,
}

impl Keys {
    /// Reads the keys from a directory; makes the first.
    pub(super) fn open(dir: &Path, now: Timestamp) -> Result<Keys, TokenKeyError> {
        let random = SystemRandom::new();
        let signing = match read(&dir.join(SIGNING), &random)? {
            Some(key) => key,
            None => make(&dir.join(SIGNING), &random, now)?,
        };
        let next = read(&dir.join(NEXT), &random)?;
        let old = read_old(&dir.join(OLD))?;
        Ok(Keys {
            dir: dir.to_owned(),
            random,
            signing,
            next,
            old,
        })
    }

    /// Whether [`Keys::renew`] has something to do.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        match &self.next {
            None => now.duration_since(self.signing.since) >= SIGNS_FOR,
            Some(next) => now.duration_since(next.since) >= PUBLISHED_FOR,
        }
    }

    /// Makes the next key when it is time, or lets it sign; says whether either was done.
    pub(super) fn renew(&mut self, now: Timestamp) -> Result<bool, TokenKeyError> {
        if !self.is_due(now) {
            return Ok(false);
        }
        let path = self.dir.join(NEXT);
        let Some(next) = self.next.take() else {
            self.next = Some(make(&path, &self.random, now)?);
            return Ok(true);
        };
        // The old one is accepted before the new one signs: whatever is cut off in between, no token is lost.
        let mut old = self.old.clone();
        old.retain(|(public, _)| public.id != self.signing.public.id);
        old.push((self.signing.public.clone(), now.to_string()));
        let taken = write_old(&self.dir.join(OLD), &old).and_then(|()| {
            let signing = self.dir.join(SIGNING);
            fs::rename(&path, &signing).map_err(fail("replace", &signing))
        });
        match taken {
            Ok(()) => {
                (self.old, self.signing) = (old, next);
                Ok(true)
            }
            Err(error) => {
                self.next = Some(next);
                Err(error)
            }
        }
    }

    /// The id of the key that signs.
    pub(super) fn signing_id(&self) -> &str {
        &self.signing.public.id
    }

    /// Signs; `None` when the system has no randomness.
    pub(super) fn sign(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let signature = self.signing.pair.sign(&self.random, bytes).ok()?;
        Some(signature.as_ref().to_vec())
    }

    /// Whether a signature is of the key with this id.
    pub(super) fn accepts(&self, id: &Value, signed: &[u8], signature: &[u8]) -> bool {
        let Some(public) = self.all().find(|public| *id == public.id) else {
            return false;
        };
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &public.point)
            .verify(signed, signature)
            .is_ok()
    }

    /// The public halves as a JSON Web Key Set.
    pub(super) fn key_set(&self) -> Value {
        json!({"keys": self.all().map(Public::to_jwk).collect::<Vec<_>>()})
    }

    fn all(&self) -> impl Iterator<Item = &Public> {
        let next = self.next.as_ref().map(|key| &key.public);
        std::iter::once(&self.signing.public)
            .chain(next)
            .chain(self.old.iter().rev().map(|(public, _)| public))
    }
}

fn fail(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> TokenKeyError {
    let path = path.to_owned();
    move |source| TokenKeyError::File {
        operation,
        path,
        source,
    }
}

fn unusable(path: &Path, reason: impl ToString) -> TokenKeyError {
    TokenKeyError::Key {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn read(path: &Path, random: &SystemRandom) -> Result<Option<Key>, TokenKeyError> {
    let der = match fs::read(path) {
        Ok(der) => der,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail("read", path)(error)),
    };
    // A key holds no date; its file has the one of its making, which a rename keeps.
    let since = fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .map_err(fail("look at", path))?;
    let since = Timestamp::try_from(since).map_err(|error| unusable(path, error))?;
    key(path, &der, random, since).map(Some)
}

fn key(path: &Path, der: &[u8], random: &SystemRandom, since: Timestamp) -> Result<Key, TokenKeyError> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, random)
        .map_err(|error| unusable(path, error))?;
    let public = Public::new(pair.public_key().as_ref());
    Ok(Key { pair, public, since })
}

fn make(path: &Path, random: &SystemRandom, now: Timestamp) -> Result<Key, TokenKeyError> {
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, random)
        .map_err(|error| unusable(path, error))?;
    let made =
        std::time::SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0)));
    write(path, der.as_ref(), made).map_err(fail("write", path))?;
    key(path, der.as_ref(), random, now)
}

fn read_old(path: &Path) -> Result<Vec<(Public, String)>, TokenKeyError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail("read", path)(error)),
    };
    let list: Vec<(String, String)> = serde_json::from_slice(&bytes).map_err(|error| unusable(path, error))?;
    let read = |(point, replaced): (String, String)| {
        let point = URL_SAFE_NO_PAD.decode(point).map_err(|error| unusable(path, error))?;
        Ok((Public::new(&point), replaced))
    };
    list.into_iter().map(read).collect()
}

fn write_old(path: &Path, old: &[(Public, String)]) -> Result<(), TokenKeyError> {
    let list: Vec<(String, &String)> = old
        .iter()
        .map(|(public, replaced)| (URL_SAFE_NO_PAD.encode(&public.point), replaced))
        .collect();
    write(path, json!(list).to_string().as_bytes(), None).map_err(fail("write", path))
}

/// Writes a file that only its owner reads, all of it or nothing.
fn write(path: &Path, bytes: &[u8], modified: Option<std::time::SystemTime>) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    if let Some(modified) = modified {
        file.set_modified(modified)?;
    }
    file.sync_all()?;
    fs::rename(&temporary, path)
}
