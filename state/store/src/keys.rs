//! The keys that values are sealed with where they lie on disk.
//!
//! A key file holds every key that was ever used; the last one seals what is new, the others only open what is old. A value
//! is sealed with AES-256-GCM under a random nonce and bound to its place, so that a value moved elsewhere does not open there.
//!
//! Invariants:
//! * A key is durable in its file before anything is sealed with it.
//! * A key that is held is never dropped: not by [`Keys::reload`], and [`Keys::rotate`] writes it back if the file lost it.
//! * Key bytes leave this module only as lines of a key file ([`Keys::to_text`]).
//!
//! A random nonce bears 2³² values under one key (NIST SP 800-38D, 8.3); rotation is due long before.
//!
//! Where to start: `file` for the format, `stream` for what is too long to be sealed in one piece.

mod error;
mod file;
mod stream;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

pub use error::KeyError;
pub use stream::{OpenReader, SealWriter};

/// The length of a key in bytes.
const KEY_LEN: usize = 32;

/// The number of a key: random, never 0, written as eight hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u32);

impl KeyId {
    /// Takes a number; `None` for 0, which no key has.
    pub fn new(id: u32) -> Option<KeyId> {
        (id != 0).then_some(KeyId(id))
    }

    /// Returns the number as a column of a table holds it; a column that holds 0 says "not sealed".
    pub fn as_i64(self) -> i64 {
        i64::from(self.0)
    }

    /// Reads a column of a table: `None` for 0, "not sealed".
    ///
    /// # Errors
    /// [`KeyError::NoId`] when the number cannot be a key's.
    pub fn from_i64(column: i64) -> Result<Option<KeyId>, KeyError> {
        u32::try_from(column)
            .map(KeyId::new)
            .map_err(|_| KeyError::NoId { column })
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl std::str::FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<KeyId, KeyError> {
        Some(text)
            .filter(|text| text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|text| u32::from_str_radix(text, 16).ok())
            .and_then(KeyId::new)
            .ok_or_else(|| KeyError::NoIdText {
                text: text.chars().take(40).collect(),
            })
    }
}

/// One key, ready for use.
struct Key {
    id: KeyId,
    bytes: [u8; KEY_LEN],
    aead: LessSafeKey,
}

impl Key {
    fn new(id: KeyId, bytes: [u8; KEY_LEN]) -> Key {
        Key {
            id,
            bytes,
            aead: aead(&bytes),
        }
    }

    fn random(random: &SystemRandom, taken: impl Fn(KeyId) -> bool) -> Result<Key, KeyError> {
        let mut bytes = [0; KEY_LEN];
        random.fill(&mut bytes).map_err(|_| KeyError::Random)?;
        // A number that is taken, or 0, is drawn again; so many in a row are no chance.
        for _ in 0..64 {
            let mut id = [0; 4];
            random.fill(&mut id).map_err(|_| KeyError::Random)?;
            if let Some(id) = KeyId::new(u32::from_be_bytes(id)).filter(|id| !taken(*id)) {
                return Ok(Key::new(id, bytes));
            }
        }
        Err(KeyError::Random)
    }
}

fn aead(bytes: &[u8; KEY_LEN]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).expect("32 bytes are a key of AES-256"))
}

struct Shared {
    /// Where the keys are kept; `None` for keys that came from no file.
    path: Option<PathBuf>,
    /// In the order of the file; never empty; the last one is for new values.
    keys: RwLock<Vec<Arc<Key>>>,
    random: SystemRandom,
}

/// The keys of one key file. Cheap to clone; all clones see a rotation at once.
#[derive(Clone)]
pub struct Keys {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<String> = self.ids().iter().map(KeyId::to_string).collect();
        f.debug_struct("Keys").field("ids", &ids).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the key file at `path`, or makes one (0600) with one random key when there is none.
    ///
    /// # Errors
    /// As [`Keys::load`]; [`KeyError::Random`] when no key can be made.
    pub fn open(path: &Path) -> Result<Keys, KeyError> {
        if !path.try_exists().map_err(file::failed(path, "read"))? {
            let random = SystemRandom::new();
            let key = Key::random(&random, |_| false)?;
            file::create(path, &file::first_text(&key))?;
        }
        Keys::load(path)
    }

