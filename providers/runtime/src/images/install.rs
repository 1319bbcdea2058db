//! From a source's blobs to an installed image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{FutureExt, StreamExt};
use serde::Deserialize;
use serde_json::Value;
use setpoint_registry::{BlobReader, Descriptor, ImageManifest, ImageReference, MAX_MANIFEST, Source, digest_of};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::access::{Access, Came};
use super::blob::{self, Blob};
use super::layer::{Place, Staged};
use super::progress::{self, Progress};
use super::record::{self, Record};
use super::{Image, ImageConfig, ImageError, ImageStore, blocking, layer, lease, names, worker};

/// How many layers of an image are fetched at once.
const PARALLEL_LAYERS: usize = 3;
/// The most layers that an image may have (overlayfs takes 500).
const MAX_LAYERS: usize = 200;
/// How much of a blob is hashed at once, in bytes.
const PIECE: usize = 256 << 10;

#[derive(Deserialize)]
struct RawImage {
    #[serde(default)]
    config: Option<RawConfig>,
    rootfs: RawRootFs,
    os: Option<String>,
}

#[derive(Deserialize)]
struct RawRootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    /// A set, written as an object of empty objects.
    volumes: Option<BTreeMap<String, Value>>,
}

impl From<RawConfig> for ImageConfig {
    fn from(raw: RawConfig) -> Self {
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        ImageConfig {
            entrypoint: raw.entrypoint.unwrap_or_default(),
            cmd: raw.cmd.unwrap_or_default(),
            env: raw.env.unwrap_or_default(),
            working_dir: some(raw.working_dir),
            user: some(raw.user),
            stop_signal: some(raw.stop_signal),
            volumes: raw.volumes.unwrap_or_default().into_keys().collect(),
        }
    }
}

/// What an image is to be installed as.
pub(super) struct Origin<'a> {
    /// Its names.
    pub references: &'a [ImageReference],
    /// The digest that the source was asked for and has answered with, when that may be another one than the manifest's.
    pub asked: Option<&'a str>,
    /// How it came here.
    pub came: Came,
}

/// A layer as it is installed.
struct Layer<'a> {
    /// What the image is called in errors.
    image: &'a str,
    /// What the manifest says of it.
    descriptor: &'a Descriptor,
    /// What the configuration says of it.
    diff_id: &'a str,
    /// How it comes here.
    came: &'a Came,
    shown: Arc<progress::Layer>,
}

impl Layer<'_> {
    /// Reads a blob and shows how far that is.
    fn counted(&self, inner: BlobReader) -> Counted {
        Counted {
            inner,
            shown: self.shown.clone(),
        }
    }

    fn broken(&self, source: std::io::Error) -> ImageError {
        ImageError::Unpack {
            image: self.image.to_owned(),
            digest: self.descriptor.digest.clone(),
            source,
        }
    }

    fn other(&self, what: &'static str, expected: &str, actual: String) -> ImageError {
        ImageError::Digest {
            what,
            image: self.image.to_owned(),
            expected: expected.to_owned(),
            actual,
        }
    }
}

