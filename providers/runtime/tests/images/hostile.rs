//! Layers that want out, or more than there is: an error or the right files, and nothing left behind.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use setpoint_runtime::images::{ImageError, ImageStore};

use crate::store::{FILE, HARD, LINK, archive, import, nothing_is_left, tar_of};
use crate::trial;

/// The files of a layer that must unpack.
async fn unpacked(layer: Vec<u8>) -> (tempfile::TempDir, PathBuf) {
    let (folder, _store, imported) = import(&[layer]).await;
    let root = imported.unwrap().remove(0).layers.remove(0);
    (folder, root)
}

/// The error of a layer that must not.
async fn refused(layer: Vec<u8>) -> String {
    let (folder, store, imported) = import(&[layer]).await;
    nothing_is_left(folder.path(), &store);
    match imported {
        Err(ImageError::Unpack { source, .. }) => source.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Imports a plain tar without building a layout in memory around it.
async fn raw(layer: &[u8]) -> (tempfile::TempDir, Result<PathBuf, String>) {
    let folder = tempfile::tempdir().unwrap();
    archive(&folder.path().join("archive"), layer);
    let store = ImageStore::open(&folder.path().join("store")).unwrap();
    let imported = store.import(&folder.path().join("archive")).await;
    let outcome = match imported {
        Ok(mut images) => Ok(images.remove(0).layers.remove(0)),
        Err(error) => {
            nothing_is_left(folder.path(), &store);
            Err(std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string))
        }
    };
    (folder, outcome)
}

/// A header and what is to follow it, without any of the builder's own checks.
fn entry(kind: tar::EntryType, path: &str, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn pax(records: &[(&str, &[u8])], then: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let digits = |length: usize| length.to_string().len();
        let length = rest + digits(rest + digits(rest));
        content.extend_from_slice(format!("{length} {key}=").as_bytes());
        content.extend_from_slice(value);
        content.push(b'\n');
    }
    let mut bytes = entry(tar::EntryType::XHeader, "x", content.len() as u64, &content);
    bytes.extend_from_slice(then);
    bytes
}

fn end(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0u8; 256];
    let read = rustix::fs::getxattr(path, name, &mut value).ok()?;
    Some(value[..read].to_vec())
}

async fn paths_that_lead_upwards_are_refused() {
    for path in ["../x", "a/../../x", "a/.."] {
        let error = refused(tar_of(&[(path, FILE, b"x", "")])).await;
        assert!(error.contains("upwards"), "{error}");
    }
    let (_folder, root) = unpacked(tar_of(&[("/etc/absolute", FILE, b"x", "")])).await;
    assert!(root.join("etc/absolute").is_file() && !Path::new("/etc/absolute").exists());
}

async fn links_through_links_stay_inside() {
    let layer = tar_of(&[
        ("up", LINK, b"", "../../../../../../.."),
        ("abs", LINK, b"", "/up"),
        ("abs/tmp/here", FILE, b"x", ""),
    ]);
    let (_folder, root) = unpacked(layer).await;
    assert!(root.join("tmp/here").is_file());
    let looped = tar_of(&[("a", LINK, b"", "b"), ("b", LINK, b"", "a"), ("a/x", FILE, b"x", "")]);
    refused(looped).await;
}

async fn hard_links_reach_nothing_outside() {
    for target in ["/etc/passwd", "../../../../etc/passwd", "proc/self/root/etc/passwd", ""] {
        refused(tar_of(&[("hard", HARD, b"", target)])).await;
    }
    // One to a link is one to the link.
    let (_folder, root) = unpacked(tar_of(&[("l", LINK, b"", "/etc/passwd"), ("h", HARD, b"", "l")])).await;
    assert!(std::fs::symlink_metadata(root.join("h")).unwrap().is_symlink());
}

async fn nodes_and_setuid_bits_are_made_as_they_are_said_to_be() {
    let layer = tar_of(&[
        ("null", tar::EntryType::Char, b"", ""),
        ("disk", tar::EntryType::Block, b"", ""),
        ("pipe", tar::EntryType::Fifo, b"", ""),
        ("su", FILE, b"x", ""),
    ]);
    let (_folder, root) = unpacked(layer).await;
    let kind = |name: &str| std::fs::symlink_metadata(root.join(name)).unwrap().file_type();
    assert!(kind("null").is_char_device() && kind("disk").is_block_device() && kind("pipe").is_fifo());
    let su = std::fs::metadata(root.join("su")).unwrap();
    assert_eq!((su.permissions().mode() & 0o7777, su.uid()), (0o4755, 7));
}

