//! The certificate that is shown to clients, and the authority that theirs must come from. Both can be replaced while
//! connections are open; new ones see the new files.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;

use crate::registry::Now;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The text is not PEM of the kind that is needed.
    #[error("cannot read the {what}")]
    Pem {
        /// What was to be read.
        what: &'static str,
        /// The cause.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// There is no certificate in the text.
    #[error("there is no certificate in the {0}")]
    Empty(&'static str),
    /// The authority's certificate cannot be trusted.
    #[error("cannot trust the certificate authority")]
    Authority(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Certificate and key do not fit, or are of a kind that is not supported.
    #[error("cannot serve with this certificate and key")]
    Serving(#[source] rustls::Error),
}

/// The TLS side of a door. Cheap to clone; clones share what is set.
#[derive(Clone)]
pub struct ServingCerts {
    config: Arc<RwLock<Arc<ServerConfig>>>,
    clock: Arc<Clock>,
}

/// The clock that certificates are held against.
struct Clock(Now);

impl fmt::Debug for Clock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Clock")
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from((self.0)().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl fmt::Debug for ServingCerts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ServingCerts")
    }
}

impl ServingCerts {
    /// Reads PEM texts: the certificate with its chain, its key, and the authorities of clients, whose certificates have to be good by
    /// the clock.
    pub fn from_pem(
        certificate: &str,
        key: &str,
        client_authority: &str,
        now: Now,
    ) -> Result<ServingCerts, CertificateError> {
        let clock = Arc::new(Clock(now));
        let config = config(certificate, key, client_authority, &clock)?;
        Ok(ServingCerts {
            config: Arc::new(RwLock::new(Arc::new(config))),
            clock,
        })
    }

    /// Puts others in their place; connections that are open keep what they have.
    pub fn replace(&self, certificate: &str, key: &str, client_authority: &str) -> Result<(), CertificateError> {
        let config = Arc::new(config(certificate, key, client_authority, &self.clock)?);
        *self.config.write() = config;
        Ok(())
    }

    /// What the next connection is served with.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read())
    }
}

fn config(
    certificate: &str,
    key: &str,
    client_authority: &str,
    clock: &Arc<Clock>,
) -> Result<ServerConfig, CertificateError> {
    let chain = certificates(certificate, "serving certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|source| CertificateError::Pem {
        what: "serving key",
        source,
    })?;
    let mut roots = RootCertStore::empty();
    for root in certificates(client_authority, "client authority")? {
        roots
            .add(root)
            .map_err(|error| CertificateError::Authority(Box::new(error)))?;
    }
    let provider = Arc::new(default_provider());
    // Clients without a certificate come in: they may hold a token, or ask for health only.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| CertificateError::Authority(Box::new(error)))?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::clone(clock) as Arc<dyn TimeProvider>)
        .with_safe_default_protocol_versions()
        .map_err(CertificateError::Serving)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(CertificateError::Serving)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let list = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| CertificateError::Pem { what, source })?;
    if list.is_empty() {
        return Err(CertificateError::Empty(what));
    }
    Ok(list)
}