    /// Reads the key file at `path`, which has to be there.
    ///
    /// # Errors
    /// [`KeyError::File`], [`KeyError::Permissions`], [`KeyError::Format`] and [`KeyError::Unusable`] name the file and say what is wrong with it.
    pub fn load(path: &Path) -> Result<Keys, KeyError> {
        let keys = file::parse(path, &file::read(path)?)?;
        Ok(Keys::of(Some(path.to_path_buf()), keys))
    }

    /// Takes keys from the text of a key file, such as one that a backup carries. They have no file, so that they cannot be rotated.
    ///
    /// # Errors
    /// [`KeyError::Format`] and [`KeyError::Unusable`], naming `origin` in place of the path.
    pub fn from_text(text: &str, origin: &str) -> Result<Keys, KeyError> {
        Ok(Keys::of(None, file::parse(Path::new(origin), text)?))
    }

    /// Writes the keys to a new file at `path` (0600) and returns them as that file's.
    ///
    /// # Errors
    /// [`KeyError::Unusable`] when the file is there already; else as [`Keys::load`].
    pub fn save(&self, path: &Path) -> Result<Keys, KeyError> {
        if !file::create(path, &self.to_text())? {
            return Err(KeyError::Unusable {
                path: path.to_path_buf(),
                what: "is there already",
            });
        }
        Keys::load(path)
    }

    fn of(path: Option<PathBuf>, keys: Vec<Key>) -> Keys {
        Keys {
            shared: Arc::new(Shared {
                path,
                keys: RwLock::new(keys.into_iter().map(Arc::new).collect()),
                random: SystemRandom::new(),
            }),
        }
    }

    /// Returns the keys as the text of a key file: whoever has it can read everything.
    pub fn to_text(&self) -> String {
        file::text(&self.shared.keys.read())
    }

    /// Returns the key that new values are sealed with.
    pub fn newest(&self) -> KeyId {
        self.newest_key().id
    }

    /// Returns all keys, oldest first.
    pub fn ids(&self) -> Vec<KeyId> {
        self.shared.keys.read().iter().map(|key| key.id).collect()
    }

    /// Returns whether the key is held.
    pub fn has(&self, id: KeyId) -> bool {
        self.shared.keys.read().iter().any(|key| key.id == id)
    }

    fn newest_key(&self) -> Arc<Key> {
        let keys = self.shared.keys.read();
        keys.last().expect("there is always a key").clone()
    }

    fn key(&self, id: KeyId) -> Result<Arc<Key>, KeyError> {
        let keys = self.shared.keys.read();
        keys.iter()
            .find(|key| key.id == id)
            .cloned()
            .ok_or_else(|| KeyError::Missing {
                id,
                path: self
                    .shared
                    .path
                    .as_ref()
                    .map_or_else(|| "the key file".to_string(), |path| path.display().to_string()),
            })
    }

