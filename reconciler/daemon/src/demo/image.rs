//! Writes the demo image as an OCI layout: one layer with this binary and the libraries it is linked to, three configurations.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use setpoint_registry::digest_of;

use super::app;

/// The name of the demo image without its tag.
pub const NAME: &str = "setpoint.dev/demo";

/// Tags, with the version that the app calls itself and whether it fails.
const VARIANTS: [(&str, bool); 3] = [("v1", false), ("v2", false), ("crash", true)];

/// Writes the layout into an empty folder.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder.join("blobs/sha256"))?;
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let layer = layer()?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    // The layer is not compressed: it is read once, from the same disk, at once.
    let layer = blob(folder, "application/vnd.oci.image.layer.v1.tar", &layer)?;
    let diff_id = layer["digest"].clone();
    let mut manifests = Vec::new();
    for (tag, crash) in VARIANTS {
        let mut entrypoint = vec!["/setpoint", app::ROLE];
        entrypoint.extend(crash.then_some(app::CRASH));
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {
                "Entrypoint": entrypoint,
                "Env": ["PATH=/", format!("{}={tag}", app::VERSION)],
                "User": "65532:65532",
                "ExposedPorts": {"8080/tcp": {}},
            },
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        });
        let config = blob(
            folder,
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
        )?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [layer],
        });
        let mut manifest = blob(
            folder,
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().as_bytes(),
        )?;
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": format!("{NAME}:{tag}")});
        manifests.push(manifest);
    }
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    std::fs::write(folder.join("index.json"), index.to_string())?;
    Ok(())
}

fn blob(folder: &Path, media_type: &str, bytes: &[u8]) -> anyhow::Result<Value> {
    let digest = digest_of(bytes);
    std::fs::write(folder.join("blobs").join(digest.replacen(':', "/", 1)), bytes)?;
    Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
}

/// Makes the layer: the binary, its program interpreter and libraries at their own paths, and the folders a container expects.
fn layer() -> anyhow::Result<Vec<u8>> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    // A deleted file (after an upgrade) can still be read by way of the process.
    let binary = std::fs::read("/proc/self/exe").with_context(|| format!("cannot read {}", program.display()))?;
    let mut files: Vec<(PathBuf, Vec<u8>)> = vec![("setpoint".into(), binary.clone())];
    if let Some(interpreter) = interpreter(&binary)? {
        for library in loaded_libraries(&program)? {
            let bytes = std::fs::read(&library).with_context(|| format!("cannot read {}", library.display()))?;
            files.push((library.strip_prefix("/").unwrap_or(&library).to_path_buf(), bytes));
        }
        let inside = interpreter.strip_prefix("/").unwrap_or(&interpreter).to_path_buf();
        if !files.iter().any(|(path, _)| *path == inside) {
            let bytes =
                std::fs::read(&interpreter).with_context(|| format!("cannot read {}", interpreter.display()))?;
            files.push((inside, bytes));
        }
    }
    let mut builder = tar::Builder::new(Vec::new());
    let header = |kind, mode| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        // A fixed time makes the same binary give the same image.
        header.set_mtime(0);
        header
    };
    for (path, mode) in [
        ("tmp/", 0o1777),
        ("etc/", 0o755),
        ("proc/", 0o555),
        ("sys/", 0o555),
        ("dev/", 0o755),
    ] {
        let mut header = header(tar::EntryType::Directory, mode);
        header.set_size(0);
        builder.append_data(&mut header, path, std::io::empty())?;
    }
    for (path, content) in [
        (
            "etc/passwd",
            "root:x:0:0:root:/:/setpoint\ndemo:x:65532:65532:demo:/:/setpoint\n",
        ),
        ("etc/group", "root:x:0:\ndemo:x:65532:\n"),
    ] {
        let mut header = header(tar::EntryType::Regular, 0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content.as_bytes())?;
    }
    for (path, bytes) in &files {
        let mut header = header(tar::EntryType::Regular, 0o755);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, path, bytes.as_slice())?;
    }
    let mut tar = builder.into_inner()?;
    tar.flush()?;
    Ok(tar)
}

/// Returns the shared libraries that this process has loaded: exactly what the same binary needs in a container.
fn loaded_libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut maps = String::new();
    File::open("/proc/self/maps")?
        .read_to_string(&mut maps)
        .context("cannot read /proc/self/maps")?;
    let mut libraries: Vec<PathBuf> = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|path| path.starts_with('/') && path.contains(".so"))
        .map(PathBuf::from)
        .filter(|path| path != program)
        .collect();
    libraries.sort();
    libraries.dedup();
    Ok(libraries)
}

/// Reads the path of the program interpreter (PT_INTERP) from a 64-bit little-endian ELF file; `None` for a static program.
fn interpreter(elf: &[u8]) -> anyhow::Result<Option<PathBuf>> {
    const PT_INTERP: u64 = 3;
    let number = |offset: usize, length: usize| -> anyhow::Result<u64> {
        let bytes = elf
            .get(offset..offset + length)
            .context("this program's ELF header is cut off")?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("this program is not a 64-bit little-endian ELF file, so it cannot be made into an image");
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let header = usize::try_from(table + index * size)?;
        if number(header, 4)? == PT_INTERP {
            let (start, length) = (
                usize::try_from(number(header + 8, 8)?)?,
                usize::try_from(number(header + 32, 8)?)?,
            );
            let text = elf
                .get(start..start + length)
                .context("this program's ELF header is cut off")?;
            let text = std::str::from_utf8(text)?.trim_end_matches('\0');
            return Ok(Some(text.into()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_names_three_images_of_one_layer() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let local = setpoint_registry::LocalImages::open(folder.path(), "demo".into()).unwrap();
        let names: Vec<String> = local.images().iter().map(|(names, _)| names[0].to_string()).collect();
        assert_eq!(
            names,
            [
                "setpoint.dev/demo:v1",
                "setpoint.dev/demo:v2",
                "setpoint.dev/demo:crash"
            ]
        );
        let layers: Vec<_> = local.images().iter().map(|(_, image)| image.layers.clone()).collect();
        assert!(layers.iter().all(|layer| *layer == layers[0] && layer.len() == 1));
    }
}
