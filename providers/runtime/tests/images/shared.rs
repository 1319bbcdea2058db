//! Layers that several images have: who is given one that is here, who waits for whom, and what a removal leaves alone.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libtest_mimic::Trial;
use setpoint_registry::digest_of;
use setpoint_runtime::images::{ImageError, ImageErrorClass, ImageStore, Keyring, Progress};

use crate::pulls::{secret, serve, store};
use crate::server::{Request, Server, hang, json, reply};
use crate::store::{FILE, archive, layout, tar_of};
use crate::trial;

/// What `ann` with the password `right` sends.
const RIGHT: &str = "Basic YW5uOnJpZ2h0";

/// Serves a layout to whoever sends this.
fn guarded(root: &Path, request: &Request) -> Vec<u8> {
    match request.header("authorization") {
        Some(RIGHT) => serve(root, request),
        _ => reply(401, "WWW-Authenticate: Basic realm=\"x\"\r\n", b"{}"),
    }
}

fn layers(server: &Server) -> usize {
    let requests = server.requests();
    requests
        .iter()
        .filter(|request| request.path.contains("/blobs/"))
        .count()
}

/// A manifest whose one layer is `blob` and whose configuration claims that it is `diff_id`.
fn claims(blob: &str, size: usize, diff_id: &str) -> (String, String) {
    let config = format!(r#"{{"os": "linux", "rootfs": {{"diff_ids": ["{diff_id}"]}}}}"#);
    let manifest = format!(
        r#"{{"config": {{"digest": "{}", "size": {}}}, "layers": [{{"digest": "{blob}", "size": {size}}}]}}"#,
        digest_of(config.as_bytes()),
        config.len()
    );
    (manifest, config)
}

async fn a_layer_that_a_configuration_only_claims_is_not_given_away() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("secret");
    let content = tar_of(&[("password", FILE, b"secret", "")]);
    let blob = layout(&root, std::slice::from_ref(&content)).remove(0);
    let size = std::fs::metadata(&blob).unwrap().len() as usize;
    let digest = format!("sha256:{}", blob.file_name().unwrap().to_string_lossy());
    let owner = Server::start(move |request| guarded(&root, request));
    let store = store(folder.path());
    let right = secret("1", "right", &owner.address);
    let name = format!("{}/team/app:v1", owner.address);
    store.pull(&name, right, &Progress::default()).await.unwrap();

    // One sends bytes of its own for the layer that it claims; one names the very blob, which it does not have; one sends other bytes for it.
    let own = digest_of(b"anything");
    let cases = [
        (own.clone(), 8, Some(&b"anything"[..])),
        (digest.clone(), size, None),
        (digest.clone(), size, Some(&b"anything"[..])),
    ];
    for (blob, size, sent) in cases {
        let (manifest, config) = claims(&blob, size, &digest_of(&content));
        let evil = Server::start(move |request| match request.path.rsplit_once('/') {
            Some((_, last)) if last == blob => sent.map_or_else(|| reply(404, "", b"{}"), |sent| reply(200, "", sent)),
            _ if request.path.contains("/manifests/") => json(&manifest),
            _ => json(&config),
        });
        let name = format!("{}/evil/app:v1", evil.address);
        let refused = store.pull(&name, Keyring::default(), &Progress::default()).await;
        assert!(refused.is_err());
        assert_eq!(store.resolve(&name).unwrap(), None);
    }
    assert_eq!(store.list().unwrap().len(), 1);
}

async fn a_layer_is_fetched_again_by_who_has_not_fetched_it_and_never_unpacked_twice() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("layout");
    layout(&root, &[tar_of(&[("a", FILE, b"hello", "")])]);
    let open = root.clone();
    let guarded = Server::start(move |request| guarded(&root, request));
    let public = Server::start(move |request| serve(&open, request));
    let store = store(folder.path());
    let right = secret("1", "right", &guarded.address);
    let pull =
        async |name: String, keyring: &Keyring| store.pull(&name, keyring.clone(), &Progress::default()).await.unwrap();
    let image = pull(format!("{}/team/app:v1", guarded.address), &right).await;
    let inode = |image: &setpoint_runtime::images::Image| {
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&image.layers[0]).unwrap())
    };
    let first = inode(&image);
    // Refused once without, then the configuration and the layer.
    assert_eq!(layers(&guarded), 2);
    // The same Secret, in another repository: the configuration only.
    pull(format!("{}/team/other:v1", guarded.address), &right).await;
    assert_eq!(layers(&guarded), 3);
    // Nobody in particular has to show that he may have it, once.
    for expected in [2, 3] {
        pull(format!("{}/copy/app:v1", public.address), &Keyring::default()).await;
        assert_eq!(layers(&public), expected);
    }
    assert_eq!(inode(&store.list().unwrap()[0]), first, "it was unpacked once");
    // What anybody can have is had by everybody.
    let other = secret("2", "right", &guarded.address);
    pull(format!("{}/team/third:v1", guarded.address), &other).await;
    assert_eq!(layers(&guarded), 4);
}

