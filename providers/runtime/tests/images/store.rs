//! Images from layouts and archives that are made here.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use setpoint_registry::digest_of;
use setpoint_runtime::images::{Image, ImageError, ImageErrorClass, ImageStore};

use crate::trial;

pub type Entry = (&'static str, tar::EntryType, &'static [u8], &'static str);
pub const FILE: tar::EntryType = tar::EntryType::Regular;
pub const LINK: tar::EntryType = tar::EntryType::Symlink;
pub const HARD: tar::EntryType = tar::EntryType::Link;

pub fn tar_of(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content, link) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        header.set_size(content.len() as u64);
        // Set by hand: the builder refuses the very paths that these tests are about.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        if !link.is_empty() {
            header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Writes an OCI layout with one image, `example.org/x:v1`, of gzipped layers; returns the layers' blob paths.
pub fn layout(root: &Path, layers: &[Vec<u8>]) -> Vec<PathBuf> {
    noted_layout(root, layers, "")
}

/// As [`layout`], with a note in the manifest, which makes it another one of the same configuration.
fn noted_layout(root: &Path, layers: &[Vec<u8>], note: &str) -> Vec<PathBuf> {
    std::fs::create_dir_all(root.join("blobs/sha256")).unwrap();
    let mut paths = Vec::new();
    let mut blob = |bytes: &[u8]| {
        let digest = digest_of(bytes);
        let path = root.join("blobs").join(digest.replacen(':', "/", 1));
        std::fs::write(&path, bytes).unwrap();
        paths.push(path);
        serde_json::json!({"digest": digest, "size": bytes.len(), "mediaType": "x"})
    };
    let packed: Vec<_> = layers
        .iter()
        .map(|layer| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(layer).unwrap();
            blob(&encoder.finish().unwrap())
        })
        .collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| digest_of(layer)).collect();
    let config = blob(
        serde_json::json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "config": {"Entrypoint": ["/x"], "Env": ["A=b"], "User": "7"}})
        .to_string()
        .as_bytes(),
    );
    let manifest = blob(
        serde_json::json!({"config": config, "layers": packed, "annotations": {"note": note}})
            .to_string()
            .as_bytes(),
    );
    let index = serde_json::json!({"manifests": [{"digest": manifest["digest"], "size": 1,
        "annotations": {"org.opencontainers.image.ref.name": "example.org/x:v1"}}]});
    std::fs::write(root.join("index.json"), index.to_string()).unwrap();
    paths
}

pub async fn import(layers: &[Vec<u8>]) -> (tempfile::TempDir, ImageStore, Result<Vec<Image>, ImageError>) {
    let folder = tempfile::tempdir().unwrap();
    layout(&folder.path().join("layout"), layers);
    let store = ImageStore::open(&folder.path().join("store")).unwrap();
    let imported = store.import(&folder.path().join("layout")).await;
    (folder, store, imported)
}

/// Nothing of an image is in the store.
pub fn nothing_is_left(folder: &Path, store: &ImageStore) {
    for kept in ["layers", "blobs", "images", "leases", "staging"] {
        assert_eq!(
            std::fs::read_dir(folder.join("store").join(kept)).unwrap().count(),
            0,
            "{kept}"
        );
    }
    assert!(store.list().unwrap().is_empty());
}

async fn an_imported_image_is_found_by_name_id_and_digest() {
    let (_folder, store, imported) = import(&[tar_of(&[("a/b", FILE, b"hello", "")])]).await;
    let image = imported.unwrap().remove(0);
    assert_eq!(store.resolve("example.org/x:v1").unwrap().unwrap(), image);
    assert_eq!(store.resolve(&image.id).unwrap().unwrap(), image);
    assert_eq!(
        store
            .resolve(&format!("example.org/x@{}", image.digest))
            .unwrap()
            .unwrap(),
        image
    );
    assert_eq!(store.resolve("example.org/x:v2").unwrap(), None);
    assert_eq!(image.config.entrypoint, ["/x"]);
    assert_eq!(image.config.user.as_deref(), Some("7"));
    assert_eq!(image.size, 5);
    let file = image.layers[0].join("a/b");
    let metadata = std::fs::metadata(&file).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"hello");
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mtime()), (7, 8, 1_000));
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o4755);
}

