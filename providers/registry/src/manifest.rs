//! The parts of OCI and docker manifests that a runtime needs.

use serde::{Deserialize, Serialize};

use crate::RegistryError;

/// A blob by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default)]
    pub media_type: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The blob's length in bytes; 0 when a docker archive does not say.
    #[serde(default)]
    pub size: u64,
}

/// One platform's image: its configuration and layers, bottom first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageManifest {
    /// The digest of the manifest's bytes; for a docker archive, which has none, the configuration's digest.
    pub digest: String,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub manifests: Vec<IndexEntry>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IndexEntry {
    #[serde(flatten)]
    pub descriptor: Descriptor,
    pub platform: Option<Platform>,
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Deserialize)]
pub(crate) struct Platform {
    pub os: String,
    pub architecture: String,
}

#[derive(Deserialize)]
struct RawManifest {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<IndexEntry>>,
}

/// What a manifest's bytes turned out to be.
pub(crate) enum Parsed {
    Image(ImageManifest),
    Index(Vec<IndexEntry>),
}

/// Returns `sha256:…` of some bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    format!(
        "sha256:{}",
        hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes))
    )
}

/// Checks that a digest is `sha256:` and 64 lower-case hexadecimal digits, so that it can be part of a path.
pub(crate) fn check_digest(digest: &str, place: &str) -> Result<(), RegistryError> {
    let good = digest
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    if good {
        Ok(())
    } else {
        Err(RegistryError::malformed(
            place,
            format!("{digest:?} is not a sha256 digest"),
        ))
    }
}

/// Parses the bytes of an image manifest or an index, whichever it is.
pub(crate) fn parse(bytes: &[u8], place: &str) -> Result<Parsed, RegistryError> {
    let raw: RawManifest =
        serde_json::from_slice(bytes).map_err(|e| RegistryError::malformed(place, format!("its manifest: {e}")))?;
    match raw {
        RawManifest {
            manifests: Some(entries),
            ..
        } => Ok(Parsed::Index(entries)),
        RawManifest {
            config: Some(config),
            layers: Some(layers),
            ..
        } => {
            for descriptor in std::iter::once(&config).chain(&layers) {
                check_digest(&descriptor.digest, place)?;
            }
            Ok(Parsed::Image(ImageManifest {
                digest: digest_of(bytes),
                config,
                layers,
            }))
        }
        _ => Err(RegistryError::malformed(
            place,
            "its manifest has neither config and layers nor manifests (schema version 1 is not supported)",
        )),
    }
}

/// Returns the OCI name of the architecture this program was built for.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// Chooses the entry for this platform; an entry without a platform counts when it is the only one.
pub(crate) fn choose<'a>(entries: &'a [IndexEntry], place: &str) -> Result<&'a IndexEntry, RegistryError> {
    let ours = |entry: &&IndexEntry| {
        entry
            .platform
            .as_ref()
            .is_some_and(|p| p.os == "linux" && p.architecture == architecture())
    };
    entries
        .iter()
        .find(ours)
        .or(match entries {
            [only] if only.platform.is_none() => Some(only),
            _ => None,
        })
        .ok_or_else(|| RegistryError::NotFound {
            what: format!("an image for linux/{}", architecture()),
            place: place.to_string(),
        })
}