impl ImageStore {
    /// Installs one image under its references; layers that are here already are kept.
    pub(super) async fn install(
        &self,
        source: &dyn Source,
        manifest: &ImageManifest,
        origin: Origin<'_>,
        progress: &Progress,
    ) -> Result<Image, ImageError> {
        let Origin {
            references,
            asked,
            came,
        } = origin;
        let name = references
            .first()
            .map_or_else(|| manifest.digest.clone(), ToString::to_string);
        let (raw, whole_config) = self.read_config(source, manifest, &name).await?;
        let diff_ids = raw.rootfs.diff_ids;
        let invalid = |reason: String| ImageError::Invalid {
            image: name.clone(),
            reason,
        };
        if raw.os.as_deref().is_some_and(|os| os != "linux") {
            return Err(invalid(format!("it is for {}, not linux", raw.os.unwrap_or_default())));
        }
        if diff_ids.len() != manifest.layers.len() || diff_ids.len() > MAX_LAYERS {
            return Err(invalid(format!(
                "its manifest has {} layers and its configuration {} (at most {MAX_LAYERS})",
                manifest.layers.len(),
                diff_ids.len()
            )));
        }
        if let Some(bad) = diff_ids
            .iter()
            .find(|id| !id.strip_prefix("sha256:").is_some_and(is_hex_64))
        {
            return Err(invalid(format!("{bad:?} is not a sha256 digest")));
        }
        // From here on nobody removes what is found here.
        let lease = {
            let lock = names::lock(&self.root).await?;
            let (root, layers) = (self.root.clone(), diff_ids.clone());
            blocking(move || lease::take(&root, &layers, &lock)).await?
        };
        // Boxed one by one: a closure over borrowed layers inside the stream would make this future unfit for `Send` callers.
        let mut installs = Vec::with_capacity(diff_ids.len());
        for (descriptor, diff_id) in manifest.layers.iter().zip(&diff_ids) {
            let shown = progress.begin(&descriptor.digest, descriptor.size);
            let layer = Layer {
                image: &name,
                descriptor,
                diff_id,
                came: &came,
                shown,
            };
            installs.push(self.install_layer(source, layer).boxed());
        }
        let mut layers = futures::stream::iter(installs).buffered(PARALLEL_LAYERS);
        let (mut size, mut failure) = (0, None);
        while let Some(layer) = layers.next().await {
            match layer {
                Ok(bytes) => size += bytes,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        // What came before a failure is in its place, so that the next try need not fetch it again.
        drop(layers);
        if let Some(failure) = failure {
            return Err(failure);
        }
        let mut record = Record {
            id: manifest.config.digest.clone(),
            digest: manifest.digest.clone(),
            other_digests: Vec::new(),
            config: raw.config.unwrap_or_default().into(),
            layers: diff_ids,
            size,
            access: Access::default(),
            named: false,
            whole_config: Some(whole_config),
        };
        record.access.note(&came);
        if let Some(asked) = asked {
            record.also_answer_to(asked);
        }
        // A reference by digest needs no name of its own: the record carries the digest.
        let tags = references.iter().filter(|reference| reference.digest().is_none());
        let tags: Vec<String> = tags.map(ToString::to_string).collect();
        record.named = !tags.is_empty();
        let lock = names::lock(&self.root).await?;
        let root = self.root.clone();
        let image = blocking(move || remember(&root, &name, record, tags, &lock)).await?;
        drop(lease);
        // As it will be shown whenever it is resolved by what was asked for.
        let digest = asked.map_or_else(|| image.digest.clone(), str::to_owned);
        Ok(Image { digest, ..image })
    }

    async fn read_config(
        &self,
        source: &dyn Source,
        manifest: &ImageManifest,
        name: &str,
    ) -> Result<(RawImage, Value), ImageError> {
        let invalid = |reason: String| ImageError::Invalid {
            image: name.to_string(),
            reason,
        };
        let mut bytes = Vec::new();
        source
            .blob(&manifest.config)
            .await?
            .take(MAX_MANIFEST + 1)
            .read_to_end(&mut bytes)
            .await
            .map_err(|e| ImageError::Unpack {
                image: name.into(),
                digest: manifest.config.digest.clone(),
                source: e,
            })?;
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(invalid(format!("its configuration is over {MAX_MANIFEST} bytes")));
        }
        let actual = digest_of(&bytes);
        if actual != manifest.config.digest {
            return Err(ImageError::Digest {
                what: "the configuration",
                image: name.into(),
                expected: manifest.config.digest.clone(),
                actual,
            });
        }
        let unreadable = |e: serde_json::Error| invalid(format!("its configuration: {e}"));
        let whole: Value = serde_json::from_slice(&bytes).map_err(unreadable)?;
        Ok((serde_json::from_slice(&bytes).map_err(unreadable)?, whole))
    }

    /// Unpacks one layer unless it is here; returns the size of its files in bytes.
    async fn install_layer(&self, source: &dyn Source, layer: Layer<'_>) -> Result<u64, ImageError> {
        let (place, credential) = layer.came.place();
        let turn = self.layers.turn((place, credential, layer.descriptor.digest.clone()));
        let _guard = turn.lock().await;
        if let Some(size) = self.have_layer(source, &layer).await? {
            layer.shown.is_ready();
            return Ok(size);
        }
        self.room_for(layer.image, layer.descriptor.size)?;
        let blob = source.blob(layer.descriptor).await?;
        let place = Place::new(&self.root)?;
        let (folder, outcome) = match self.unpack_layer(&layer, blob, &place).await {
            Ok(unpacked) => unpacked,
            Err(error) => {
                place.remove().await;
                return Err(error);
            }
        };
        let staged = Staged {
            place,
            folder,
            diff_id: layer.diff_id.to_owned(),
        };
        let root = self.root.clone();
        let staged = blocking(move || layer::publish(&root, &staged).map(|()| staged)).await?;
        staged.place.remove().await;
        self.note_blob(outcome.packed, &layer).await?;
        layer.shown.is_ready();
        Ok(outcome.size)
    }

    /// Returns the size of a layer that is here, if the blob that the manifest names is known to hold it and may be had by whom it is for.
    ///
    /// Whoever has not fetched that blob before has to: it is read to its end and hashed, but not unpacked again.
    async fn have_layer(&self, source: &dyn Source, layer: &Layer<'_>) -> Result<Option<u64>, ImageError> {
        let Some(size) = self.whole_layer(layer.diff_id).await? else {
            return Ok(None);
        };
        let holds = |blob: &Blob| blob.layer == layer.diff_id;
        if layer.descriptor.has_content_digest() {
            match blob::read(&self.root, &layer.descriptor.digest)?.filter(holds) {
                None => return Ok(None),
                Some(blob) if blob.holders.may_have(layer.came) => return Ok(Some(size)),
                Some(_) => {}
            }
        }
        let digest = digest_of_blob(layer.counted(source.blob(layer.descriptor).await?)).await;
        let digest = digest.map_err(|error| layer.broken(error))?;
        if layer.descriptor.has_content_digest() && digest != layer.descriptor.digest {
            return Err(layer.other("a layer", &layer.descriptor.digest, digest));
        }
        if !blob::read(&self.root, &digest)?.is_some_and(|blob| holds(&blob)) {
            layer.shown.begins_anew();
            return Ok(None);
        }
        self.note_blob(digest, layer).await?;
        Ok(Some(size))
    }

    /// Writes down what a blob holds and who fetched it.
    async fn note_blob(&self, digest: String, layer: &Layer<'_>) -> Result<(), ImageError> {
        let (root, diff_id, came) = (self.root.clone(), layer.diff_id.to_owned(), layer.came.clone());
        blocking(move || blob::note(&root, &digest, &diff_id, &came)).await
    }

    /// Unpacks and checks one layer in `place`; returns its folder there and what came of it.
    async fn unpack_layer(
        &self,
        layer: &Layer<'_>,
        blob: BlobReader,
        place: &Place,
    ) -> Result<(PathBuf, worker::Outcome), ImageError> {
        let (folder, empty) = (place.path().join("layer"), place.path().join("empty"));
        let files = layer::files(&folder);
        for made in [&files, &empty] {
            std::fs::create_dir_all(made).map_err(ImageError::io("create", made))?;
        }
        let unpacked = worker::unpack(layer.counted(blob), &files, &empty, &self.limits).await;
        let outcome = unpacked.map_err(|source| layer.broken(source))?;
        let promised = &layer.descriptor.digest;
        if layer.descriptor.has_content_digest() && outcome.packed != *promised {
            return Err(layer.other("a layer", promised, outcome.packed));
        }
        if outcome.unpacked != layer.diff_id {
            return Err(layer.other("an unpacked layer", layer.diff_id, outcome.unpacked));
        }
        layer::write_size(&folder, outcome.size)?;
        Ok((folder, outcome))
    }

    /// Checks that there is room for what is about to come, which takes at least as much when it is unpacked.
    fn room_for(&self, image: &str, needed: u64) -> Result<(), ImageError> {
        let room =
            rustix::fs::statvfs(&self.root).map_err(|error| ImageError::io("look at", &self.root)(error.into()))?;
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        if needed > free {
            return Err(ImageError::NoRoom {
                image: image.to_owned(),
                needed,
                free,
                folder: self.root.clone(),
            });
        }
        Ok(())
    }

    /// Returns the size of a layer that is here; one that is not whole is put out of the way, to be unpacked anew.
    async fn whole_layer(&self, diff_id: &str) -> Result<Option<u64>, ImageError> {
        let folder = layer::folder(&self.root, diff_id);
        let size = layer::size(&folder)?;
        if size.is_some() || !folder.exists() {
            return Ok(size);
        }
        let lock = names::lock(&self.root).await?;
        let root = self.root.clone();
        blocking(move || {
            let _lock = lock;
            // Another process may have replaced it meanwhile.
            let size = layer::size(&folder)?;
            if size.is_none() && folder.exists() {
                tracing::warn!(layer = %folder.display(), "a layer is not whole; unpacking it anew");
                let doomed = layer::discard(&root, &folder)?;
                crate::tree::remove(&doomed).map_err(ImageError::io("remove", &folder))?;
            }
            Ok(size)
        })
        .await
    }
}

/// Writes an image's record and names, once its layers are here.
fn remember(
    root: &Path,
    image: &str,
    mut record: Record,
    tags: Vec<String>,
    lock: &names::Lock,
) -> Result<Image, ImageError> {
    // Somebody may have removed the layers between their check and the lock: then say so rather than break later.
    let mut layers = record.layers.iter();
    if let Some(gone) = layers.find(|digest| !layer::folder(root, digest).exists()) {
        return Err(ImageError::Invalid {
            image: image.to_owned(),
            reason: format!("layer {gone} was removed meanwhile; try again"),
        });
    }
    match record::read(root, &record.id) {
        Ok(Some(earlier)) => record.succeed(earlier),
        Ok(None) => {}
        // Installing it anew is what mends it.
        Err(error @ ImageError::Damaged { .. }) => tracing::warn!(%error, image, "replacing the record of an image"),
        Err(error) => return Err(error),
    }
    record::write(root, &record)?;
    let mut names = names::read(root)?;
    names.extend(tags.into_iter().map(|tag| (tag, record.id.clone())));
    names::write(root, &names, lock)?;
    Ok(record.into_image(root, &names))
}

/// Reads a blob to its end; returns its digest.
async fn digest_of_blob(mut blob: impl AsyncRead + Unpin) -> std::io::Result<String> {
    let (mut hash, mut buffer) = (ring::digest::Context::new(&ring::digest::SHA256), vec![0; PIECE]);
    loop {
        match blob.read(&mut buffer).await? {
            0 => return Ok(format!("sha256:{}", hex::encode(hash.finish()))),
            count => hash.update(&buffer[..count]),
        }
    }
}

fn is_hex_64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Shows how much has passed through.
struct Counted {
    inner: BlobReader,
    shown: Arc<progress::Layer>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.shown.came(buf.filled().len() - before);
        poll
    }
}