async fn whiteouts_become_what_overlayfs_expects() {
    let layer = tar_of(&[("d/.wh.gone", FILE, b"", ""), ("e/.wh..wh..opq", FILE, b"", "")]);
    let (_folder, _store, imported) = import(&[layer]).await;
    let root = imported.unwrap().remove(0).layers.remove(0);
    let gone = std::fs::symlink_metadata(root.join("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let mut value = [0u8; 8];
    let read = rustix::fs::getxattr(root.join("e"), c"trusted.overlay.opaque", &mut value).unwrap();
    assert_eq!(&value[..read], b"y");
}

async fn an_absolute_link_stays_inside_the_layer() {
    let layer = tar_of(&[
        ("target/", tar::EntryType::Directory, b"", ""),
        ("link", LINK, b"", "/target"),
        ("link/file", FILE, b"inside", ""),
        ("hard", HARD, b"", "link/file"),
    ]);
    let (_folder, _store, imported) = import(&[layer]).await;
    let root = imported.unwrap().remove(0).layers.remove(0);
    assert_eq!(std::fs::read(root.join("target/file")).unwrap(), b"inside");
    assert_eq!(std::fs::metadata(root.join("hard")).unwrap().nlink(), 2);
}

async fn layers_that_try_to_escape_are_refused_and_leave_nothing() {
    let outside = tempfile::tempdir().unwrap();
    let victim: &'static str = Box::leak(outside.path().join("victim").display().to_string().into_boxed_str());
    std::fs::write(victim, "untouched").unwrap();
    let attacks: &[&[Entry]] = &[
        &[("../escape", FILE, b"x", "")],
        &[("a", LINK, b"", "../../../.."), ("../a/escape", FILE, b"x", "")],
        &[("hard", HARD, b"", victim)],
        &[("hard", HARD, b"", "../../../../../../etc/passwd")],
        &[("d/.wh...", FILE, b"", "")],
    ];
    for attack in attacks {
        let (folder, store, imported) = import(&[tar_of(attack)]).await;
        assert!(imported.is_err(), "{attack:?}");
        nothing_is_left(folder.path(), &store);
    }
    // A file where a link out stands replaces the link; it is never written through.
    let (_folder, _store, imported) = import(&[tar_of(&[("f", LINK, b"", victim), ("f", FILE, b"mine", "")])]).await;
    assert_eq!(
        std::fs::read(imported.unwrap()[0].layers[0].join("f")).unwrap(),
        b"mine"
    );
    assert_eq!(std::fs::read_to_string(victim).unwrap(), "untouched");
}

async fn a_layer_with_other_bytes_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let layers = [tar_of(&[("a", FILE, b"hello", "")])];
    let blobs = layout(&folder.path().join("layout"), &layers);
    let mut other = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    other.write_all(&tar_of(&[("a", FILE, b"evil!", "")])).unwrap();
    std::fs::write(&blobs[0], other.finish().unwrap()).unwrap();
    let store = ImageStore::open(&folder.path().join("store")).unwrap();
    let error = store.import(&folder.path().join("layout")).await.unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "{error}");
    assert_eq!(error.class(), ImageErrorClass::Invalid);
    nothing_is_left(folder.path(), &store);
}

async fn layers_before_a_failed_one_are_kept_for_the_next_try() {
    let folder = tempfile::tempdir().unwrap();
    let layers = [tar_of(&[("a", FILE, b"1", "")]), tar_of(&[("b", FILE, b"2", "")])];
    let blobs = layout(&folder.path().join("layout"), &layers);
    let whole = std::fs::read(&blobs[1]).unwrap();
    std::fs::write(&blobs[1], &whole[..whole.len() / 2]).unwrap();
    let store = ImageStore::open(&folder.path().join("store")).unwrap();
    let count = |name: &str| {
        std::fs::read_dir(folder.path().join("store").join(name))
            .unwrap()
            .count()
    };
    assert!(store.import(&folder.path().join("layout")).await.is_err());
    assert_eq!((count("layers"), count("images"), count("staging")), (1, 0, 0));
    std::fs::write(&blobs[1], &whole).unwrap();
    std::fs::remove_file(&blobs[0]).unwrap();
    let image = store.import(&folder.path().join("layout")).await.unwrap().remove(0);
    assert_eq!((image.layers.len(), image.size), (2, 2));
}

