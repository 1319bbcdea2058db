//! Images in OCI registries: which places and credentials are tried, and what is believed of what they answer.
//!
//! [`Registries`] is what this machine knows of registries; [`RemoteImage`] one image as it is fetched. Mirrors are tried in order and then the
//! registry itself, at each of them every credential that is for its name, one after another; without any it is asked anonymously. Credentials
//! go nowhere but to the host that they were given for (and to the token server that it names).

mod blob;
mod challenge;
mod clients;
mod session;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::manifest::{self, Parsed};
use crate::settings::{Files, Settings, Stamp};
use crate::{
    BlobReader, Class, Credential, Descriptor, ImageManifest, ImageReference, Keyring, RegistryError, Source, digest_of,
};
use clients::Clients;
use session::Session;

/// How deep indexes may nest.
const MAX_NESTING: usize = 3;

/// How long is waited for registries.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long one may take to begin an answer, and to end one that is not a blob.
    pub answer: Duration,
    /// How long a connection may stay silent in the middle of a blob.
    pub silence: Duration,
    /// The first pause before something is tried again; each one that did not help doubles it.
    pub pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            answer: Duration::from_secs(30),
            silence: Duration::from_secs(30),
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(10),
        }
    }
}

/// The registries as this machine's configuration says to reach them. The configuration is read again when it changes; while it cannot be read,
/// what it last said stays in force.
#[derive(Default)]
pub struct Registries {
    files: Files,
    read: Mutex<Option<(Stamp, Settings)>>,
    clients: Clients,
    patience: Patience,
}

impl Registries {
    /// Takes the configuration's files; reads nothing yet.
    pub fn new(files: Files) -> Self {
        Registries {
            files,
            ..Registries::default()
        }
    }

    /// Waits as long as this says.
    pub fn with_patience(self, patience: Patience) -> Self {
        Registries { patience, ..self }
    }