    /// Seals `plain` with the newest key for one place, such as table, key and revision: it opens only with the same key and the same place.
    ///
    /// The answer is the key and: nonce, ciphertext, tag; 28 bytes more than `plain`.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the system gives no random bytes, [`KeyError::TooLong`] beyond 64 GiB.
    pub fn seal(&self, place: &[&[u8]], plain: &[u8]) -> Result<(KeyId, Vec<u8>), KeyError> {
        let key = self.newest_key();
        let mut nonce = [0; NONCE_LEN];
        self.shared.random.fill(&mut nonce).map_err(|_| KeyError::Random)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = key
            .aead
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated(place)),
                &mut sealed[NONCE_LEN..],
            )
            .map_err(|_| KeyError::TooLong { bytes: plain.len() })?;
        sealed.extend_from_slice(tag.as_ref());
        Ok((key.id, sealed))
    }

    /// Opens what [`Keys::seal`] answered, for the same place.
    ///
    /// # Errors
    /// [`KeyError::Missing`] when the key is not held, [`KeyError::Damaged`] when the value or its place is not what was sealed.
    pub fn open_sealed(&self, id: KeyId, place: &[&[u8]], mut sealed: Vec<u8>) -> Result<Vec<u8>, KeyError> {
        let key = self.key(id)?;
        let damaged = KeyError::Damaged { id };
        let Some((nonce, _)) = sealed.split_first_chunk::<NONCE_LEN>() else {
            return Err(damaged);
        };
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let Ok(plain) = key
            .aead
            .open_within(nonce, Aad::from(associated(place)), &mut sealed, NONCE_LEN..)
        else {
            return Err(damaged);
        };
        let length = plain.len();
        sealed.truncate(length);
        Ok(sealed)
    }

    /// Adds a new key to the file, durably, and seals with it from then on; older keys go on opening what they sealed.
    ///
    /// Other processes take it up by [`Keys::reload`].
    ///
    /// # Errors
    /// As [`Keys::load`]; [`KeyError::File`] too when another process changes the file at the same time, or when the keys have no file.
    pub fn rotate(&self) -> Result<KeyId, KeyError> {
        let mut added = None;
        self.change(|held, random| {
            let key = Key::random(random, |id| held.iter().any(|key| key.id == id))?;
            added = Some(key.id);
            held.push(Arc::new(key));
            Ok(())
        })?;
        Ok(added.expect("the change was made, so a key was added"))
    }

    /// Adds the keys of `other` that are not held to the file, durably, as older ones: what they sealed can be opened from then on.
    ///
    /// # Errors
    /// As [`Keys::rotate`]; [`KeyError::Conflict`] when a number stands for two different keys.
    pub fn adopt(&self, other: &Keys) -> Result<(), KeyError> {
        let others: Vec<Arc<Key>> = other.shared.keys.read().clone();
        self.change(|held, _| merge(held, others, true))
    }

    /// Takes up what the file says now, after another process has changed it. Keys that are held and are not in the file stay.
    ///
    /// # Errors
    /// As [`Keys::load`], and [`KeyError::Conflict`]; the keys that are held stay in use then.
    pub fn reload(&self) -> Result<(), KeyError> {
        let Some(path) = &self.shared.path else {
            return Ok(());
        };
        // Held while the file is read: of two at once the later one has the later file.
        let mut keys = self.shared.keys.write();
        let read = file::parse(path, &file::read(path)?)?;
        let mut merged = keys.clone();
        merge(&mut merged, read.into_iter().map(Arc::new).collect(), false)?;
        *keys = merged;
        Ok(())
    }

    /// Changes the file and then the keys that are held, starting from what both have; one process at a time.
    fn change(
        &self,
        act: impl FnOnce(&mut Vec<Arc<Key>>, &SystemRandom) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        let path = self.shared.path.as_deref().ok_or_else(|| KeyError::Unusable {
            path: PathBuf::from("these keys"),
            what: "come from no file and cannot be changed",
        })?;
        let _lock = file::lock(path)?;
        let read = file::parse(path, &file::read(path)?)?;
        let mut keys = self.shared.keys.write();
        let mut changed = keys.clone();
        merge(&mut changed, read.into_iter().map(Arc::new).collect(), false)?;
        act(&mut changed, &self.shared.random)?;
        file::replace(path, &file::text(&changed))?;
        *keys = changed;
        Ok(())
    }
}

/// Merges two lists of keys: what only one has goes first, so that the newest of `other` (or of `held`, when `older` is set) stays last.
fn merge(held: &mut Vec<Arc<Key>>, other: Vec<Arc<Key>>, older: bool) -> Result<(), KeyError> {
    for key in &other {
        if let Some(twin) = held.iter().find(|twin| twin.id == key.id)
            && twin.bytes != key.bytes
        {
            return Err(KeyError::Conflict { id: key.id });
        }
    }
    let (first, last) = if older {
        (other, std::mem::take(held))
    } else {
        (std::mem::take(held), other)
    };
    held.extend(
        first
            .into_iter()
            .filter(|key| last.iter().all(|other| other.id != key.id)),
    );
    held.extend(last);
    Ok(())
}

/// Writes a place so that no two places are written alike: each part after its length.
fn associated(place: &[&[u8]]) -> Vec<u8> {
    let mut written = Vec::with_capacity(place.iter().map(|part| part.len() + 8).sum());
    for part in place {
        written.extend_from_slice(&(part.len() as u64).to_be_bytes());
        written.extend_from_slice(part);
    }
    written
}
