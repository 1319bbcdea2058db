//! Images from archives: packed in all ways, and made to do harm.

use std::io::Write;
use std::path::Path;

use libtest_mimic::Trial;
use setpoint_runtime::images::{ImageErrorClass, ImageStore};

use crate::store::{Entry, FILE, LINK, archive, layout, nothing_is_left, tar_of};
use crate::trial;

/// Packs a folder.
fn packed(folder: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", folder).unwrap();
    builder.into_inner().unwrap()
}

async fn an_archive_is_imported_however_it_is_packed() {
    let folder = tempfile::tempdir().unwrap();
    let (docker, oci) = (folder.path().join("docker"), folder.path().join("oci"));
    let layer = tar_of(&[("a", FILE, b"hello", "")]);
    archive(&docker, &layer);
    layout(&oci, std::slice::from_ref(&layer));
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let (docker, oci) = (packed(&docker), packed(&oci));
    for bytes in [
        &docker,
        &gzip(&docker),
        &oci,
        &zstd::encode_all(oci.as_slice(), 1).unwrap(),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("images.tar");
        std::fs::write(&file, bytes).unwrap();
        let store = ImageStore::open(&folder.path().join("store")).unwrap();
        let image = store.import(&file).await.unwrap().remove(0);
        assert_eq!(image.references, ["example.org/x:v1"]);
        assert_eq!(std::fs::read(image.layers[0].join("a")).unwrap(), b"hello");
        let staging = std::fs::read_dir(folder.path().join("store/staging")).unwrap();
        assert_eq!(staging.count(), 0);
    }
}

async fn an_archive_that_would_do_harm_is_refused_and_leaves_nothing() {
    const INDEX: &[u8] = br#"[{"Config": "config.json", "RepoTags": ["x:v1"], "Layers": ["layer.tar"]}]"#;
    const CONFIG: &[u8] = br#"{"os": "linux", "rootfs": {"diff_ids": ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}"#;
    let attacks: &[&[Entry]] = &[
        &[("../up", FILE, b"x", ""), ("manifest.json", FILE, INDEX, "")],
        &[
            ("manifest.json", FILE, INDEX, ""),
            ("config.json", LINK, b"", "/etc/passwd"),
        ],
        &[("manifest.json", LINK, b"", "../../../../../../etc/passwd")],
        // Whoever opened it would wait for ever.
        &[
            ("manifest.json", FILE, INDEX, ""),
            ("config.json", FILE, CONFIG, ""),
            ("layer.tar", tar::EntryType::Fifo, b"", ""),
        ],
        &[("manifest.json", tar::EntryType::Char, b"", "")],
        &[("readme", FILE, b"no image", "")],
    ];
    for attack in attacks {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("images.tar");
        std::fs::write(&file, tar_of(attack)).unwrap();
        let store = ImageStore::open(&folder.path().join("store")).unwrap();
        let error = store.import(&file).await.unwrap_err();
        assert!(error.to_string().contains("images.tar"), "{attack:?}: {error}");
        assert_ne!(error.class(), ImageErrorClass::Transient, "{attack:?}: {error}");
        assert!(!folder.path().join("up").exists());
        nothing_is_left(folder.path(), &store);
    }
}

async fn fields_that_were_never_written_are_zero() {
    let folder = tempfile::tempdir().unwrap();
    archive(&folder.path().join("docker"), &tar_of(&[("a", FILE, b"hello", "")]));
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["config.json", "layer.tar", "manifest.json"] {
        let content = std::fs::read(folder.path().join("docker").join(name)).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    let file = folder.path().join("images.tar");
    std::fs::write(&file, builder.into_inner().unwrap()).unwrap();
    let store = ImageStore::open(&folder.path().join("store")).unwrap();
    assert_eq!(store.import(&file).await.unwrap().len(), 1);
}

async fn what_is_no_archive_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&folder.path().join("store")).unwrap();
    for bytes in [
        &b"not a tar at all, but long enough to be taken for one"[..],
        b"",
        &[0x1f, 0x8b, 8, 0, 1, 2],
    ] {
        let file = folder.path().join("notes.txt");
        std::fs::write(&file, bytes).unwrap();
        let error = store.import(&file).await.unwrap_err();
        assert!(error.to_string().contains("notes.txt"), "{error}");
        nothing_is_left(folder.path(), &store);
    }
    let error = store.import(&folder.path().join("absent.tar")).await.unwrap_err();
    assert!(error.to_string().contains("absent.tar"), "{error}");
}

pub fn tests() -> Vec<Trial> {
    vec![
        trial(
            "an_archive_is_imported_however_it_is_packed",
            an_archive_is_imported_however_it_is_packed,
        ),
        trial(
            "an_archive_that_would_do_harm_is_refused_and_leaves_nothing",
            an_archive_that_would_do_harm_is_refused_and_leaves_nothing,
        ),
        trial(
            "fields_that_were_never_written_are_zero",
            fields_that_were_never_written_are_zero,
        ),
        trial("what_is_no_archive_says_so", what_is_no_archive_says_so),
    ]
}
