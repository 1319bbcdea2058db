//! Why an image is not in the store.

use std::path::{Path, PathBuf};

use setpoint_registry::{Class, RegistryError};

/// Why an image is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It could not be had from where it comes from.
    #[error(transparent)]
    Source(#[from] RegistryError),
    /// A blob is not what its digest or its image's configuration says.
    #[error("{what} of {image} has digest {actual}, not {expected}: nothing of it was installed")]
    Digest {
        /// layer or configuration.
        what: &'static str,
        /// The image.
        image: String,
        /// The digest that was promised.
        expected: String,
        /// The digest that came.
        actual: String,
    },
    /// The configuration or a layer cannot be used.
    #[error("image {image} cannot be used: {reason}")]
    Invalid {
        /// The image.
        image: String,
        /// What is wrong.
        reason: String,
    },
    /// A layer could not be read or unpacked.
    #[error("cannot fetch and unpack layer {digest} of {image}")]
    Unpack {
        /// The image.
        image: String,
        /// The layer.
        digest: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be unpacked as an archive of images.
    #[error("{path} cannot be read as an archive of images")]
    Archive {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The disk has no room for it.
    #[error(
        "no room for {image}: it needs at least {needed} bytes, {free} are free in {folder}; remove images (setpoint image prune) or make room"
    )]
    NoRoom {
        /// The image.
        image: String,
        /// What the next layer takes, in bytes.
        needed: u64,
        /// What is free, in bytes.
        free: u64,
        /// Where.
        folder: PathBuf,
    },
    /// A file of the store could not be read or written.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was being done, a verb.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Another process did not let go of the store in time.
    #[error(
        "{path} has been locked for {seconds} s: another setpoint process that is at work on these images hangs; end it and try again"
    )]
    Locked {
        /// The lock.
        path: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A file of the store is damaged.
    #[error("{path} is damaged: remove it and import or pull its images again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The work was cut short because the program is ending.
    #[error("unpacking was interrupted")]
    Interrupted {
        /// The cause.
        #[source]
        source: tokio::task::JoinError,
    },
}

impl ImageError {
    /// Says what can be done about it.
    pub fn class(&self) -> Class {
        match self {
            ImageError::Source(source) => source.class(),
            ImageError::Digest { .. } | ImageError::Invalid { .. } | ImageError::Damaged { .. } => Class::Invalid,
            ImageError::Unpack { source, .. } | ImageError::Archive { source, .. }
                if source.kind() == std::io::ErrorKind::InvalidData =>
            {
                Class::Invalid
            }
            ImageError::NoRoom { .. }
            | ImageError::Unpack { .. }
            | ImageError::Archive { .. }
            | ImageError::Io { .. }
            | ImageError::Locked { .. }
            | ImageError::Interrupted { .. } => Class::Transient,
        }
    }

    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ImageError {
        let path = path.to_path_buf();
        move |source| ImageError::Io {
            operation,
            path,
            source,
        }
    }
}
