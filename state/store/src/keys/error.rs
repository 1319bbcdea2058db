//! What can go wrong with keys, said so that whoever runs the store knows what to do.

use std::path::PathBuf;

use super::KeyId;

/// What went wrong with a key or with what it sealed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Something was sealed with a key that is not held.
    #[error(
        "key {id} is needed and {path} does not have it: add its line (`{id} …`, from a copy of the key file) before the last one"
    )]
    Missing {
        /// The key that is needed.
        id: KeyId,
        /// The key file that lacks it.
        path: String,
    },
    /// A sealed value does not open: it was changed, cut short, or it lies where it was not sealed for.
    #[error("what is sealed with key {id} was changed or cut short, or does not belong where it lies")]
    Damaged {
        /// The key that it is said to be sealed with.
        id: KeyId,
    },
    /// A sealed stream ends before its end.
    #[error("a stream that is sealed with key {id} ends too early")]
    Truncated {
        /// The key that it is sealed with.
        id: KeyId,
    },
    /// A sealed stream cannot be read.
    #[error("cannot read a sealed stream")]
    Stream {
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The key file cannot be read or written.
    #[error("cannot {what} the key file {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Others than the owner may read the key file.
    #[error("the key file {path} has mode {mode:04o}, so that others may read it; run: chmod 600 {path}", path = path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file is not as it should be.
    #[error("{path}:{line}: {what}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// The key file is no key file as a whole.
    #[error("{path} {what}", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: &'static str,
    },
    /// Two different keys have the same number.
    #[error("there are two different keys {id}; one of the key files was changed by hand")]
    Conflict {
        /// The number.
        id: KeyId,
    },
    /// A column holds what no key has for a number.
    #[error("{column} is not the number of a key")]
    NoId {
        /// What the column holds.
        column: i64,
    },
    /// A text is not a key's number.
    #[error("{text:?} is not the number of a key (eight hexadecimal digits, not all 0)")]
    NoIdText {
        /// The text, cut.
        text: String,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// A value is too long to be sealed in one piece.
    #[error("a value of {bytes} bytes is too long to be sealed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}
