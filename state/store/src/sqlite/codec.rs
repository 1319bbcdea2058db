//! How values are written: old ones compressed, those that a rule wants sealed encrypted; first the one, then the other.
//!
//! What is sealed is bound to where it lies: key, table and revision. Bytes that were moved elsewhere cannot be opened.

use bytes::Bytes;

use super::rules::Rules;
use crate::keys::{KeyError, KeyId, Keys};
use crate::log::Revision;

/// zstd's level: with a dictionary, more of it finds little more.
const LEVEL: i32 = 3;
/// The most bytes that an old value may say it unpacks to.
const LARGEST: usize = 256 << 20;
/// What zstd takes for the beginning of a trained dictionary; values are dictionaries as they are.
const TRAINED: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];

/// Where bytes lie.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// What was put at a revision.
    Value(Revision),
    /// What was superseded at a revision.
    Past(Revision),
    /// The dictionary of an id.
    Base(Revision),
}

/// Bytes as they are in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// The id of the key that they are encrypted with; 0: none.
    pub(super) sealed: i64,
    pub(super) bytes: Vec<u8>,
}

/// Why stored bytes cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    /// The key does not fit, or is not there.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// They are encrypted and this log was given no keys, or is to encrypt and has none.
    #[error("it is to be encrypted, but there are no keys")]
    NoKeys,
    /// They cannot be compressed or unpacked.
    #[error("it cannot be compressed or unpacked: {0}")]
    Compression(#[from] std::io::Error),
}

/// Writes and reads the bytes of values.
pub(super) struct Codec {
    keys: Option<Keys>,
    rules: Rules,
}

impl Codec {
    pub(super) fn new(keys: Option<Keys>, rules: Rules) -> Codec {
        Codec { keys, rules }
    }

    /// The keys that values are sealed with.
    pub(super) fn keys(&self) -> Option<&Keys> {
        self.keys.as_ref()
    }

    /// How bytes are written for a key.
    pub(super) fn hold(&self, key: &str, place: Place, plain: &[u8]) -> Result<Held, CodecError> {
        if !self.rules.sealed(key) {
            return Ok(Held {
                sealed: 0,
                bytes: plain.to_vec(),
            });
        }
        let keys = self.keys.as_ref().ok_or(CodecError::NoKeys)?;
        let (id, bytes) = keys.seal(&parts(key, place).each_ref().map(Vec::as_slice), plain)?;
        Ok(Held {
            sealed: id.as_i64(),
            bytes,
        })
    }

    /// What was written.
    pub(super) fn release(&self, key: &str, place: Place, held: Held) -> Result<Vec<u8>, CodecError> {
        let Some(id) = KeyId::from_i64(held.sealed)? else {
            return Ok(held.bytes);
        };
        let keys = self.keys.as_ref().ok_or(CodecError::NoKeys)?;
        Ok(keys.open_sealed(id, &parts(key, place).each_ref().map(Vec::as_slice), held.bytes)?)
    }
}

fn parts(key: &str, place: Place) -> [Vec<u8>; 3] {
    let (table, revision) = match place {
        Place::Value(revision) => ("log value", revision),
        Place::Past(revision) => ("log past", revision),
        Place::Base(revision) => ("log base", revision),
    };
    [table.into(), key.into(), revision.to_be_bytes().into()]
}

/// Compresses a value with another one as dictionary (`None`: without).
pub(super) fn compress(plain: &[u8], base: Option<&[u8]>) -> Result<Vec<u8>, CodecError> {
    let mut compressor = zstd::bulk::Compressor::with_dictionary(LEVEL, base.unwrap_or_default())?;
    Ok(compressor.compress(plain)?)
}

/// Makes of it what it was.
pub(super) fn decompress(compressed: &[u8], base: Option<&[u8]>) -> Result<Bytes, CodecError> {
    let size = zstd::zstd_safe::get_frame_content_size(compressed)
        .ok()
        .flatten()
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| *size <= LARGEST)
        .ok_or_else(|| std::io::Error::other("it does not say how large it was"))?;
    let mut decompressor = zstd::bulk::Decompressor::with_dictionary(base.unwrap_or_default())?;
    Ok(decompressor.decompress(compressed, size)?.into())
}

/// Whether a value can be a dictionary.
pub(super) fn can_be_base(value: &[u8]) -> bool {
    value.len() >= 64 && !value.starts_with(&TRAINED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_like_its_base_takes_a_fraction_of_it() {
        let object = |count: u32| {
            let lines: Vec<String> = (0..40)
                .map(|n| format!("\"field{}\":\"{}\"", n * n, n * 7919))
                .collect();
            format!("{{{},\"count\":{count}}}", lines.join(",")).into_bytes()
        };
        let (base, value) = (object(1), object(2));
        let packed = compress(&value, Some(&base)).unwrap();
        assert!(packed.len() * 10 < value.len(), "{} of {}", packed.len(), value.len());
        assert_eq!(decompress(&packed, Some(&base)).unwrap(), value);
        assert!(decompress(&packed, None).map_or(true, |other| other != value));
        let alone = compress(&value, None).unwrap();
        assert_eq!(decompress(&alone, None).unwrap(), value);
        assert_eq!(decompress(&compress(b"", None).unwrap(), None).unwrap(), b"" as &[u8]);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert!(decompress(b"", None).is_err());
        assert!(decompress(b"not compressed at all", None).is_err());
    }
}
