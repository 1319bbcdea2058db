//! Base 64 and 32, and digests.

use super::arguments::{Outcome, bytes, string};
use crate::gotemplate::exec::Function;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

pub(super) const FUNCTIONS: &[Function] = &[
    row!("b64enc", "s", |_, a| string(STANDARD.encode(bytes(a, 0)))),
    row!("b64dec", "s", |_, a| base64_decode(bytes(a, 0))),
    row!("b32enc", "s", |_, a| string(base32_encode(bytes(a, 0)))),
    row!("b32dec", "s", |_, a| base32_decode(bytes(a, 0))),
    row!("sha1sum", "s", |_, a| string(sum(
        &digest::SHA1_FOR_LEGACY_USE_ONLY,
        bytes(a, 0)
    ))),
    row!("sha256sum", "s", |_, a| string(sum(&digest::SHA256, bytes(a, 0)))),
    row!("sha512sum", "s", |_, a| string(sum(&digest::SHA512, bytes(a, 0)))),
    row!("adler32sum", "s", |_, a| {
        let (low, high) = bytes(a, 0).iter().fold((1u32, 0u32), |(low, high), byte| {
            let low = (low + u32::from(*byte)) % 65521;
            (low, (high + low) % 65521)
        });
        string((high << 16 | low).to_string())
    }),
];

fn sum(algorithm: &'static digest::Algorithm, data: &[u8]) -> String {
    hex::encode(digest::digest(algorithm, data))
}

fn base64_decode(data: &[u8]) -> Outcome {
    let compact: Vec<u8> = data.iter().copied().filter(|b| !matches!(b, b'\n' | b'\r')).collect();
    match STANDARD.decode(&compact) {
        Ok(decoded) => string(decoded),
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                _ => compact.len() / 4 * 4,
            };
            string(format!("illegal base64 data at input byte {at}"))
        }
    }
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32_encode(data: &[u8]) -> String {
    let mut out = String::new();
    for chunk in data.chunks(5) {
        let mut block = [0u8; 8];
        block[3..3 + chunk.len()].copy_from_slice(chunk);
        let number = u64::from_be_bytes(block);
        let symbols = (chunk.len() * 8).div_ceil(5);
        for index in 0..8 {
            let symbol = (number >> (35 - 5 * index)) as usize & 31;
            out.push(if index < symbols {
                char::from(ALPHABET[symbol])
            } else {
                '='
            });
        }
    }
    out
}

fn base32_decode(data: &[u8]) -> Outcome {
    let compact: Vec<u8> = data.iter().copied().filter(|b| !matches!(b, b'\n' | b'\r')).collect();
    let mut out = Vec::new();
    let (mut bits, mut count) = (0u64, 0);
    for (at, byte) in compact.iter().enumerate() {
        if *byte == b'=' {
            break;
        }
        let Some(symbol) = ALPHABET.iter().position(|known| known == byte) else {
            return string(format!("illegal base32 data at input byte {at}"));
        };
        bits = bits << 5 | symbol as u64;
        count += 5;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if !compact.len().is_multiple_of(8) {
        return string(format!("illegal base32 data at input byte {}", compact.len()));
    }
    string(out)
}
