//! Pulls from registries in this process: shared work, progress, who may use what came, and lies.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;
use setpoint_registry::digest_of;
use setpoint_runtime::images::{
    Credential, ImageError, ImageErrorClass, ImageStore, Keyring, NodeCredentials, Origin, Patience, Progress, Proof,
    Registries, RegistryFiles,
};

use crate::server::{Request, Server, json, reply};
use crate::store::{FILE, layout, nothing_is_left, tar_of};
use crate::trial;

pub fn store(folder: &Path) -> ImageStore {
    let patience = Patience {
        answer: Duration::from_secs(5),
        silence: Duration::from_millis(500),
        pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(10),
    };
    let registries = Registries::new(RegistryFiles::default()).with_patience(patience);
    ImageStore::open(&folder.join("store"))
        .unwrap()
        .with_registries(registries, NodeCredentials::default())
}

/// What a registry answers that has the layout's image under every name.
pub fn serve(root: &Path, request: &Request) -> Vec<u8> {
    let blob = |digest: &str| root.join("blobs").join(digest.replacen(':', "/", 1));
    let last = request.path.rsplit('/').next().unwrap_or_default();
    if request.path.contains("/manifests/") {
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(root.join("index.json")).unwrap()).unwrap();
        let digest = if last.starts_with("sha256:") {
            last
        } else {
            index["manifests"][0]["digest"].as_str().unwrap()
        };
        return match std::fs::read(blob(digest)) {
            Ok(bytes) => reply(200, "Content-Type: application/json\r\n", &bytes),
            Err(_) => reply(404, "", b"{}"),
        };
    }
    match std::fs::read(blob(last)) {
        Ok(bytes) => reply(200, "", &bytes),
        Err(_) => reply(404, "", b"{}"),
    }
}

/// An image of two layers; returns its folder.
fn image(folder: &Path) -> PathBuf {
    let root = folder.join("layout");
    layout(
        &root,
        &[
            tar_of(&[("a", FILE, b"hello", "")]),
            tar_of(&[("b", FILE, b"world", "")]),
        ],
    );
    root
}

pub fn secret(uid: &str, password: &str, host: &str) -> Keyring {
    let mut keyring = Keyring::default();
    let credential = Credential {
        user: "ann".into(),
        proof: Proof::Password(password.into()),
        origin: Origin::Secret {
            namespace: "shop".into(),
            name: "pull".into(),
            uid: uid.into(),
        },
    };
    keyring.add(host, credential);
    keyring
}

async fn an_image_is_pulled_and_its_progress_shown() {
    let folder = tempfile::tempdir().unwrap();
    let root = image(folder.path());
    let server = Server::start(move |request| serve(&root, request));
    let (store, progress) = (store(folder.path()), Progress::default());
    let name = format!("{}/team/app:v1", server.address);
    let missing = store.missing(&name).await.unwrap().unwrap();
    let pulled = store.pull(&name, Keyring::default(), &progress).await.unwrap();
    assert_eq!((pulled.layers.len(), pulled.size, pulled.pinned), (2, 10, false));
    assert!(store.pulls().is_empty(), "none is under way");
    let layers = progress.layers();
    assert!(
        layers
            .iter()
            .all(|layer| layer.ready && layer.done == layer.size && layer.size > 0),
        "{layers:?}"
    );
    assert_eq!(progress.bytes(), (missing, missing));
    assert_eq!(store.missing(&name).await.unwrap(), None);
    let other = format!("{}/team/app:v2", server.address);
    assert_eq!(store.missing(&other).await.unwrap(), Some(0), "its layers are here");
    // What is here is not fetched again; the tag is asked for.
    let before = server.requests().len();
    store
        .pull(&name, Keyring::default(), &Progress::default())
        .await
        .unwrap();
    let again: Vec<String> = server.requests()[before..]
        .iter()
        .map(|request| request.path.clone())
        .collect();
    assert!(
        again.iter().any(|path| path.contains("/manifests/v1")) && again.len() == 2,
        "{again:?}"
    );
}