    /// Reads the configuration if it changed.
    pub fn settings(&self) -> Result<Settings, RegistryError> {
        let stamp = self.files.stamp();
        let mut read = self.read.lock();
        if let Some((known, settings)) = &*read
            && *known == stamp
        {
            return Ok(settings.clone());
        }
        match (self.files.read(), &*read) {
            (Ok(settings), _) => {
                *read = Some((stamp, settings.clone()));
                Ok(settings)
            }
            (Err(error), Some((_, settings))) => {
                tracing::warn!(%error, "registries are reached as before: their configuration cannot be used");
                Ok(settings.clone())
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Prepares to fetch an image; connects to nothing yet.
    pub fn image(&self, reference: ImageReference, keyring: &Keyring) -> Result<RemoteImage, RegistryError> {
        let mut sessions = Vec::new();
        for place in self.settings()?.endpoints(&reference) {
            let client = self.clients.get(&place, &reference)?;
            let repository = match place.prefix.as_str() {
                "" => reference.repository().to_owned(),
                prefix => format!("{prefix}/{}", reference.repository()),
            };
            let credentials = keyring.lookup(&format!("{}/{repository}", place.host));
            let tried: Vec<Option<Credential>> = match credentials.is_empty() {
                true => vec![None],
                false => credentials.into_iter().map(Some).collect(),
            };
            for credential in tried {
                let client = client.clone();
                let session = Session::new(client, &place, &repository, &reference, credential, self.patience);
                sessions.push(Arc::new(session));
            }
        }
        Ok(RemoteImage {
            reference,
            sessions,
            chosen: Mutex::new(None),
        })
    }
}

/// A manifest as it came.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The image for this platform.
    pub manifest: ImageManifest,
    /// What it was fetched with; `None` means that nobody in particular may have it.
    pub credential: Option<Credential>,
}

/// One image where it is fetched from.
pub struct RemoteImage {
    reference: ImageReference,
    /// In the order in which they are tried.
    sessions: Vec<Arc<Session>>,
    /// Which of them gave the manifest.
    chosen: Mutex<Option<usize>>,
}

impl RemoteImage {
    /// Fetches the manifest for this platform from the first place that has it. An index counts by its entry for this platform.
    pub async fn manifest(&self) -> Result<Fetched, RegistryError> {
        let mut failures = Vec::new();
        for (at, session) in self.sessions.iter().enumerate() {
            match self.manifest_from(session).await {
                Ok(manifest) => {
                    *self.chosen.lock() = Some(at);
                    let credential = session.credential().cloned();
                    return Ok(Fetched { manifest, credential });
                }
                Err(error) => failures.push((session, error)),
            }
        }
        Err(joined(&self.reference, failures))
    }

    async fn manifest_from(&self, session: &Session) -> Result<ImageManifest, RegistryError> {
        let mut wanted = self.reference.clone();
        for _ in 0..MAX_NESTING {
            let which = wanted.digest().or(wanted.tag()).unwrap_or("latest");
            let bytes = session.manifest(which).await?;
            if let Some(digest) = wanted.digest()
                && !has_digest(&bytes, digest)
            {
                return Err(RegistryError::malformed(
                    self.reference.to_string(),
                    format!("{} sent other bytes than {digest}", session.place()),
                ));
            }
            match manifest::parse(&bytes, &self.reference.to_string())? {
                Parsed::Image(image) => return Ok(image),
                Parsed::Index(entries) => {
                    let entry = manifest::choose(&entries, &self.reference.to_string())?;
                    manifest::check_digest(&entry.descriptor.digest, &self.reference.to_string())?;
                    wanted = wanted.with_digest(&entry.descriptor.digest);
                }
            }
        }
        Err(RegistryError::malformed(
            self.reference.to_string(),
            "its indexes nest too deep",
        ))
    }
}

/// Whether bytes have a digest; only `sha256` is known, and nothing has another.
fn has_digest(bytes: &[u8], digest: &str) -> bool {
    match digest.split_once(':') {
        Some(("sha512", hex)) => hex::encode(ring::digest::digest(&ring::digest::SHA512, bytes)) == hex,
        Some(("sha384", hex)) => hex::encode(ring::digest::digest(&ring::digest::SHA384, bytes)) == hex,
        _ => digest_of(bytes) == digest,
    }
}

/// One error of several; a single one stays as it is.
fn joined(reference: &ImageReference, mut failures: Vec<(&Arc<Session>, RegistryError)>) -> RegistryError {
    if failures.len() == 1
        && let Some((_, only)) = failures.pop()
    {
        return only;
    }
    // That one place refuses or does not have it says little when another could not be reached.
    let classes: Vec<Class> = failures.iter().map(|(_, error)| error.class()).collect();
    let class = match classes.contains(&Class::Transient) {
        true => Class::Transient,
        false => classes.last().copied().unwrap_or(Class::NotFound),
    };
    let tried: Vec<String> = failures
        .iter()
        .map(|(session, error)| format!("{}: {}", session.described(), chain(error)))
        .collect();
    RegistryError::Everywhere {
        what: reference.to_string(),
        tried: tried.join("; "),
        class,
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[async_trait]
impl Source for RemoteImage {
    async fn blob(&self, descriptor: &Descriptor) -> Result<BlobReader, RegistryError> {
        manifest::check_digest(&descriptor.digest, &self.reference.to_string())?;
        let chosen = self.chosen.lock().unwrap_or(0);
        // What gave the manifest comes first; a mirror may have lost a layer, then the next place is asked.
        let order = (chosen..self.sessions.len()).chain(0..chosen);
        let mut failures = Vec::new();
        for session in order.filter_map(|at| self.sessions.get(at)) {
            match blob::open(session.clone(), descriptor).await {
                Ok(reader) => return Ok(reader),
                Err(error) => failures.push((session, error)),
            }
        }
        Err(joined(&self.reference, failures))
    }
}
