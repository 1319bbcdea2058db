//! Images in files: an OCI layout (folder or tar) and the archive that `docker save` writes.
//!
//! An archive is unpacked into a temporary folder first, regular files and links inside it only; links that lead outside are refused when they are followed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use serde::Deserialize;

use crate::manifest::{self, Index, IndexEntry, Parsed};
use crate::{BlobReader, Descriptor, ImageManifest, ImageReference, MAX_MANIFEST, RegistryError, Source, digest_of};

/// The largest archive that is unpacked, in bytes of its contents.
const MAX_ARCHIVE: u64 = 64 << 30;
/// How deep indexes may nest.
const MAX_NESTING: usize = 4;

/// The images of one layout or archive.
pub struct LocalImages {
    place: String,
    root: PathBuf,
    blobs: HashMap<String, PathBuf>,
    images: Vec<(Vec<ImageReference>, ImageManifest)>,
    /// Keeps an unpacked archive until the last reader is done.
    _unpacked: Option<tempfile::TempDir>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl LocalImages {
    /// Opens a folder or an archive; an archive is unpacked below `scratch`. Blocks.
    pub fn open(path: &Path, scratch: &Path) -> Result<Self, RegistryError> {
        let place = path.display().to_string();
        let metadata = std::fs::metadata(path).map_err(|source| RegistryError::Io {
            path: path.into(),
            source,
        })?;
        if metadata.is_dir() {
            return Self::open_folder(place, path.to_path_buf(), None);
        }
        let folder = tempfile::Builder::new()
            .prefix("archive-")
            .tempdir_in(scratch)
            .map_err(|source| RegistryError::Io {
                path: scratch.into(),
                source,
            })?;
        unpack(path, folder.path())?;
        Self::open_folder(place, folder.path().to_path_buf(), Some(folder))
    }

    /// Returns each image with the references that it is known by (none for an untagged one).
    pub fn images(&self) -> &[(Vec<ImageReference>, ImageManifest)] {
        &self.images
    }

    fn open_folder(place: String, root: PathBuf, unpacked: Option<tempfile::TempDir>) -> Result<Self, RegistryError> {
        let root = root
            .canonicalize()
            .map_err(|source| RegistryError::Io { path: root, source })?;
        let mut local = LocalImages {
            place,
            root,
            blobs: HashMap::new(),
            images: Vec::new(),
            _unpacked: unpacked,
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

/// Unpacks a tar, gzipped or not, into an empty folder.
fn unpack(path: &Path, folder: &Path) -> Result<(), RegistryError> {
    let io = |source| RegistryError::Io {
        path: path.to_path_buf(),
        source,
    };
    let malformed = |reason: String| RegistryError::malformed(path.display().to_string(), reason);
    let mut file = File::open(path).map_err(io)?;
    let mut magic = [0u8; 2];
    let read = file.read(&mut magic).map_err(io)?;
    file.rewind().map_err(io)?;
    let reader: Box<dyn Read> = if read == 2 && magic == [0x1f, 0x8b] {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut archive = tar::Archive::new(reader.take(MAX_ARCHIVE));
    archive.set_preserve_permissions(false);
    archive.set_preserve_mtime(false);
    for entry in archive.entries().map_err(io)? {
        let mut entry = entry.map_err(|e| malformed(format!("it is not a tar archive: {e}")))?;
        if !matches!(
            entry.header().entry_type(),
            tar::EntryType::Regular | tar::EntryType::Directory | tar::EntryType::Symlink | tar::EntryType::Link
        ) {
            continue;
        }
        // `unpack_in` refuses what would land outside of the folder.
        if !entry
            .unpack_in(folder)
            .map_err(|e| malformed(format!("an entry cannot be unpacked: {e}")))?
        {
            return Err(malformed("an entry leads outside of the archive".to_string()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