async fn images_that_share_a_layer_fetch_it_once_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let root = image(folder.path());
    let server = Server::start(move |request| serve(&root, request));
    let store = store(folder.path());
    let progress = Progress::default();
    let names: Vec<String> = (0..4).map(|at| format!("{}/team/app{at}:v1", server.address)).collect();
    let pulls = names.iter().map(|name| store.pull(name, Keyring::default(), &progress));
    for pulled in futures::future::join_all(pulls).await {
        pulled.unwrap();
    }
    let layers = server
        .requests()
        .iter()
        .filter(|request| request.path.contains("/blobs/"))
        .count();
    assert_eq!(layers, 4 + 2, "four configurations, two layers");
    assert_eq!(store.list().unwrap().len(), 1);
}

async fn an_index_leads_to_this_platform_and_both_digests_find_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let root = image(folder.path());
    let digest: serde_json::Value = serde_json::from_slice(&std::fs::read(root.join("index.json")).unwrap()).unwrap();
    let digest = digest["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let index = format!(
        r#"{{"manifests": [{{"digest": "sha256:{}", "size": 1, "platform": {{"os": "unknown", "architecture": "unknown"}}}},
            {{"digest": "{digest}", "size": 1, "platform": {{"os": "linux", "architecture": "{architecture}"}}}}]}}"#,
        "0".repeat(64)
    );
    let asked = digest_of(index.as_bytes());
    let known = asked.clone();
    let server = Server::start(move |request| {
        if request.path.ends_with(&known) {
            json(&index)
        } else {
            serve(&root, request)
        }
    });
    let store = store(folder.path());
    let name = format!("{}/team/app:v9@{asked}", server.address);
    let pulled = store
        .pull(&name, Keyring::default(), &Progress::default())
        .await
        .unwrap();
    assert_eq!(pulled.digest, asked);
    for digest in [&asked, &digest] {
        let found = store.resolve(&format!("{}/team/app@{digest}", server.address)).unwrap();
        assert_eq!(found.unwrap().id, pulled.id);
    }
}