async fn later_entries_replace_earlier_ones_of_any_kind() {
    const DIR: tar::EntryType = tar::EntryType::Directory;
    let layer = tar_of(&[
        ("f", FILE, b"one", ""),
        ("f", FILE, b"two", ""),
        ("d/x/y", FILE, b"x", ""),
        ("d", FILE, b"file", ""),
        ("g", FILE, b"x", ""),
        ("g/", DIR, b"", ""),
        ("g/in", FILE, b"x", ""),
        ("to/", DIR, b"", ""),
        ("l", LINK, b"", "to"),
        ("l/", DIR, b"", ""),
        ("l/own", FILE, b"x", ""),
    ]);
    let (_folder, root) = unpacked(layer).await;
    assert_eq!(std::fs::read(root.join("f")).unwrap(), b"two");
    assert!(root.join("d").is_file() && root.join("g/in").is_file());
    // A directory entry where a link stands is a directory of its own.
    assert!(root.join("l/own").is_file() && !root.join("to/own").exists());
}

async fn whiteouts_of_all_sorts() {
    let layer = tar_of(&[
        ("d/", tar::EntryType::Directory, b"", ""),
        ("d/x/in", FILE, b"x", ""),
        ("d/.wh.x", FILE, b"", ""),
        ("o/.wh..wh..opq", FILE, b"", ""),
        ("p/", tar::EntryType::Directory, b"", ""),
        ("q", LINK, b"", "p"),
        ("q/.wh..wh..opq", FILE, b"", ""),
        ("gone/.wh..wh..opq", FILE, b"", ""),
        (".wh.gone", FILE, b"", ""),
        (".wh..wh.plnk/123", FILE, b"", ""),
        (".wh..wh.aufs", FILE, b"", ""),
        ("a/.wh..wh..tmp", FILE, b"", ""),
    ]);
    let (_folder, root) = unpacked(layer).await;
    let hidden = |name: &str| {
        let metadata = std::fs::symlink_metadata(root.join(name)).unwrap();
        metadata.file_type().is_char_device() && metadata.rdev() == 0
    };
    assert!(hidden("d/x") && hidden("gone"));
    for name in ["o", "p"] {
        assert_eq!(
            xattr(&root.join(name), "trusted.overlay.opaque").as_deref(),
            Some(&b"y"[..]),
            "{name}"
        );
    }
    assert!(xattr(&root.join("d"), "trusted.overlay.opaque").is_none());
    assert!(!root.join(".wh..wh.aufs").exists() && !root.join("a/.wh..wh..tmp").exists());
    for bad in ["d/.wh.", "d/.wh..", "d/.wh..."] {
        refused(tar_of(&[(bad, FILE, b"", "")])).await;
    }
}