async fn a_layer_that_an_image_has_twice_is_installed_once() {
    let layer = tar_of(&[("a", FILE, b"1", "")]);
    let (folder, _store, imported) = import(&[layer.clone(), tar_of(&[]), layer]).await;
    assert_eq!(imported.unwrap()[0].layers.len(), 3);
    assert_eq!(
        std::fs::read_dir(folder.path().join("store").join("layers"))
            .unwrap()
            .count(),
        2
    );
    assert_eq!(
        std::fs::read_dir(folder.path().join("store").join("staging"))
            .unwrap()
            .count(),
        0
    );
}

async fn removing_the_last_name_removes_the_image_and_its_layers() {
    let (folder, store, imported) = import(&[tar_of(&[("a", FILE, b"1", "")]), tar_of(&[("b", FILE, b"2", "")])]).await;
    assert_eq!(imported.unwrap()[0].layers.len(), 2);
    assert!(store.remove("example.org/x:v1").await.unwrap());
    assert!(!store.remove("example.org/x:v1").await.unwrap());
    nothing_is_left(folder.path(), &store);
}

/// Two images of one name, the second installed after the first.
async fn two_versions(folder: &Path) -> (ImageStore, [Image; 2]) {
    let store = ImageStore::open(&folder.join("store")).unwrap();
    let mut versions = Vec::new();
    for content in [&b"one"[..], b"two"] {
        let root = folder.join(String::from_utf8_lossy(content).as_ref());
        layout(&root, &[tar_of(&[("version", FILE, content, "")])]);
        versions.extend(store.import(&root).await.unwrap());
    }
    (store, versions.try_into().unwrap())
}

fn version(image: &Image) -> String {
    std::fs::read_to_string(image.layers[0].join("version")).unwrap()
}

async fn an_image_whose_tag_moved_on_is_found_by_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let (store, [one, two]) = two_versions(folder.path()).await;
    assert_eq!(version(&store.resolve("example.org/x:v1").unwrap().unwrap()), "two");
    for reference in [
        format!("example.org/x@{}", one.digest),
        format!("example.org/x:v1@{}", one.digest),
    ] {
        let found = store.resolve(&reference).unwrap().unwrap();
        assert_eq!((version(&found), &found.id), ("one".to_owned(), &one.id), "{reference}");
        assert!(found.references.is_empty());
    }
    // Nor does it go when the name that it had is removed.
    assert!(store.remove("example.org/x:v1").await.unwrap());
    assert_eq!(store.get(&two.id).unwrap(), None);
    let found = store.resolve(&format!("example.org/x@{}", one.digest)).unwrap();
    assert_eq!(version(&found.unwrap()), "one");
}

async fn an_image_of_several_manifests_is_found_by_each_of_their_digests() {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&folder.path().join("store")).unwrap();
    let layers = [tar_of(&[("a", FILE, b"hello", "")])];
    let mut digests = Vec::new();
    for note in ["first", "again"] {
        noted_layout(&folder.path().join(note), &layers, note);
        digests.push(store.import(&folder.path().join(note)).await.unwrap().remove(0).digest);
    }
    assert_ne!(digests[0], digests[1]);
    for digest in &digests {
        let found = store.resolve(&format!("example.org/x@{digest}")).unwrap().unwrap();
        assert_eq!(found.digest, *digest);
    }
    assert_eq!(store.list().unwrap().len(), 1);
    assert_eq!(
        store.resolve("example.org/x:v1").unwrap().unwrap().digest,
        digests[1],
        "a name shows the newest"
    );
}