async fn what_a_secret_fetched_is_for_pods_that_have_it_until_the_registry_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let root = image(folder.path());
    let server = Server::start(move |request| match request.header("authorization") {
        // ann:right
        Some("Basic YW5uOnJpZ2h0") => serve(&root, request),
        _ => reply(401, "WWW-Authenticate: Basic realm=\"x\"\r\n", b"{}"),
    });
    let store = store(folder.path());
    let name = format!("{}/team/app:v1", server.address);
    let right = secret("1", "right", &server.address);
    let image = store.pull(&name, right.clone(), &Progress::default()).await.unwrap();
    assert!(store.may_use(&image.id, &name, &right).unwrap());
    let other = secret("2", "wrong", &server.address);
    for keyring in [Keyring::default(), other] {
        assert!(!store.may_use(&image.id, &name, &keyring).unwrap());
        let error = store.pull(&name, keyring, &Progress::default()).await.unwrap_err();
        assert_eq!(error.class(), ImageErrorClass::Denied);
    }
    let record = std::fs::read_dir(folder.path().join("store/images"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert!(!std::fs::read_to_string(record.path()).unwrap().contains("right"));
}

async fn lies_of_a_registry_leave_nothing() {
    type Lie = fn(&Path, &Request) -> Vec<u8>;
    let lies: [(&str, Lie); 6] = [
        ("other bytes of the same size", |root, request| {
            let mut answer = serve(root, request);
            if request.path.contains("/blobs/")
                && let Some(last) = answer.last_mut()
            {
                *last ^= 1;
            }
            answer
        }),
        ("more bytes", |root, request| {
            let answer = serve(root, request);
            if !request.path.contains("/blobs/") {
                return answer;
            }
            let body = answer
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
                .map_or(0, |at| at + 4);
            reply(200, "", &[&answer[body..], &[0; 4096]].concat())
        }),
        ("fewer bytes, each time anew", |root, request| {
            let answer = serve(root, request);
            if request.path.contains("/blobs/") {
                answer[..answer.len() - 9].to_vec()
            } else {
                answer
            }
        }),
        ("no layer", |root, request| {
            if request.path.contains("/blobs/") {
                reply(404, "", b"{}")
            } else {
                serve(root, request)
            }
        }),
        ("a broken server", |root, request| {
            if request.path.contains("/blobs/") {
                reply(500, "", b"{}")
            } else {
                serve(root, request)
            }
        }),
        ("silence", |root, request| {
            if request.path.contains("/blobs/") {
                crate::server::hang(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            } else {
                serve(root, request)
            }
        }),
    ];
    for (what, lie) in lies {
        let folder = tempfile::tempdir().unwrap();
        let root = image(folder.path());
        let server = Server::start(move |request| lie(&root, request));
        let store = store(folder.path());
        let name = format!("{}/team/app:v1", server.address);
        let error = store.pull(&name, Keyring::default(), &Progress::default()).await;
        assert!(error.is_err(), "{what}");
        nothing_is_left(folder.path(), &store);
    }
}

async fn a_pull_that_is_given_up_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = image(folder.path());
    let begun = Arc::new(AtomicUsize::new(0));
    let seen = begun.clone();
    let server = Server::start(move |request| {
        let answer = serve(&root, request);
        let is_layer = request.path.contains("/blobs/") && answer.windows(2).any(|two| two == [0x1f, 0x8b]);
        if !is_layer {
            return answer;
        }
        seen.fetch_add(1, Ordering::SeqCst);
        crate::server::hang(&answer[..answer.len() - 5])
    });
    let store = Arc::new(store(folder.path()));
    let (pulling, name) = (store.clone(), format!("{}/team/app:v1", server.address));
    let pull = tokio::spawn(async move {
        pulling
            .pull(&name, Keyring::default(), &Progress::default())
            .await
            .map(drop)
    });
    while begun.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    pull.abort();
    assert!(pull.await.unwrap_err().is_cancelled());
    // Its worker is killed and then what it wrote is removed.
    while std::fs::read_dir(folder.path().join("store/staging")).unwrap().count() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    nothing_is_left(folder.path(), &store);
}

async fn a_layer_that_cannot_fit_is_refused_before_it_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let blob = |size: u64, bytes: &[u8]| format!(r#"{{"digest": "{}", "size": {size}}}"#, digest_of(bytes));
    let config = format!(
        r#"{{"os": "linux", "rootfs": {{"diff_ids": ["{}"]}}}}"#,
        digest_of(b"x")
    );
    let manifest = format!(
        r#"{{"config": {}, "layers": [{}]}}"#,
        blob(config.len() as u64, config.as_bytes()),
        blob(1 << 60, b"layer")
    );
    let server = Server::start(move |request| {
        json(if request.path.contains("/manifests/") {
            &manifest
        } else {
            &config
        })
    });
    let store = store(folder.path());
    let name = format!("{}/team/app:v1", server.address);
    let error = store
        .pull(&name, Keyring::default(), &Progress::default())
        .await
        .unwrap_err();
    assert!(
        matches!(error, ImageError::NoRoom { .. }) && error.to_string().contains("are free in"),
        "{error}"
    );
    nothing_is_left(folder.path(), &store);
}

pub fn tests() -> Vec<Trial> {
    vec![
        trial(
            "an_image_is_pulled_and_its_progress_shown",
            an_image_is_pulled_and_its_progress_shown,
        ),
        trial(
            "images_that_share_a_layer_fetch_it_once_at_a_time",
            images_that_share_a_layer_fetch_it_once_at_a_time,
        ),
        trial(
            "an_index_leads_to_this_platform_and_both_digests_find_the_image",
            an_index_leads_to_this_platform_and_both_digests_find_the_image,
        ),
        trial(
            "what_a_secret_fetched_is_for_pods_that_have_it_until_the_registry_says_otherwise",
            what_a_secret_fetched_is_for_pods_that_have_it_until_the_registry_says_otherwise,
        ),
        trial("lies_of_a_registry_leave_nothing", lies_of_a_registry_leave_nothing),
        trial(
            "a_pull_that_is_given_up_leaves_nothing",
            a_pull_that_is_given_up_leaves_nothing,
        ),
        trial(
            "a_layer_that_cannot_fit_is_refused_before_it_is_fetched",
            a_layer_that_cannot_fit_is_refused_before_it_is_fetched,
        ),
    ]
}
