use std::io::Write;

use tokio::io::AsyncReadExt;

use super::*;

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().write_all(bytes).unwrap();
}

fn layout(root: &Path) -> String {
    let blob = |bytes: &[u8]| {
        let digest = digest_of(bytes);
        write(&root.join("blobs").join(digest.replacen(':', "/", 1)), bytes);
        digest
    };
    let config = blob(b"{}");
    let layer = blob(b"layer");
    let manifest = blob(
        serde_json::json!({"config": {"digest": config, "size": 2}, "layers": [{"digest": layer, "size": 5}]})
            .to_string()
            .as_bytes(),
    );
    let index = serde_json::json!({"manifests": [
        {"digest": manifest, "size": 1, "annotations": {"org.opencontainers.image.ref.name": "example.org/x:v1"}}]});
    write(&root.join("index.json"), index.to_string().as_bytes());
    layer
}

async fn content(images: &LocalImages, descriptor: &Descriptor) -> Vec<u8> {
    let mut bytes = Vec::new();
    images
        .blob(descriptor)
        .await
        .unwrap()
        .read_to_end(&mut bytes)
        .await
        .unwrap();
    bytes
}

#[tokio::test]
async fn a_layout_lists_its_images_and_opens_their_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let layer = layout(folder.path());
    let images = LocalImages::open(folder.path(), "here".into()).unwrap();
    let [(references, manifest)] = images.images() else {
        panic!("one image")
    };
    assert_eq!(references[0].to_string(), "example.org/x:v1");
    assert_eq!(manifest.layers[0].digest, layer);
    assert_eq!(content(&images, &manifest.layers[0]).await, b"layer");
}

#[tokio::test]
async fn what_docker_saved_is_read_with_its_tags() {
    let folder = tempfile::tempdir().unwrap();
    let content_folder = folder.path().join("content");
    write(&content_folder.join("config.json"), b"{\"rootfs\":{}}");
    write(&content_folder.join("a/layer.tar"), b"bytes");
    write(
        &content_folder.join("manifest.json"),
        br#"[{"Config":"config.json","RepoTags":["demo:v2"],"Layers":["a/layer.tar"]}]"#,
    );
    let images = LocalImages::open(&content_folder, "save.tar".into()).unwrap();
    let [(references, manifest)] = images.images() else {
        panic!("one image")
    };
    assert_eq!(references[0].to_string(), "docker.io/library/demo:v2");
    assert_eq!(content(&images, &manifest.layers[0]).await, b"bytes");
    assert!(!manifest.layers[0].has_content_digest());
    assert_eq!(manifest.config.digest, digest_of(b"{\"rootfs\":{}}"));
}

#[test]
fn a_link_that_leads_outside_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    write(&folder.path().join("secret"), b"{}");
    std::fs::create_dir_all(&root).unwrap();
    std::os::unix::fs::symlink("../secret", root.join("config.json")).unwrap();
    write(
        &root.join("manifest.json"),
        br#"[{"Config":"config.json","RepoTags":null,"Layers":[]}]"#,
    );
    let error = LocalImages::open(&root, "here".into()).err().unwrap();
    assert!(error.to_string().contains("not a file inside it"), "{error}");
    write(
        &root.join("manifest.json"),
        br#"[{"Config":"../secret","RepoTags":null,"Layers":[]}]"#,
    );
    let error = LocalImages::open(&root, "here".into()).err().unwrap();
    assert!(error.to_string().contains("not a file inside it"), "{error}");
}

#[test]
fn a_layout_that_lies_about_a_digest_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    layout(folder.path());
    for entry in std::fs::read_dir(folder.path().join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        if std::fs::read(&path).unwrap().starts_with(b"{\"config\"") {
            std::fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .unwrap()
                .write_all(b" ")
                .unwrap();
        }
    }
    let error = LocalImages::open(folder.path(), "here".into()).err().unwrap();
    assert!(error.to_string().contains("does not have that digest"), "{error}");
}

#[test]
fn what_is_no_image_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = LocalImages::open(folder.path(), "here".into()).err().unwrap();
    assert!(error.to_string().contains("neither an index.json"), "{error}");
}