async fn an_archive_whose_layer_is_here_is_read_but_not_unpacked_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&folder.path().join("store")).unwrap();
    let layer = tar_of(&[("a", FILE, b"hello", "")]);
    let path = folder.path().join("archive");
    archive(&path, &layer);
    let first = store.import(&path).await.unwrap().remove(0);
    let made = |image: &setpoint_runtime::images::Image| {
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&image.layers[0]).unwrap())
    };
    let inode = made(&first);
    let again = store.import(&path).await.unwrap().remove(0);
    assert_eq!((made(&again), &again.id), (inode, &first.id));
    // Another file under the name of that layer is no such layer.
    std::fs::write(path.join("layer.tar"), tar_of(&[("a", FILE, b"evil!", "")])).unwrap();
    let error = store.import(&path).await.unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "{error}");
    assert_eq!(error.class(), ImageErrorClass::Invalid);
}

async fn a_slow_registry_holds_up_nobody_who_has_the_layer_from_another() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("layout");
    layout(&root, &[tar_of(&[("a", FILE, b"hello", "")])]);
    let reached = Arc::new(AtomicBool::new(false));
    let (other, seen) = (root.clone(), reached.clone());
    let slow = Server::start(move |request| {
        let answer = serve(&root, request);
        let is_layer = request.path.contains("/blobs/") && answer.windows(2).any(|two| two == [0x1f, 0x8b]);
        if !is_layer {
            return answer;
        }
        seen.store(true, Ordering::SeqCst);
        hang(&answer[..answer.len() - 5])
    });
    let fast = Server::start(move |request| serve(&other, request));
    let store = Arc::new(ImageStore::open(&folder.path().join("store")).unwrap());
    let (pulling, name) = (store.clone(), format!("{}/team/app:v1", slow.address));
    let stuck = tokio::spawn(async move {
        let progress = Progress::default();
        pulling.pull(&name, Keyring::default(), &progress).await.map(drop)
    });
    until(|| reached.load(Ordering::SeqCst)).await;
    let name = format!("{}/team/app:v1", fast.address);
    let image = store
        .pull(&name, Keyring::default(), &Progress::default())
        .await
        .unwrap();
    assert_eq!(std::fs::read(image.layers[0].join("a")).unwrap(), b"hello");
    assert!(!stuck.is_finished());
    stuck.abort();
    assert!(stuck.await.unwrap_err().is_cancelled());
}

async fn a_removal_leaves_the_layers_that_a_pull_in_flight_counts_on() {
    let folder = tempfile::tempdir().unwrap();
    let shared = tar_of(&[("a", FILE, b"hello", "")]);
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    layout(&one, std::slice::from_ref(&shared));
    let last = layout(&two, &[shared, tar_of(&[("b", FILE, b"world", "")])]).remove(1);
    let last = last.file_name().unwrap().to_string_lossy().into_owned();
    let (gate, opened) = std::sync::mpsc::channel();
    let (reached, opened) = (Arc::new(AtomicBool::new(false)), Mutex::new(opened));
    let seen = reached.clone();
    let server = Server::start(move |request| {
        if request.path.ends_with(&last) {
            seen.store(true, Ordering::SeqCst);
            opened.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap();
        }
        serve(if request.path.contains("/one/") { &one } else { &two }, request)
    });
    let store = Arc::new(ImageStore::open(&folder.path().join("store")).unwrap());
    let name = |image: &str| format!("{}/{image}/app:v1", server.address);
    let first = store
        .pull(&name("one"), Keyring::default(), &Progress::default())
        .await
        .unwrap();
    let (pulling, second) = (store.clone(), name("two"));
    let pull = tokio::spawn(async move {
        let progress = Progress::default();
        pulling.pull(&second, Keyring::default(), &progress).await
    });
    until(|| reached.load(Ordering::SeqCst)).await;
    // As another process does it.
    let other = ImageStore::open(&folder.path().join("store")).unwrap();
    assert!(other.remove(&name("one")).await.unwrap());
    assert!(first.layers[0].exists(), "the pull counts on it");
    gate.send(()).unwrap();
    let image = pull.await.unwrap().unwrap();
    assert_eq!(std::fs::read(image.layers[0].join("a")).unwrap(), b"hello");
    // With its pull a lease ends.
    assert!(other.remove(&name("two")).await.unwrap());
    crate::store::nothing_is_left(folder.path(), &store);
}

/// Waits for something that another task or process brings about; the trial's own deadline ends it.
async fn until(there: impl Fn() -> bool) {
    while !there() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub fn tests() -> Vec<Trial> {
    vec![
        trial(
            "a_layer_that_a_configuration_only_claims_is_not_given_away",
            a_layer_that_a_configuration_only_claims_is_not_given_away,
        ),
        trial(
            "a_layer_is_fetched_again_by_who_has_not_fetched_it_and_never_unpacked_twice",
            a_layer_is_fetched_again_by_who_has_not_fetched_it_and_never_unpacked_twice,
        ),
        trial(
            "an_archive_whose_layer_is_here_is_read_but_not_unpacked_again",
            an_archive_whose_layer_is_here_is_read_but_not_unpacked_again,
        ),
        trial(
            "a_slow_registry_holds_up_nobody_who_has_the_layer_from_another",
            a_slow_registry_holds_up_nobody_who_has_the_layer_from_another,
        ),
        trial(
            "a_removal_leaves_the_layers_that_a_pull_in_flight_counts_on",
            a_removal_leaves_the_layers_that_a_pull_in_flight_counts_on,
        ),
    ]
}