async fn an_imported_image_is_pinned_until_its_name_means_another() {
    let folder = tempfile::tempdir().unwrap();
    let (store, [one, two]) = two_versions(folder.path()).await;
    let pinned = |image: &Image| store.get(&image.id).unwrap().unwrap().pinned;
    assert!(one.pinned && two.pinned && pinned(&two));
    assert!(!pinned(&one), "its name has moved on");
    // One that never had a name is asked for by its digest.
    let root = folder.path().join("unnamed");
    layout(&root, &[tar_of(&[("a", FILE, b"x", "")])]);
    let index = root.join("index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    let text = text.replace("org.opencontainers.image.ref.name", "org.example.note");
    std::fs::write(&index, text).unwrap();
    assert!(pinned(&store.import(&root).await.unwrap()[0]));
    let age = store.installed_at(&one.id).unwrap().unwrap();
    assert!(age <= store.installed_at(&two.id).unwrap().unwrap());
    assert_eq!(store.installed_at("sha256:no").unwrap(), None);
}

/// Writes what `docker save` does for one image, `example.org/x:v1`, of one layer.
pub fn archive(root: &Path, layer: &[u8]) {
    std::fs::create_dir_all(root).unwrap();
    let config = serde_json::json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        "config": {"Entrypoint": ["/x"], "Env": ["A=b"], "User": "7"}});
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": ["example.org/x:v1"], "Layers": ["layer.tar"]}]);
    std::fs::write(root.join("config.json"), config.to_string()).unwrap();
    std::fs::write(root.join("layer.tar"), layer).unwrap();
    std::fs::write(root.join("manifest.json"), manifest.to_string()).unwrap();
}

async fn the_digest_that_an_image_of_an_archive_is_shown_with_finds_it_also_later() {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&folder.path().join("store")).unwrap();
    let layer = tar_of(&[("a", FILE, b"hello", "")]);
    archive(&folder.path().join("archive"), &layer);
    layout(&folder.path().join("layout"), std::slice::from_ref(&layer));
    let saved = store.import(&folder.path().join("archive")).await.unwrap().remove(0);
    assert_eq!(saved.digest, saved.id);
    let found = |digest: &str| store.resolve(&format!("example.org/x@{digest}")).unwrap();
    assert_eq!(found(&saved.digest).unwrap(), saved);
    // The same image with its manifest: that is what registries know it by.
    let whole = store.import(&folder.path().join("layout")).await.unwrap().remove(0);
    assert_eq!(whole.id, saved.id);
    assert_ne!(whole.digest, saved.digest);
    let again = store.import(&folder.path().join("archive")).await.unwrap().remove(0);
    assert_eq!(again.digest, whole.digest);
    assert_eq!(found(&saved.digest).unwrap().id, saved.id);
    assert_eq!(found(&whole.digest).unwrap().id, saved.id);
}

async fn a_layer_that_a_power_cut_left_without_its_size_is_unpacked_anew() {
    let (folder, store, imported) = import(&[tar_of(&[("a", FILE, b"hello", "")])]).await;
    let layer = imported.unwrap()[0].layers[0].parent().unwrap().to_path_buf();
    for damage in ["", "not a number"] {
        std::fs::write(layer.join("size"), damage).unwrap();
        std::fs::write(layer.join("fs/a"), "").unwrap();
        let image = store.import(&folder.path().join("layout")).await.unwrap().remove(0);
        assert_eq!(image.size, 5);
        assert_eq!(std::fs::read(image.layers[0].join("a")).unwrap(), b"hello");
    }
    assert_eq!(
        std::fs::read_dir(folder.path().join("store").join("staging"))
            .unwrap()
            .count(),
        0
    );
}

async fn a_damaged_record_is_mended_by_installing_the_image_anew() {
    let (folder, store, imported) = import(&[tar_of(&[("a", FILE, b"hello", "")])]).await;
    let image = imported.unwrap().remove(0);
    let record = folder
        .path()
        .join("store/images")
        .join(format!("{}.json", image.id.replace(':', "-")));
    std::fs::write(record, "").unwrap();
    assert!(matches!(store.get(&image.id), Err(ImageError::Damaged { .. })));
    store.import(&folder.path().join("layout")).await.unwrap();
    assert_eq!(store.get(&image.id).unwrap(), Some(image));
}