async fn the_root_itself_can_be_opaque() {
    let (_folder, root) = unpacked(tar_of(&[(".wh..wh..opq", FILE, b"", "")])).await;
    assert_eq!(xattr(&root, "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]));
}

async fn attributes_that_a_layer_may_set_are_set_and_others_are_not() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let records: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.security.capability", &capability),
        ("SCHILY.xattr.user.note", b"kept"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.security.selinux", b"x"),
    ];
    let layer = end(pax(records, &entry(FILE, "ping", 1, b"x")));
    let (_folder, root) = raw(&layer).await;
    let file = root.unwrap().join("ping");
    assert_eq!(xattr(&file, "security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(xattr(&file, "user.note").as_deref(), Some(&b"kept"[..]));
    for name in ["trusted.overlay.redirect", "user.overlay.opaque", "security.selinux"] {
        assert!(xattr(&file, name).is_none(), "{name}");
    }
}

async fn long_names_and_pax_paths_are_understood() {
    let long = format!("deep/{}/file", "n".repeat(200));
    let mut layer = entry(
        tar::EntryType::GNULongName,
        "././@LongLink",
        long.len() as u64 + 1,
        &[long.as_bytes(), b"\0"].concat(),
    );
    layer.extend(entry(FILE, "short", 2, b"hi"));
    layer.extend(pax(
        &[("path", b"from/pax"), ("size", b"3")],
        &entry(FILE, "other", 3, b"pax"),
    ));
    let (_folder, root) = raw(&end(layer)).await;
    let root = root.unwrap();
    assert_eq!(std::fs::read(root.join(long)).unwrap(), b"hi");
    assert_eq!(std::fs::read(root.join("from/pax")).unwrap(), b"pax");
    let (_folder, outcome) = raw(&end(pax(&[("path", b"../../up")], &entry(FILE, "other", 1, b"x")))).await;
    assert!(outcome.unwrap_err().contains("upwards"));
    let (_folder, outcome) = raw(&end(pax(
        &[("path", "n".repeat(300).as_bytes())],
        &entry(FILE, "o", 1, b"x"),
    )))
    .await;
    assert!(outcome.unwrap_err().contains("too long"));
}

async fn paths_too_deep_are_refused() {
    let deep = "d/".repeat(300) + "f";
    let (_folder, outcome) = raw(&end(pax(&[("path", deep.as_bytes())], &entry(FILE, "x", 1, b"x")))).await;
    assert!(outcome.unwrap_err().contains("deeper"));
}

async fn a_size_that_never_comes_is_an_error() {
    let (_folder, outcome) = raw(&entry(FILE, "big", 1 << 20, b"little")).await;
    outcome.unwrap_err();
    let (_folder, outcome) = raw(&entry(FILE, "huge", u64::MAX >> 2, b"")).await;
    assert!(outcome.unwrap_err().contains("larger than allowed"));
}

/// A name of gigabytes, made of a few kilobytes: the worker runs out of what it may have, and only the worker.
async fn a_name_without_end_ends_the_worker_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut packed = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    packed
        .write_all(&entry(tar::EntryType::GNULongName, "././@LongLink", 3 << 30, b""))
        .unwrap();
    let piece = vec![b'n'; 1 << 20];
    for _ in 0..600 {
        packed.write_all(&piece).unwrap();
    }
    archive(&folder.path().join("archive"), &packed.finish().unwrap());
    let store = ImageStore::open(&folder.path().join("store")).unwrap();
    store.import(&folder.path().join("archive")).await.unwrap_err();
    nothing_is_left(folder.path(), &store);
}

async fn a_hole_takes_no_room() {
    let content = vec![0u8; 4 << 20];
    let (_folder, root) = unpacked(tar_of(&[("hole", FILE, Box::leak(content.into_boxed_slice()), "")])).await;
    let metadata = std::fs::metadata(root.join("hole")).unwrap();
    assert_eq!(metadata.len(), 4 << 20);
    assert!(metadata.blocks() * 512 < 256 << 10, "{} blocks", metadata.blocks());
}

async fn garbage_is_an_error() {
    for bytes in [
        &b"not a tar at all"[..],
        &[0x1f, 0x8b, 8, 0, 1, 2, 3],
        &[0x28, 0xb5, 0x2f, 0xfd, 9, 9, 9, 9],
    ] {
        let (_folder, outcome) = raw(&[bytes, &[7; 2048]].concat()).await;
        outcome.unwrap_err();
    }
}

async fn what_is_unpacked_with_zstd_is_the_same() {
    let tar = tar_of(&[("a", FILE, b"hello", "")]);
    let folder = tempfile::tempdir().unwrap();
    archive(&folder.path().join("archive"), &tar);
    std::fs::write(
        folder.path().join("archive/layer.tar"),
        zstd::encode_all(tar.as_slice(), 3).unwrap(),
    )
    .unwrap();
    let store = ImageStore::open(&folder.path().join("store")).unwrap();
    let image = store.import(&folder.path().join("archive")).await.unwrap().remove(0);
    assert_eq!(std::fs::read(image.layers[0].join("a")).unwrap(), b"hello");
}

pub fn tests() -> Vec<Trial> {
    vec![
        trial(
            "paths_that_lead_upwards_are_refused",
            paths_that_lead_upwards_are_refused,
        ),
        trial("links_through_links_stay_inside", links_through_links_stay_inside),
        trial("hard_links_reach_nothing_outside", hard_links_reach_nothing_outside),
        trial(
            "nodes_and_setuid_bits_are_made_as_they_are_said_to_be",
            nodes_and_setuid_bits_are_made_as_they_are_said_to_be,
        ),
        trial(
            "later_entries_replace_earlier_ones_of_any_kind",
            later_entries_replace_earlier_ones_of_any_kind,
        ),
        trial("whiteouts_of_all_sorts", whiteouts_of_all_sorts),
        trial("the_root_itself_can_be_opaque", the_root_itself_can_be_opaque),
        trial(
            "attributes_that_a_layer_may_set_are_set_and_others_are_not",
            attributes_that_a_layer_may_set_are_set_and_others_are_not,
        ),
        trial(
            "long_names_and_pax_paths_are_understood",
            long_names_and_pax_paths_are_understood,
        ),
        trial("paths_too_deep_are_refused", paths_too_deep_are_refused),
        trial(
            "a_size_that_never_comes_is_an_error",
            a_size_that_never_comes_is_an_error,
        ),
        trial(
            "a_name_without_end_ends_the_worker_and_nothing_else",
            a_name_without_end_ends_the_worker_and_nothing_else,
        ),
        trial("a_hole_takes_no_room", a_hole_takes_no_room),
        trial("garbage_is_an_error", garbage_is_an_error),
        trial(
            "what_is_unpacked_with_zstd_is_the_same",
            what_is_unpacked_with_zstd_is_the_same,
        ),
    ]
}
