//! An image out of the store, as a tar that this store, `docker load` and podman take.
//!
//! What was fetched is not kept in its packed form, since it would take the room of every image a second time. So layers are packed anew of their
//! files, always in the same way: the same image gives the same bytes, with other digests than the registry's.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use serde_json::{Value, json};
use setpoint_registry::digest_of;

use super::Image;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Writes the archive; layers are packed in `staging` first, since a tar wants sizes before contents.
pub(super) fn write(
    image: &Image,
    config: Option<Value>,
    names: &[String],
    staging: &Path,
    to: File,
) -> io::Result<()> {
    let mut archive = tar::Builder::new(BufWriter::new(to));
    let (mut layers, mut diff_ids, mut paths) = (Vec::new(), Vec::new(), Vec::new());
    for layer in &image.layers {
        let mut file = tempfile::tempfile_in(staging)?;
        let digest = pack(layer, &file)?;
        let size = file.stream_position()?;
        file.rewind()?;
        let path = blob_path(&digest);
        if !diff_ids.contains(&digest) {
            append(&mut archive, &path, size, file)?;
        }
        layers.push(json!({"mediaType": LAYER, "digest": digest, "size": size}));
        paths.push(path);
        diff_ids.push(digest);
    }
    let mut config = config.unwrap_or_else(|| described(image));
    config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
    let config = serde_json::to_vec(&config)?;
    let config_path = blob_path(&digest_of(&config));
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers,
        "config": {"mediaType": CONFIG, "digest": digest_of(&config), "size": config.len()},
    }))?;
    let descriptor = json!({"mediaType": MANIFEST, "digest": digest_of(&manifest), "size": manifest.len()});
    let named = names.iter().map(|name| {
        let mut named = descriptor.clone();
        let tag = name.rsplit_once(':').map_or(name.as_str(), |(_, tag)| tag);
        named["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
        named
    });
    let mut manifests: Vec<Value> = named.collect();
    if manifests.is_empty() {
        manifests.push(descriptor);
    }
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": manifests}))?;
    let docker = serde_json::to_vec(&json!([{"Config": config_path, "RepoTags": names, "Layers": paths}]))?;
    let rest = [
        (config_path.as_str(), config.as_slice()),
        (&blob_path(&digest_of(&manifest)), &manifest),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json", &index),
        ("manifest.json", &docker),
    ];
    for (path, bytes) in rest {
        append(&mut archive, path, bytes.len() as u64, bytes)?;
    }
    archive
        .into_inner()?
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, size: u64, content: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    archive.append_data(&mut header, path, content)
}

/// The configuration of an image whose own was not kept.
fn described(image: &Image) -> Value {
    let config = &image.config;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({"os": "linux", "architecture": architecture, "config": {
        "Entrypoint": config.entrypoint, "Cmd": config.cmd, "Env": config.env,
        "WorkingDir": config.working_dir, "User": config.user, "StopSignal": config.stop_signal,
    }})
}

/// Packs a layer's files; returns the digest of the tar.
fn pack(layer: &Path, to: &File) -> io::Result<String> {
    let hashing = Hashing {
        inner: BufWriter::new(to),
        hash: Context::new(&SHA256),
    };
    let mut packing = Packing {
        tar: tar::Builder::new(hashing),
        linked: HashMap::new(),
    };
    packing.folder(layer, Path::new(""))?;
    let mut hashing = packing.tar.into_inner()?;
    hashing.inner.flush()?;
    Ok(format!("sha256:{}", hex::encode(hashing.hash.finish())))
}

struct Hashing<W> {
    inner: W,
    hash: Context,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct Packing<W: Write> {
    tar: tar::Builder<W>,
    /// Files with several names, by inode: the first name.
    linked: HashMap<u64, PathBuf>,
}

impl<W: Write> Packing<W> {
    fn folder(&mut self, from: &Path, name: &Path) -> io::Result<()> {
        if attribute(from, "trusted.overlay.opaque").is_some_and(|value| value == b"y") {
            self.mark(&name.join(".wh..wh..opq"))?;
        }
        let mut entries = std::fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            self.entry(&entry.path(), &name.join(entry.file_name()), &entry.metadata()?)?;
        }
        Ok(())
    }

    fn entry(&mut self, from: &Path, name: &Path, metadata: &Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        if kind.is_char_device() && metadata.rdev() == 0 {
            let hidden = [b".wh.", name.file_name().unwrap_or_default().as_bytes()].concat();
            return self.mark(&name.with_file_name(OsStr::from_bytes(&hidden)));
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(metadata.mode() & 0o7777);
        header.set_uid(metadata.uid().into());
        header.set_gid(metadata.gid().into());
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
        header.set_size(0);
        if kind.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            return self.tar.append_link(&mut header, name, std::fs::read_link(from)?);
        }
        if kind.is_file() && metadata.nlink() > 1 {
            if let Some(first) = self.linked.get(&metadata.ino()) {
                header.set_entry_type(tar::EntryType::Link);
                return self.tar.append_link(&mut header, name, first);
            }
            self.linked.insert(metadata.ino(), name.to_owned());
        }
        if kind.is_file() || kind.is_dir() {
            let attributes = attributes(from)?;
            let records = attributes.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            self.tar.append_pax_extensions(records)?;
        }
        if kind.is_file() {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(metadata.len());
            return self.tar.append_data(&mut header, name, File::open(from)?);
        }
        if kind.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            self.tar.append_data(&mut header, name, io::empty())?;
            return self.folder(from, name);
        }
        let entry_type = match (kind.is_char_device(), kind.is_block_device()) {
            (true, _) => tar::EntryType::Char,
            (_, true) => tar::EntryType::Block,
            _ if kind.is_fifo() => tar::EntryType::Fifo,
            // A socket is of no use without its process.
            _ => return Ok(()),
        };
        header.set_entry_type(entry_type);
        header.set_device_major(rustix::fs::major(metadata.rdev()))?;
        header.set_device_minor(rustix::fs::minor(metadata.rdev()))?;
        self.tar.append_data(&mut header, name, io::empty())
    }

    /// Writes an empty file whose name means something.
    fn mark(&mut self, name: &Path) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        self.tar.append_data(&mut header, name, io::empty())
    }
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 64 << 10];
    let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

/// The extended attributes that belong to the image, as pax records.
fn attributes(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names)?;
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        let name = String::from_utf8_lossy(name);
        if (name == "security.capability" || name.starts_with("user."))
            && let Some(value) = attribute(path, &name)
        {
            found.push((format!("SCHILY.xattr.{name}"), value));
        }
    }
    found.sort();
    Ok(found)
}
