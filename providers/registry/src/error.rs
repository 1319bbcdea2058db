//! Why an image could not be had.

use std::path::PathBuf;

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The image is not there under that name; asking again will not help until somebody puts it there.
    NotFound,
    /// Not allowed with these credentials.
    Denied,
    /// The network or the registry failed; it may pass.
    Transient,
    /// What was found cannot be used; it must change.
    Invalid,
}

/// Why an image could not be had.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The reference is not one.
    #[error("invalid image reference {reference:?}: {reason}")]
    Reference {
        /// What was given.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A registry does not have the image, or none for this platform.
    #[error("{what} not found in {place}")]
    NotFound {
        /// The image or blob.
        what: String,
        /// The registry, layout or archive.
        place: String,
    },
    /// A registry refused.
    #[error("{place} refuses access to {what}: check the name and the credentials")]
    Denied {
        /// The image.
        what: String,
        /// The registry.
        place: String,
    },
    /// A registry did not answer as it should.
    #[error("cannot fetch {what} from {place}")]
    Remote {
        /// The image or blob.
        what: String,
        /// The registry.
        place: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A registry did not answer in time.
    #[error("{place} did not answer within {seconds} s for {what}")]
    Timeout {
        /// The image or blob.
        what: String,
        /// The registry.
        place: String,
        /// The deadline.
        seconds: u64,
    },
    /// None of the places or credentials that were to be tried gave the image.
    #[error("cannot fetch {what}: {tried}")]
    Everywhere {
        /// The image or blob.
        what: String,
        /// What was tried, and what came of it.
        tried: String,
        /// What can be done about the last.
        class: Class,
    },
    /// The configuration of registries cannot be used.
    #[error("{file}{at}: {reason}", file = file.display(), at = line.map(|line| format!(":{line}")).unwrap_or_default())]
    Settings {
        /// The file.
        file: PathBuf,
        /// The line, where one is to blame.
        line: Option<usize>,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A manifest, layout or archive is malformed.
    #[error("{place} is not a usable image: {reason}")]
    Malformed {
        /// The image, layout or archive.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl RegistryError {
    /// Says what can be done about it.
    pub fn class(&self) -> Class {
        match self {
            RegistryError::NotFound { .. } => Class::NotFound,
            RegistryError::Denied { .. } => Class::Denied,
            RegistryError::Remote { .. } | RegistryError::Timeout { .. } | RegistryError::Io { .. } => Class::Transient,
            RegistryError::Everywhere { class, .. } => *class,
            RegistryError::Reference { .. } | RegistryError::Malformed { .. } | RegistryError::Settings { .. } => {
                Class::Invalid
            }
        }
    }

    pub(crate) fn malformed(place: impl Into<String>, reason: impl Into<String>) -> Self {
        RegistryError::Malformed {
            place: place.into(),
            reason: reason.into(),
        }
    }
}
