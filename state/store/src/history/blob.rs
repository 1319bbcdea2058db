//! Blobs: their names, and how they are packed.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::LARGEST;

/// zstd's level: manifests shrink to a tenth at it, and more costs more than it saves.
const LEVEL: i32 = 3;

/// Returns the hex SHA-256 of bytes, the name that a blob has.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A blob as it is stored.
pub(super) struct Packed {
    pub(super) digest: String,
    pub(super) size: i64,
    pub(super) compressed: Vec<u8>,
}

/// Compresses a blob.
pub(super) fn pack(digest: String, plain: &Bytes) -> std::io::Result<Packed> {
    Ok(Packed {
        digest,
        size: i64::try_from(plain.len()).unwrap_or(i64::MAX),
        compressed: zstd::bulk::compress(plain, LEVEL)?,
    })
}

/// What is wrong with a stored blob.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It claims to be larger than any blob.
    Size(i64),
    /// It cannot be unpacked.
    Compressed(std::io::Error),
    /// It is something else.
    Digest(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Size(size) => write!(f, "it claims to have {size} bytes"),
            Unusable::Compressed(error) => write!(f, "it cannot be unpacked ({error})"),
            Unusable::Digest(found) => write!(f, "its bytes have the digest {found}"),
        }
    }
}

/// Decompresses a blob and compares it with its digest; never makes more than the largest blob of it.
pub(super) fn unpack(wanted: &str, size: i64, compressed: &[u8]) -> Result<Bytes, Unusable> {
    let room = usize::try_from(size).map_err(|_| Unusable::Size(size))?;
    if room > LARGEST {
        return Err(Unusable::Size(size));
    }
    let plain = zstd::bulk::decompress(compressed, room).map_err(Unusable::Compressed)?;
    let found = digest(&plain);
    if found != wanted {
        return Err(Unusable::Digest(found));
    }
    Ok(Bytes::from(plain))
}
