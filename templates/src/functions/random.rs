//! Randomness from a seed: rendering twice with one seed gives the same bytes.

use super::arguments::{Outcome, bytes, int, string};
use crate::gotemplate::exec::{Exec, Function};
use crate::value::Value;
use base64::Engine as _;

/// A stream of bytes made of SHA-256 of the seed and a counter.
#[derive(Clone, Debug)]
pub struct Random {
    seed: [u8; 32],
    counter: u64,
    left: Vec<u8>,
}

impl Random {
    /// Begins the stream of a seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            counter: 0,
            left: Vec::new(),
        }
    }

    /// Draws one byte.
    pub fn byte(&mut self) -> u8 {
        loop {
            if let Some(byte) = self.left.pop() {
                return byte;
            }
            let mut input = self.seed.to_vec();
            input.extend_from_slice(&self.counter.to_be_bytes());
            self.counter += 1;
            self.left = ring::digest::digest(&ring::digest::SHA256, &input).as_ref().to_vec();
        }
    }

    /// Draws a number below `bound`, each as likely as the others.
    pub fn below(&mut self, bound: u64) -> u64 {
        let bound = bound.max(1);
        let fair = u64::MAX - u64::MAX % bound;
        loop {
            let number = u64::from_be_bytes(std::array::from_fn(|_| self.byte()));
            if number < fair {
                return number % bound;
            }
        }
    }
}

pub(super) const FUNCTIONS: &[Function] = &[
    row!("randAlphaNum", "i", |exec, a| draw(exec, a, |b| b
        .is_ascii_alphanumeric())),
    row!("randAlpha", "i", |exec, a| draw(exec, a, |b| b.is_ascii_alphabetic())),
    row!("randAscii", "i", |exec, a| draw(exec, a, |b| (32..127).contains(b))),
    row!("randNumeric", "i", |exec, a| draw(exec, a, u8::is_ascii_digit)),
    row!("randBytes", "i", |exec, a| {
        let count = usize::try_from(int(a, 0)).map_err(|_| "runtime error: makeslice: len out of range")?;
        exec.spend(count)?;
        let bytes: Vec<u8> = (0..count).map(|_| exec.host.random.byte()).collect();
        string(base64::engine::general_purpose::STANDARD.encode(bytes))
    }),
    row!("randInt", "ii", |exec, a| {
        let span = int(a, 1).saturating_sub(int(a, 0));
        if span <= 0 {
            return Err("invalid argument to Intn".into());
        }
        Ok(Value::int(int(a, 0) + exec.host.random.below(span as u64) as i64))
    }),
    row!("shuffle", "s", |exec, a| {
        let mut chars: Vec<char> = String::from_utf8_lossy(bytes(a, 0)).chars().collect();
        for index in (1..chars.len()).rev() {
            let other = exec.host.random.below(index as u64 + 1) as usize;
            chars.swap(index, other);
        }
        string(chars.into_iter().collect::<String>())
    }),
    row!("uuidv4", "", |exec, _| {
        let mut bytes: [u8; 16] = std::array::from_fn(|_| exec.host.random.byte());
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let text = hex::encode(bytes);
        string([&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-"))
    }),
];

fn draw(exec: &mut Exec<'_>, args: &[Value], fits: fn(&u8) -> bool) -> Outcome {
    let Ok(count) = usize::try_from(int(args, 0)) else {
        return string("");
    };
    exec.spend(count)?;
    let alphabet: Vec<u8> = (0u8..128).filter(fits).collect();
    let drawn: Vec<u8> = (0..count)
        .map(|_| alphabet[exec.host.random.below(alphabet.len() as u64) as usize])
        .collect();
    string(drawn)
}
