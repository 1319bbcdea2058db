//! How values are written: old ones compressed, those that a rule wants sealed encrypted; first the one, then the other.
//!
//! What is sealed is bound to where it lies: key, table and revision. Bytes that were moved elsewhere cannot be opened.

use bytes::Bytes;
use zstd::zstd_safe;

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

/// Compresses and unpacks; what zstd needs for that is made once.
pub(super) struct Zstd {
    packing: zstd_safe::CCtx<'static>,
    unpacking: zstd_safe::DCtx<'static>,
}

impl Zstd {
    pub(super) fn new() -> Zstd {
        Zstd {
            packing: zstd_safe::CCtx::create(),
            unpacking: zstd_safe::DCtx::create(),
        }
    }

    /// Compresses a value with another one as dictionary (`None`: without).
    pub(super) fn compress(&mut self, plain: &[u8], base: Option<&[u8]>) -> Result<Vec<u8>, CodecError> {
        let mut packed = Vec::with_capacity(zstd_safe::compress_bound(plain.len()));
        self.packing
            .compress_using_dict(&mut packed, plain, base.unwrap_or_default(), LEVEL)
            .map_err(refused)?;
        packed.shrink_to_fit();
        Ok(packed)
    }

    /// Makes of it what it was.
    pub(super) fn decompress(&mut self, compressed: &[u8], base: Option<&[u8]>) -> Result<Bytes, CodecError> {
        let size = zstd_safe::get_frame_content_size(compressed)
            .ok()
            .flatten()
            .and_then(|size| usize::try_from(size).ok())
            .filter(|size| *size <= LARGEST)
            .ok_or_else(|| std::io::Error::other("it does not say how large it was"))?;
        let mut plain = Vec::with_capacity(size);
        self.unpacking
            .decompress_using_dict(&mut plain, compressed, base.unwrap_or_default())
            .map_err(refused)?;
        Ok(plain.into())
    }
}

fn refused(code: zstd_safe::ErrorCode) -> std::io::Error {
    std::io::Error::other(zstd_safe::get_error_name(code))
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
        let mut zstd = Zstd::new();
        let packed = zstd.compress(&value, Some(&base)).unwrap();
        assert!(packed.len() * 10 < value.len(), "{} of {}", packed.len(), value.len());
        assert_eq!(zstd.decompress(&packed, Some(&base)).unwrap(), value);
        assert!(zstd.decompress(&packed, None).map_or(true, |other| other != value));
        let alone = zstd.compress(&value, None).unwrap();
        assert_eq!(zstd.decompress(&alone, None).unwrap(), value);
        let nothing = zstd.compress(b"", None).unwrap();
        assert_eq!(zstd.decompress(&nothing, None).unwrap(), b"" as &[u8]);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert!(Zstd::new().decompress(b"", None).is_err());
        assert!(Zstd::new().decompress(b"not compressed at all", None).is_err());
    }
}
