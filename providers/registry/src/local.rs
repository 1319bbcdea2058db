//! Images in a folder: an OCI layout, or what an archive of `docker save` holds.
//!
//! Archives are unpacked by somebody else, into a folder that is then opened here: nothing in it is believed, and links that lead outside are refused when they
//! are followed. What is parsed here is JSON of at most [`MAX_MANIFEST`] bytes a file.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use serde::Deserialize;

use crate::manifest::{self, Index, IndexEntry, Parsed};
use crate::{BlobReader, Descriptor, ImageManifest, ImageReference, MAX_MANIFEST, RegistryError, Source, digest_of};

/// How deep indexes may nest.
const MAX_NESTING: usize = 4;

/// The images of one layout or archive.
pub struct LocalImages {
    place: String,
    root: PathBuf,
    blobs: HashMap<String, PathBuf>,
    images: Vec<(Vec<ImageReference>, ImageManifest)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl LocalImages {
    /// Opens a folder; `place` is what it is called in errors: the folder, or the archive that it was unpacked from. Blocks.
    ///
    /// # Errors
    /// That it holds no images, or what is wrong with them.
    pub fn open(folder: &Path, place: String) -> Result<Self, RegistryError> {
        let root = folder.canonicalize().map_err(|source| RegistryError::Io {
            path: folder.to_owned(),
            source,
        })?;
        let mut local = LocalImages {
            place,
            root,
            blobs: HashMap::new(),
            images: Vec::new(),
        };
        // An archive of a newer docker is both; only its docker manifest carries the full names.
        if local.root.join("manifest.json").exists() {
            local.read_docker()?;
        } else if local.root.join("index.json").exists() {
            local.read_layout()?;
        } else {
            return Err(RegistryError::malformed(
                local.place,
                "it has neither an index.json (OCI layout) nor a manifest.json (docker save)",
            ));
        }
        if local.images.is_empty() {
            return Err(RegistryError::malformed(local.place, "it holds no image"));
        }
        Ok(local)
    }

    /// Returns each image with the references that it is known by (none for an untagged one).
    pub fn images(&self) -> &[(Vec<ImageReference>, ImageManifest)] {
        &self.images
    }

    fn read_layout(&mut self) -> Result<(), RegistryError> {
        let bytes = self.read("index.json")?;
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|e| RegistryError::malformed(&self.place, format!("index.json: {e}")))?;
        // Entries of one name for several platforms are one image: choose per name.
        let mut names: Vec<(Option<String>, Vec<IndexEntry>)> = Vec::new();
        for entry in index.manifests {
            let name = ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
                .iter()
                .find_map(|key| entry.annotations.get(*key).cloned());
            match names.iter_mut().find(|(known, _)| name.is_some() && *known == name) {
                Some((_, entries)) => entries.push(entry),
                None => names.push((name, vec![entry])),
            }
        }
        for (name, entries) in names {
            let entry = match entries.as_slice() {
                [only] => only,
                several => manifest::choose(several, &self.place)?,
            };
            let manifest = self.layout_manifest(&entry.descriptor, 0)?;
            let references = match name {
                Some(name) => vec![name.parse()?],
                None => Vec::new(),
            };
            self.images.push((references, manifest));
        }
        Ok(())
    }

    fn layout_manifest(&self, descriptor: &Descriptor, depth: usize) -> Result<ImageManifest, RegistryError> {
        if depth > MAX_NESTING {
            return Err(RegistryError::malformed(&self.place, "its indexes nest too deep"));
        }
        manifest::check_digest(&descriptor.digest, &self.place)?;
        let bytes = self.read(&format!("blobs/{}", descriptor.digest.replacen(':', "/", 1)))?;
        if digest_of(&bytes) != descriptor.digest {
            return Err(RegistryError::malformed(
                &self.place,
                format!("the manifest {} does not have that digest", descriptor.digest),
            ));
        }
        match manifest::parse(&bytes, &self.place)? {
            Parsed::Image(image) => Ok(image),
            Parsed::Index(entries) => {
                let entry = manifest::choose(&entries, &self.place)?;
                self.layout_manifest(&entry.descriptor, depth + 1)
            }
        }
    }