async fn what_is_exported_can_be_imported_again() {
    let layers = [
        tar_of(&[
            ("a", FILE, b"hello", ""),
            ("d/l", LINK, b"", "/a"),
            ("h", HARD, b"", "a"),
        ]),
        tar_of(&[("d/.wh.l", FILE, b"", ""), ("e/.wh..wh..opq", FILE, b"", "")]),
    ];
    let (folder, store, imported) = import(&layers).await;
    let image = imported.unwrap().remove(0);
    let mut exports = Vec::new();
    for name in ["one.tar", "two.tar"] {
        let path = folder.path().join(name);
        let file = std::fs::File::create(&path).unwrap();
        store
            .export(&image, vec!["example.org/again:v2".into()], file)
            .await
            .unwrap();
        exports.push(std::fs::read(path).unwrap());
    }
    assert!(exports[0] == exports[1], "the same image gives the same bytes");
    let other = ImageStore::open(&folder.path().join("other")).unwrap();
    let again = other.import(&folder.path().join("one.tar")).await.unwrap().remove(0);
    assert_eq!(again.references, ["example.org/again:v2"]);
    assert_eq!((&again.config, again.size), (&image.config, image.size));
    assert_eq!(std::fs::metadata(again.layers[0].join("h")).unwrap().nlink(), 2);
    let hidden = std::fs::symlink_metadata(again.layers[1].join("d/l")).unwrap();
    assert!(hidden.file_type().is_char_device() && hidden.rdev() == 0);
    let mut value = [0u8; 8];
    assert_eq!(
        rustix::fs::getxattr(again.layers[1].join("e"), c"trusted.overlay.opaque", &mut value),
        Ok(1)
    );
}

pub fn tests() -> Vec<Trial> {
    vec![
        trial(
            "what_is_exported_can_be_imported_again",
            what_is_exported_can_be_imported_again,
        ),
        trial(
            "an_imported_image_is_found_by_name_id_and_digest",
            an_imported_image_is_found_by_name_id_and_digest,
        ),
        trial(
            "whiteouts_become_what_overlayfs_expects",
            whiteouts_become_what_overlayfs_expects,
        ),
        trial(
            "an_absolute_link_stays_inside_the_layer",
            an_absolute_link_stays_inside_the_layer,
        ),
        trial(
            "layers_that_try_to_escape_are_refused_and_leave_nothing",
            layers_that_try_to_escape_are_refused_and_leave_nothing,
        ),
        trial(
            "a_layer_with_other_bytes_is_refused_and_leaves_nothing",
            a_layer_with_other_bytes_is_refused_and_leaves_nothing,
        ),
        trial(
            "layers_before_a_failed_one_are_kept_for_the_next_try",
            layers_before_a_failed_one_are_kept_for_the_next_try,
        ),
        trial(
            "a_layer_that_an_image_has_twice_is_installed_once",
            a_layer_that_an_image_has_twice_is_installed_once,
        ),
        trial(
            "removing_the_last_name_removes_the_image_and_its_layers",
            removing_the_last_name_removes_the_image_and_its_layers,
        ),
        trial(
            "an_image_whose_tag_moved_on_is_found_by_its_digest",
            an_image_whose_tag_moved_on_is_found_by_its_digest,
        ),
        trial(
            "an_imported_image_is_pinned_until_its_name_means_another",
            an_imported_image_is_pinned_until_its_name_means_another,
        ),
        trial(
            "an_image_of_several_manifests_is_found_by_each_of_their_digests",
            an_image_of_several_manifests_is_found_by_each_of_their_digests,
        ),
        trial(
            "the_digest_that_an_image_of_an_archive_is_shown_with_finds_it_also_later",
            the_digest_that_an_image_of_an_archive_is_shown_with_finds_it_also_later,
        ),
        trial(
            "a_layer_that_a_power_cut_left_without_its_size_is_unpacked_anew",
            a_layer_that_a_power_cut_left_without_its_size_is_unpacked_anew,
        ),
        trial(
            "a_damaged_record_is_mended_by_installing_the_image_anew",
            a_damaged_record_is_mended_by_installing_the_image_anew,
        ),
    ]
}
