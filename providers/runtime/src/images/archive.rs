//! An archive of images as a folder: unpacked by the worker that unpacks layers, which has no more rights for it.
//!
//! What comes of it is in `staging/` and goes when it is closed; the names and links in it are its author's, and are resolved by who reads it.

use std::path::{Path, PathBuf};

use super::layer::Place;
use super::unpack::Limits;
use super::{ImageError, worker};

/// An unpacked archive.
#[derive(Debug)]
pub(super) struct Opened {
    place: Place,
    folder: PathBuf,
}

/// Unpacks an archive (a tar, plain or packed by gzip or zstd).
pub(super) async fn open(root: &Path, path: &Path, limits: &Limits) -> Result<Opened, ImageError> {
    let file = tokio::fs::File::open(path)
        .await
        .map_err(ImageError::io("open", path))?;
    let place = Place::new(root)?;
    let (folder, empty) = (place.path().join("archive"), place.path().join("empty"));
    for made in [&folder, &empty] {
        std::fs::create_dir(made).map_err(ImageError::io("create", made))?;
    }
    match worker::unpack(file, &folder, &empty, limits).await {
        Ok(_) => Ok(Opened { place, folder }),
        Err(source) => {
            place.remove().await;
            Err(ImageError::Archive {
                path: path.to_owned(),
                source,
            })
        }
    }
}

impl Opened {
    /// Returns the folder with what the archive holds.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes it.
    pub async fn close(self) {
        self.place.remove().await;
    }
}