    fn read_docker(&mut self) -> Result<(), RegistryError> {
        let bytes = self.read("manifest.json")?;
        let images: Vec<DockerImage> = serde_json::from_slice(&bytes)
            .map_err(|e| RegistryError::malformed(&self.place, format!("manifest.json: {e}")))?;
        for image in images {
            let config_bytes = self.read(&image.config)?;
            let config = Descriptor {
                media_type: String::new(),
                digest: digest_of(&config_bytes),
                size: config_bytes.len() as u64,
            };
            self.blobs.insert(config.digest.clone(), self.path(&image.config)?);
            let mut layers = Vec::new();
            for layer in &image.layers {
                // The archive does not name a layer's blob by digest; the unpacked digest is in the configuration
                // and is checked there. The key is only ours.
                let digest = digest_of(layer.as_bytes());
                let path = self.path(layer)?;
                let size = std::fs::metadata(&path)
                    .map_err(|source| RegistryError::Io {
                        path: path.clone(),
                        source,
                    })?
                    .len();
                self.blobs.insert(digest.clone(), path);
                layers.push(Descriptor {
                    media_type: DOCKER_ARCHIVE_LAYER.to_string(),
                    digest,
                    size,
                });
            }
            let references = image
                .repo_tags
                .unwrap_or_default()
                .iter()
                .map(|tag| tag.parse())
                .collect::<Result<Vec<ImageReference>, _>>()?;
            let digest = config.digest.clone();
            self.images.push((references, ImageManifest { digest, config, layers }));
        }
        Ok(())
    }

    /// Resolves a path of the archive to a file inside it, wherever links lead.
    fn path(&self, relative: &str) -> Result<PathBuf, RegistryError> {
        let plain = Path::new(relative)
            .components()
            .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let path = self.root.join(relative);
        let real = path.canonicalize().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => RegistryError::NotFound {
                what: relative.to_string(),
                place: self.place.clone(),
            },
            _ => RegistryError::Io {
                path: path.clone(),
                source,
            },
        })?;
        if plain && real.starts_with(&self.root) && real.is_file() {
            Ok(real)
        } else {
            Err(RegistryError::malformed(
                &self.place,
                format!("{relative:?} is not a file inside it"),
            ))
        }
    }

    fn read(&self, relative: &str) -> Result<Vec<u8>, RegistryError> {
        let path = self.path(relative)?;
        let io = |source| RegistryError::Io {
            path: path.clone(),
            source,
        };
        let mut bytes = Vec::new();
        File::open(&path)
            .map_err(io)?
            .take(MAX_MANIFEST + 1)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(RegistryError::malformed(
                &self.place,
                format!("{relative} is over {MAX_MANIFEST} bytes"),
            ));
        }
        Ok(bytes)
    }
}

/// The media type that marks a layer whose descriptor's digest is only a key, not the digest of its bytes.
pub(crate) const DOCKER_ARCHIVE_LAYER: &str = "application/vnd.setpoint.docker-archive.layer";

impl Descriptor {
    /// Returns whether the digest is that of the blob's bytes (a docker archive has none for its layers).
    pub fn has_content_digest(&self) -> bool {
        self.media_type != DOCKER_ARCHIVE_LAYER
    }
}

#[async_trait]
impl Source for LocalImages {
    async fn blob(&self, descriptor: &Descriptor) -> Result<BlobReader, RegistryError> {
        let path = match self.blobs.get(&descriptor.digest) {
            Some(path) => path.clone(),
            None => {
                manifest::check_digest(&descriptor.digest, &self.place)?;
                self.path(&format!("blobs/{}", descriptor.digest.replacen(':', "/", 1)))?
            }
        };
        let file = tokio::fs::File::open(&path)
            .await
            .map_err(|source| RegistryError::Io { path, source })?;
        Ok(Box::new(file))
    }
}

#[cfg(test)]
mod tests;
