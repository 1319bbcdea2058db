//! HTTP clients, one for each way in which places are spoken to.

use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, NoProxy};

use crate::settings::{Place, Proxy, Transport, is_this_machine};
use crate::{ImageReference, RegistryError, digest_of};

/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How often a request may be sent on.
const REDIRECTS: usize = 5;
/// The largest bundle of authorities, in bytes.
const LARGEST_BUNDLE: u64 = 4 << 20;
/// How many clients are kept: one for each way, and bundles change rarely.
const KEPT: usize = 32;

/// What a client is for: the way, whether it stays on this machine, and what the bundle of authorities holds now.
type Key = (Transport, bool, Option<String>);

#[derive(Default)]
pub(super) struct Clients {
    made: Mutex<HashMap<Key, Client>>,
}

impl Clients {
    /// Returns a client for a place.
    pub fn get(&self, place: &Place, reference: &ImageReference) -> Result<Client, RegistryError> {
        let bundle = place.transport.ca.as_deref().map(read_bundle).transpose()?;
        let here = is_this_machine(&place.host);
        let key = (place.transport.clone(), here, bundle.as_deref().map(digest_of));
        if let Some(client) = self.made.lock().get(&key) {
            return Ok(client.clone());
        }
        let authorities = match (&bundle, &place.transport.ca) {
            (Some(bytes), Some(path)) => parse_bundle(bytes, path)?,
            _ => Vec::new(),
        };
        let client = build(&place.transport, here, authorities).map_err(|source| RegistryError::Remote {
            what: reference.to_string(),
            place: format!(
                "{} (install the package ca-certificates if this machine has none)",
                place.host
            ),
            source: Box::new(source),
        })?;
        let mut made = self.made.lock();
        if made.len() >= KEPT {
            made.clear();
        }
        made.insert(key, client.clone());
        Ok(client)
    }
}

fn read_bundle(path: &Path) -> Result<Vec<u8>, RegistryError> {
    let io = |source| RegistryError::Io {
        path: path.to_owned(),
        source,
    };
    if std::fs::metadata(path).map_err(io)?.len() > LARGEST_BUNDLE {
        return Err(unusable(path, format!("it is over {LARGEST_BUNDLE} bytes")));
    }
    std::fs::read(path).map_err(io)
}

fn parse_bundle(bytes: &[u8], path: &Path) -> Result<Vec<Certificate>, RegistryError> {
    match Certificate::from_pem_bundle(bytes) {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(unusable(path, "it holds no certificate in PEM".to_owned())),
        Err(error) => Err(unusable(path, format!("it is not a bundle of certificates: {error}"))),
    }
}

fn unusable(path: &Path, reason: String) -> RegistryError {
    RegistryError::Settings {
        file: path.to_owned(),
        line: None,
        reason,
    }
}

fn build(transport: &Transport, here: bool, authorities: Vec<Certificate>) -> reqwest::Result<Client> {
    // The client library takes the process's provider; ring is the one that is linked.
    static PROVIDER: OnceLock<()> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Another thread may have been first with the same provider; either will do.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
    });
    let prepared = |roots: Roots| -> reqwest::Result<Client> {
        let mut builder = Client::builder()
            .user_agent(concat!("setpoint/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .redirect(redirects());
        builder = match &transport.proxy {
            // Nobody means a proxy for what does not leave the machine.
            _ if here => builder.no_proxy(),
            Proxy::Environment => builder,
            Proxy::Direct => builder.no_proxy(),
            Proxy::Through { url, except } => {
                builder.proxy(reqwest::Proxy::all(url.as_str())?.no_proxy(NoProxy::from_string(except)))
            }
        };
        builder = match roots {
            Roots::Merged => builder.tls_certs_merge(authorities.clone()),
            Roots::Only => builder.tls_certs_only(authorities.clone()),
        };
        if transport.skip_verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        builder.build()
    };
    match prepared(Roots::Merged) {
        // A machine without authorities of its own can do with those that were given, or with none where there is no TLS.
        Err(_) if !authorities.is_empty() || transport.plain_http => prepared(Roots::Only),
        built => built,
    }
}

enum Roots {
    Merged,
    Only,
}

/// Follows a few redirects (registries send blobs from elsewhere), never from TLS to none.
fn redirects() -> Policy {
    Policy::custom(|attempt| {
        if attempt.previous().len() > REDIRECTS {
            return attempt.error("it is redirected in circles");
        }
        let was_secure = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if was_secure && attempt.url().scheme() != "https" {
            return attempt.error("it is redirected from TLS to plain HTTP");
        }
        attempt.follow()
    })
}
