//! Images in OCI registries.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use tokio_util::io::StreamReader;

use crate::manifest::{self, Parsed};
use crate::{BlobReader, Descriptor, ImageManifest, ImageReference, MAX_MANIFEST, RegistryError, Source, digest_of};

/// How long a registry may take to answer a request.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a connection may stay silent in the middle of a blob.
const SILENCE: Duration = Duration::from_secs(60);

const ACCEPTED: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Who asks.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// A user with a password or token.
    Basic {
        /// The user.
        user: String,
        /// The password; never logged.
        password: String,
    },
}

/// One image's registry, with credentials. Registries on this machine (`localhost`, `127.0.0.1`) are spoken to in plain HTTP.
pub struct RemoteRegistry {
    client: Client,
    reference: ImageReference,
    credentials: RegistryAuth,
}

impl RemoteRegistry {
    /// Prepares to fetch `reference`; connects to nothing yet. Fails where no TLS roots are installed.
    pub fn new(reference: ImageReference, credentials: Credentials) -> Result<Self, RegistryError> {
        // The client library takes the process's provider; ring is the one that is linked.
        static PROVIDER: OnceLock<()> = OnceLock::new();
        PROVIDER.get_or_init(|| {
            if oci_client_provider_missing() {
                install_provider();
            }
        });
        let host = reference.registry().split(':').next().unwrap_or_default();
        let protocol = if matches!(host, "localhost" | "127.0.0.1") {
            ClientProtocol::HttpsExcept(vec![reference.registry().to_string()])
        } else {
            ClientProtocol::Https
        };
        let config = ClientConfig {
            protocol,
            connect_timeout: Some(Duration::from_secs(10)),
            read_timeout: Some(SILENCE),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|source| RegistryError::Remote {
            what: reference.to_string(),
            place: format!(
                "{} (install the package ca-certificates if this machine has none)",
                reference.registry()
            ),
            source: Box::new(source),
        })?;
        let credentials = match credentials {
            Credentials::Anonymous => RegistryAuth::Anonymous,
            Credentials::Basic { user, password } => RegistryAuth::Basic(user, password),
        };
        Ok(RemoteRegistry {
            client,
            reference,
            credentials,
        })
    }

    /// Fetches the manifest for this platform. An index counts by the entry for linux and this architecture.
    pub async fn manifest(&self) -> Result<ImageManifest, RegistryError> {
        let mut wanted = self.reference.inner().clone();
        for _ in 0..3 {
            let (bytes, _) = self
                .within(self.client.pull_manifest_raw(&wanted, &self.credentials, ACCEPTED))
                .await?;
            if bytes.len() as u64 > MAX_MANIFEST {
                return Err(RegistryError::malformed(
                    self.reference.to_string(),
                    "its manifest is too large",
                ));
            }
            if let Some(digest) = wanted.digest()
                && digest_of(&bytes) != digest
            {
                return Err(RegistryError::malformed(
                    self.reference.to_string(),
                    format!("the registry sent other bytes than {digest}"),
                ));
            }
            match manifest::parse(&bytes, &self.reference.to_string())? {
                Parsed::Image(image) => return Ok(image),
                Parsed::Index(entries) => {
                    let entry = manifest::choose(&entries, &self.reference.to_string())?;
                    manifest::check_digest(&entry.descriptor.digest, &self.reference.to_string())?;
                    wanted = wanted.clone_with_digest(entry.descriptor.digest.clone());
                }
            }
        }
        Err(RegistryError::malformed(
            self.reference.to_string(),
            "its indexes nest too deep",
        ))
    }

    async fn within<T>(
        &self,
        request: impl Future<Output = Result<T, OciDistributionError>>,
    ) -> Result<T, RegistryError> {
        match tokio::time::timeout(ANSWER, request).await {
            Ok(answer) => answer.map_err(|source| self.error(source)),
            Err(_) => Err(RegistryError::Timeout {
                what: self.reference.to_string(),
                place: self.reference.registry().to_string(),
                seconds: ANSWER.as_secs(),
            }),
        }
    }

    fn error(&self, source: OciDistributionError) -> RegistryError {
        use oci_client::errors::OciErrorCode as Code;
        let (what, place) = (self.reference.to_string(), self.reference.registry().to_string());
        match &source {
            OciDistributionError::ImageManifestNotFoundError(_)
            | OciDistributionError::ServerError { code: 404, .. } => RegistryError::NotFound { what, place },
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::ServerError { code: 401 | 403, .. } => RegistryError::Denied { what, place },
            OciDistributionError::RegistryError { envelope, .. } => {
                match envelope.errors.first().map(|error| &error.code) {
                    Some(Code::ManifestUnknown | Code::NameUnknown | Code::NotFound | Code::BlobUnknown) => {
                        RegistryError::NotFound { what, place }
                    }
                    Some(Code::Unauthorized | Code::Denied) => RegistryError::Denied { what, place },
                    _ => RegistryError::Remote {
                        what,
                        place,
                        source: Box::new(source),
                    },
                }
            }
            _ => RegistryError::Remote {
                what,
                place,
                source: Box::new(source),
            },
        }
    }
}

fn oci_client_provider_missing() -> bool {
    rustls::crypto::CryptoProvider::get_default().is_none()
}

fn install_provider() {
    // Another thread may have been first with the same provider; either will do.
    drop(rustls::crypto::ring::default_provider().install_default());
}

#[async_trait]
impl Source for RemoteRegistry {
    async fn blob(&self, descriptor: &Descriptor) -> Result<BlobReader, RegistryError> {
        self.client
            .store_auth_if_needed(self.reference.registry(), &self.credentials)
            .await;
        let wanted = OciDescriptor {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
            size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
            ..OciDescriptor::default()
        };
        let sized = self
            .within(self.client.pull_blob_stream(self.reference.inner(), &wanted))
            .await?;
        let stream = sized.stream.map_err(std::io::Error::other);
        Ok(Box::new(StreamReader::new(Box::pin(stream))))
    }
}
