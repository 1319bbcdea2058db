//! What the writers do, as a pure function of who writes and the number of the step, so that whoever finds what is left knows what was
//! under way.
//!
//! Each writer has keys of its own and does one step after the other; steps are numbered on over all the kills. A value says which step
//! of which key it is of, in a form that half of it, or bytes of another, do not have.

use bytes::Bytes;

/// How many write at once.
pub const WRITERS: u64 = 4;
/// How many keys each has. The first is sealed; the last keeps no history and is mostly refreshed.
pub const KEYS: u64 = 4;
/// So many steps are set aside for one life of the child.
pub const LIFE: u64 = 1_000_000;

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Put,
    Swap,
    Refresh,
    Delete,
}

/// A step of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub writer: u64,
    pub number: u64,
    /// Which of the writer's keys.
    pub key: u64,
    pub act: Act,
}

fn mixed(writer: u64, number: u64) -> u64 {
    // SplitMix64.
    let mut mixed = (number * WRITERS + writer).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Returns what a writer does as its step of a number.
pub fn step(writer: u64, number: u64) -> Step {
    let dice = mixed(writer, number);
    let key = dice % KEYS;
    let act = match (dice >> 8) % 10 {
        0 => Act::Delete,
        1..=3 => Act::Swap,
        _ if key == KEYS - 1 => Act::Refresh,
        4 => Act::Refresh,
        _ => Act::Put,
    };
    Step {
        writer,
        number,
        key,
        act,
    }
}

impl Step {
    /// The key of the step.
    pub fn key(&self) -> String {
        name(self.writer, self.key)
    }

    /// What the step writes.
    pub fn value(&self) -> Bytes {
        let size = match mixed(self.number, self.writer) % 50 {
            0 => 60_000,
            1..=5 => 6_000,
            other => other as usize * 20,
        };
        let mut value = format!("{} {} {size} ", self.key(), self.number).into_bytes();
        let text = value.clone();
        value.extend(text.iter().cycle().take(size));
        Bytes::from(value)
    }
}

/// The name of a writer's key.
pub fn name(writer: u64, key: u64) -> String {
    let prefix = match key {
        0 => SECRETS,
        key if key == KEYS - 1 => LEASES,
        _ => "core/pods/",
    };
    format!("{prefix}{writer}-{key}")
}

/// What is sealed.
pub const SECRETS: &str = "core/secrets/";
/// What keeps no history.
pub const LEASES: &str = "core/leases/";

/// Returns the number of the step that a value of a key is of.
///
/// # Panics
/// When the value is not exactly what that step writes.
pub fn number(name: &str, value: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(value);
    let mut words = text.split(' ');
    let (key, number) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    assert_eq!(key, name, "a value of another key");
    let number: u64 = number.parse().expect("a value begins with its number");
    let (writer, _) = name
        .rsplit('/')
        .next()
        .and_then(|last| last.split_once('-'))
        .expect("one of ours");
    let step = step(writer.parse().expect("a number"), number);
    assert!(
        step.key() == name && step.value() == value,
        "half a value at {name}: {} bytes",
        value.len()
    );
    number
}
