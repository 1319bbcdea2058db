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

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IndexEntry {
    #[serde(flatten)]
    pub descriptor: Descriptor,
    pub platform: Option<Platform>,
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
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
        // Something that two readers could take for two things is nothing (CVE-2021-41190).
        RawManifest {
            manifests: Some(_),
            config,
            layers,
        } if config.is_some() || layers.is_some() => Err(RegistryError::malformed(
            place,
            "its manifest is an image and an index at once",
        )),
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

/// The variants of an architecture that this machine runs, best first; none named is as good as any.
fn variants(architecture: &str) -> &'static [&'static str] {
    match architecture {
        "arm64" => &["v8", ""],
        "arm" => &["v7", "v6", "v5", ""],
        // What needs more than the baseline may not run here, and is chosen only where there is nothing else.
        _ => &["", "v1"],
    }
}

/// Chooses the entry for this platform; an entry without a platform counts when it is the only one.
///
/// Entries that are no images (attestations and the like: their platform is unknown) are never chosen.
pub(crate) fn choose<'a>(entries: &'a [IndexEntry], place: &str) -> Result<&'a IndexEntry, RegistryError> {
    let of_platform = |entry: &&IndexEntry| {
        let attached = entry.annotations.contains_key("vnd.docker.reference.type");
        let fits = |p: &Platform| p.os == "linux" && p.architecture == architecture();
        !attached && entry.platform.as_ref().is_some_and(fits)
    };
    let variant = |entry: &IndexEntry| {
        entry
            .platform
            .as_ref()
            .and_then(|p| p.variant.clone())
            .unwrap_or_default()
    };
    let best = variants(architecture()).iter().find_map(|wanted| {
        entries
            .iter()
            .filter(of_platform)
            .find(|entry| variant(entry) == *wanted)
    });
    let only = match entries {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    };
    best.or_else(|| entries.iter().find(of_platform))
        .or(only)
        .ok_or_else(|| {
            let mut offered: Vec<String> = entries
                .iter()
                .filter_map(|entry| entry.platform.as_ref())
                .map(ToString::to_string)
                .collect();
            offered.retain(|platform| !platform.starts_with("unknown/"));
            offered.truncate(20);
            RegistryError::NotFound {
                what: format!(
                    "an image for linux/{} (there is {})",
                    architecture(),
                    offered.join(", ")
                ),
                place: place.to_string(),
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(platforms: serde_json::Value) -> Vec<IndexEntry> {
        let list = platforms.as_array().unwrap().iter().enumerate();
        let list = list.map(|(at, platform)| {
            serde_json::from_value(serde_json::json!({"digest": at.to_string(), "size": 1, "platform": platform}))
                .unwrap()
        });
        list.collect()
    }

    #[test]
    fn the_image_of_this_platform_is_chosen_and_attestations_never() {
        let ours = architecture();
        let other = if ours == "amd64" { "arm64" } else { "amd64" };
        let all = entries(serde_json::json!([
            {"os": "unknown", "architecture": "unknown"},
            {"os": "windows", "architecture": ours},
            {"os": "linux", "architecture": other},
            {"os": "linux", "architecture": ours, "variant": "v9"},
            {"os": "linux", "architecture": ours},
        ]));
        assert_eq!(choose(&all, "x").unwrap().descriptor.digest, "4");
        assert_eq!(choose(&all[..4], "x").unwrap().descriptor.digest, "3");
        let error = choose(&all[..3], "x").unwrap_err().to_string();
        assert!(
            error.contains(&format!("linux/{other}")) && !error.contains("unknown"),
            "{error}"
        );
        let mut attached = all[4].clone();
        attached
            .annotations
            .insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
        assert!(choose(&[attached], "x").is_err());
    }

    #[test]
    fn what_is_an_image_and_an_index_at_once_is_refused() {
        let text = br#"{"manifests": [], "config": {"digest": "sha256:1", "size": 1}, "layers": []}"#;
        assert!(parse(text, "x").is_err());
    }
}
