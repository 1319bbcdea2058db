//! The image that every peer runs: Debian's static busybox in an archive of `docker save`'s kind, and the program in it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use serde_json::json;

/// Its name.
pub const NAME: &str = "localhost/bench:1";

/// What each container runs: a line in the host's folder, then a server.
pub const PROGRAM: &str =
    "echo \"$(hostname -i 2>/dev/null)\" >> /marks/started; exec httpd -f -p 8080 -h /www -r setpoint-bench";

/// Writes the root file system into `folder/root` and the archive to `folder/image.tar`.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    let root = folder.join("root");
    for name in ["bin", "etc", "tmp", "dev", "proc", "sys", "marks", "www"] {
        std::fs::create_dir_all(root.join(name))?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let busybox = busybox.context("busybox is missing; install it: apt-get install busybox-static")?;
    std::fs::copy(busybox, root.join("bin/busybox"))?;
    for name in ["sh", "echo", "hostname", "httpd", "sleep"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name))?;
    }
    std::fs::write(root.join("www/index.html"), "here\n")?;
    let layer = folder.join("layer.tar");
    let mut tar = tar::Builder::new(File::create(&layer)?);
    tar.follow_symlinks(false);
    tar.append_dir_all(".", &root)?;
    tar.finish()?;
    let diff_id = setpoint_registry::digest_of(&std::fs::read(&layer)?);
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Cmd": ["/bin/sh", "-c", PROGRAM], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created_by": "bench"}], "created": "2024-01-01T00:00:00Z",
    });
    let index = json!([{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(File::create(folder.join("image.tar"))?);
    for (name, text) in [
        ("config.json", config.to_string()),
        ("manifest.json", index.to_string()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, name, text.as_bytes().take(u64::MAX))?;
    }
    archive.append_path_with_name(&layer, "layer.tar")?;
    archive.finish()?;
    std::fs::remove_file(layer)?;
    Ok(())
}
