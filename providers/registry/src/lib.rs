//! Where images come from: OCI registries, OCI layouts, and what archives of `docker save` hold.
//!
//! Every place is a [`Source`]: it names images, hands out their manifests and opens their blobs as byte streams. What the
//! blobs mean for a container is the runtime's business.
//!
//! Invariants: a manifest or configuration that is handed out has the digest that was asked for; every read from a
//! network has a deadline; nothing here keeps more than a manifest in memory; credentials are never shown.

mod credentials;
mod error;
mod local;
mod manifest;
mod reference;
mod remote;
pub mod settings;

pub use credentials::{
    Credential, CredentialsError, Keyring, NodeCredentials, Origin, Proof, from_secret as credentials_from_secret,
};
pub use error::{Class, RegistryError};
pub use local::LocalImages;
pub use manifest::{Descriptor, ImageManifest, digest_of};
pub use reference::ImageReference;
pub use remote::{Fetched, Patience, Registries, RemoteImage};

use async_trait::async_trait;
use tokio::io::AsyncRead;

/// A blob as it is read.
pub type BlobReader = Box<dyn AsyncRead + Send + Unpin>;

/// The largest manifest, index or configuration that is read, in bytes (the limit that registries use).
pub const MAX_MANIFEST: u64 = 4 << 20;

/// Opens the blobs of one image.
#[async_trait]
pub trait Source: Send + Sync {
    /// Opens a blob (a configuration or a layer) for reading from its start. The reader checks nothing: verify the digest.
    async fn blob(&self, descriptor: &Descriptor) -> Result<BlobReader, RegistryError>;
}
