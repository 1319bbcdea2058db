//! Registries that behave and registries that lie, each a few lines of HTTP in this process.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; clippy knows only `#[test]` functions as tests"
)]

#[path = "registries/server.rs"]
mod server;

use std::time::Duration;

use server::{Request, Server, json, reply};
use setpoint_registry::settings::Files;
use setpoint_registry::{
    Class, Credential, Descriptor, ImageReference, Keyring, Origin, Patience, Proof, Registries, RegistryError,
    RemoteImage, Source, digest_of,
};
use tokio::io::AsyncReadExt;

fn impatient() -> Patience {
    Patience {
        answer: Duration::from_secs(2),
        silence: Duration::from_millis(300),
        pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(20),
    }
}

fn registries(settings: &str) -> (tempfile::TempDir, Registries) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registries.toml");
    std::fs::write(&file, settings).unwrap();
    (
        folder,
        Registries::new(Files::new(vec![file])).with_patience(impatient()),
    )
}

fn image(server: &Server, keyring: &Keyring) -> RemoteImage {
    let reference: ImageReference = format!("{}/team/app:v1", server.address).parse().unwrap();
    registries("").1.image(reference, keyring).unwrap()
}

fn keyring(entries: &[(&str, &str, &str)]) -> Keyring {
    let mut keyring = Keyring::default();
    for (key, user, password) in entries {
        let credential = Credential {
            user: (*user).to_owned(),
            proof: Proof::Password((*password).to_owned()),
            origin: Origin::Given,
        };
        keyring.add(key, credential);
    }
    keyring
}

/// A manifest of one empty layer.
fn manifest() -> String {
    let blob = |bytes: &[u8]| format!(r#"{{"digest": "{}", "size": {}}}"#, digest_of(bytes), bytes.len());
    format!(r#"{{"config": {}, "layers": [{}]}}"#, blob(b"{}"), blob(b"layer"))
}

fn all(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn refused(handler: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> (RegistryError, usize) {
    let server = Server::start(handler);
    let error = image(&server, &Keyring::default()).manifest().await.unwrap_err();
    (error, server.requests().len())
}

#[tokio::test]
async fn a_registry_that_asks_for_a_password_gets_it_and_the_next_credential_is_tried() {
    let server = Server::start(|request| match request.header("authorization") {
        // ann:right
        Some("Basic YW5uOnJpZ2h0") => json(&manifest()),
        _ => reply(401, "WWW-Authenticate: Basic realm=\"x\"\r\n", b"{}"),
    });
    let right = [
        (server.address.as_str(), "ann", "wrong"),
        (server.address.as_str(), "ann", "right"),
    ];
    let fetched = image(&server, &keyring(&right)).manifest().await.unwrap();
    assert_eq!(fetched.credential.unwrap().proof, Proof::Password("right".into()));
    let error = image(&server, &keyring(&right[..1])).manifest().await.unwrap_err();
    assert_eq!(error.class(), Class::Denied);
    assert!(
        all(&error).contains("as ann") && !all(&error).contains("wrong"),
        "{}",
        all(&error)
    );
    let error = image(&server, &Keyring::default()).manifest().await.unwrap_err();
    assert_eq!(error.class(), Class::Denied);
    assert!(
        server.requests()[0].header("authorization").is_none(),
        "nothing is said before it is asked for"
    );
}

#[tokio::test]
async fn a_token_server_is_asked_with_the_password_or_the_identity_token() {
    let server = Server::start(|request| {
        let token = r#"{"access_token": "abc", "expires_in": 60}"#;
        match (
            request.method.as_str(),
            request.path.split('?').next().unwrap_or_default(),
        ) {
            ("GET", "/token") if request.header("authorization") == Some("Basic YW5uOnJpZ2h0") => json(token),
            ("POST", "/token") if request.body.contains("refresh_token=id-token") => json(token),
            (_, "/token") => reply(401, "", b""),
            _ if request.header("authorization") == Some("Bearer abc") => json(&manifest()),
            _ => {
                let realm = format!("http://{}/token", request.header("host").unwrap_or_default());
                let challenge = format!(
                    "WWW-Authenticate: Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:team/app:pull\"\r\n"
                );
                reply(401, &challenge, b"{}")
            }
        }
    });
    let password = keyring(&[(&server.address, "ann", "right")]);
    image(&server, &password).manifest().await.unwrap();
    let asked = server
        .requests()
        .iter()
        .find(|request| request.path.starts_with("/token"))
        .unwrap()
        .path
        .clone();
    assert!(
        asked.contains("service=s") && asked.contains("scope=repository%3Ateam%2Fapp%3Apull"),
        "{asked}"
    );
    let mut identity = Keyring::default();
    let credential = Credential {
        user: "00".into(),
        proof: Proof::IdentityToken("id-token".into()),
        origin: Origin::Given,
    };
    identity.add(&server.address, credential);
    image(&server, &identity).manifest().await.unwrap();
    assert_eq!(
        image(&server, &Keyring::default())
            .manifest()
            .await
            .unwrap_err()
            .class(),
        Class::Denied
    );
}

#[tokio::test]
async fn mirrors_are_tried_in_order_and_get_no_credentials_of_others() {
    let missing = Server::start(|_| reply(404, "", b"{}"));
    let mirror = Server::start(|request| match request.path.as_str() {
        "/v2/hub/team/app/manifests/v1" => json(&manifest()),
        _ => reply(404, "", b"{}"),
    });
    let (_folder, registries) = registries(&format!(
        "[[registry]]\nhost = 'r.example'\ndirect = false\nmirrors = [{{ location = '{}', plain_http = true }}, {{ location = '{}/hub', plain_http = true }}]",
        missing.address, mirror.address
    ));
    let keyring = keyring(&[("r.example", "ann", "right")]);
    let image = registries
        .image("r.example/team/app:v1".parse().unwrap(), &keyring)
        .unwrap();
    assert!(image.manifest().await.unwrap().credential.is_none());
    assert!(
        missing
            .requests()
            .iter()
            .chain(&mirror.requests())
            .all(|request| request.header("authorization").is_none())
    );
    // The first is asked for the blob last.
    let layer = Descriptor {
        media_type: String::new(),
        digest: digest_of(b"layer"),
        size: 5,
    };
    assert_eq!(image.blob(&layer).await.err().unwrap().class(), Class::NotFound);
}

#[tokio::test]
async fn the_configuration_is_read_again_when_it_changes_and_a_bad_one_changes_nothing() {
    let mirror = Server::start(|_| json(&manifest()));
    let (folder, registries) = registries("");
    let count = || {
        registries
            .settings()
            .unwrap()
            .endpoints(&"r.example/x".parse().unwrap())
            .len()
    };
    assert_eq!(count(), 1);
    let file = folder.path().join("registries.toml");
    std::fs::write(
        &file,
        format!(
            "[[registry]]\nhost = 'r.example'\nmirrors = [{{ location = '{}' }}]",
            mirror.address
        ),
    )
    .unwrap();
    assert_eq!(count(), 2);
    std::fs::write(&file, "[[registry]]\nhost = 7").unwrap();
    assert_eq!(count(), 2);
}

#[tokio::test]
async fn other_bytes_than_the_digest_promises_are_refused() {
    let server = Server::start(|_| json(&manifest()));
    let digest = format!("sha256:{}", "0".repeat(64));
    let reference: ImageReference = format!("{}/team/app:v1@{digest}", server.address).parse().unwrap();
    let error = registries("")
        .1
        .image(reference, &Keyring::default())
        .unwrap()
        .manifest()
        .await
        .unwrap_err();
    assert!(all(&error).contains("other bytes"), "{}", all(&error));
    assert!(
        server.requests()[0].path.ends_with(&digest),
        "the digest counts, not the tag"
    );
}

#[tokio::test]
async fn answers_that_are_no_manifest_are_refused() {
    let (error, _) = refused(|_| reply(200, "Content-Type: text/html\r\n", b"<html>")).await;
    assert!(all(&error).contains("web page"), "{}", all(&error));
    let (error, _) = refused(|_| json("{")).await;
    assert_eq!(error.class(), Class::Invalid);
    let (error, _) = refused(|_| json(r#"{"schemaVersion": 1, "fsLayers": []}"#)).await;
    assert!(all(&error).contains("schema version 1"), "{}", all(&error));
    let (error, _) = refused(|_| reply(200, "", &vec![b' '; 5 << 20])).await;
    assert!(all(&error).contains("more than"), "{}", all(&error));
    let nested = digest_of(b"x");
    let (error, _) =
        refused(move |_| json(&format!(r#"{{"manifests": [{{"digest": "{nested}", "size": 1}}]}}"#))).await;
    assert_eq!(error.class(), Class::Invalid);
}

#[tokio::test]
async fn redirects_in_circles_end() {
    let (error, requests) = refused(|request| {
        let again = format!("Location: {}\r\n", request.path);
        reply(307, &again, b"")
    })
    .await;
    assert!(all(&error).contains("circles"), "{}", all(&error));
    assert!(requests <= 10, "{requests}");
}

#[tokio::test]
async fn failures_are_tried_again_a_few_times_and_told() {
    let (error, requests) = refused(|_| {
        reply(
            503,
            "",
            br#"{"errors": [{"code": "BUSY", "message": "come\u0007 back"}]}"#,
        )
    })
    .await;
    assert!(
        all(&error).contains("503") && all(&error).contains("BUSY come back"),
        "{}",
        all(&error)
    );
    assert_eq!((requests, error.class()), (3, Class::Transient));
}

#[tokio::test]
async fn a_registry_that_never_answers_is_given_up() {
    let (error, _) = refused(|_| server::hang(b"")).await;
    assert!(matches!(error, RegistryError::Timeout { .. }), "{}", all(&error));
}

const SIZE: usize = 200_000;

fn content() -> Vec<u8> {
    (0..SIZE).map(|at| (at % 251) as u8).collect()
}

async fn download(
    handler: impl Fn(&Request, &[u8]) -> Vec<u8> + Send + Sync + 'static,
) -> (Result<Vec<u8>, String>, usize) {
    let bytes = content();
    let layer = Descriptor {
        media_type: String::new(),
        digest: digest_of(&bytes),
        size: bytes.len() as u64,
    };
    let server = Server::start(move |request| handler(request, &bytes));
    let image = image(&server, &Keyring::default());
    let mut read = Vec::new();
    let outcome = match image.blob(&layer).await {
        Ok(mut reader) => reader.read_to_end(&mut read).await.map_err(|error| error.to_string()),
        Err(error) => Err(all(&error)),
    };
    (outcome.map(|_| read), server.requests().len())
}

fn from(request: &Request) -> usize {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
    range
        .and_then(|range| range.strip_suffix('-'))
        .map_or(0, |from| from.parse().unwrap())
}

#[tokio::test]
async fn a_download_that_breaks_off_is_resumed_where_it_was() {
    let (read, requests) = download(|request, bytes| {
        let from = from(request);
        let head = match from {
            0 => format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"),
            _ => format!(
                "HTTP/1.1 206 Partial\r\nContent-Range: bytes {from}-{}/{SIZE}\r\nContent-Length: {}\r\n\r\n",
                SIZE - 1,
                SIZE - from
            ),
        };
        // A good part, then the connection ends.
        [head.as_bytes(), &bytes[from..(from + 60_000).min(SIZE)]].concat()
    })
    .await;
    assert!(read.unwrap() == content());
    assert_eq!(requests, 4);
}

#[tokio::test]
async fn a_registry_without_ranges_sends_it_once_more() {
    let tries = std::sync::atomic::AtomicUsize::new(0);
    let (read, requests) = download(move |_, bytes| {
        let some = [70_000, 30_000, SIZE][tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed).min(2)];
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
        [head.as_bytes(), &bytes[..some]].concat()
    })
    .await;
    assert!(read.unwrap() == content());
    assert_eq!(requests, 3);
}

#[tokio::test]
async fn a_download_that_stays_silent_or_never_gets_on_is_given_up() {
    for hang in [true, false] {
        let (read, requests) = download(move |request, bytes| {
            let from = from(request);
            let head = format!(
                "HTTP/1.1 206 Partial\r\nContent-Range: bytes {from}-{}/{SIZE}\r\nContent-Length: {}\r\n\r\n",
                SIZE - 1,
                SIZE - from
            );
            let sent = if from == 0 { &bytes[..10] } else { &[][..] };
            let answer = [head.as_bytes(), sent].concat();
            if hang { server::hang(&answer) } else { answer }
        })
        .await;
        let error = read.unwrap_err();
        assert!(error.contains("broke off at 10 of 200000 bytes"), "{error}");
        assert!((5..9).contains(&requests), "{requests}");
    }
}

#[tokio::test]
async fn more_than_the_manifest_says_or_another_part_is_refused() {
    let (read, _) = download(|_, bytes| reply(200, "", &[bytes, b"more"].concat())).await;
    assert!(read.unwrap_err().contains("more than the manifest says"));
    let (read, _) = download(|request, bytes| match from(request) {
        0 => [
            format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes(),
            &bytes[..9],
        ]
        .concat(),
        _ => reply(206, &format!("Content-Range: bytes 0-{}/{SIZE}\r\n", SIZE - 1), bytes),
    })
    .await;
    assert!(read.unwrap_err().contains("another part"));
}

#[tokio::test]
async fn a_layer_that_is_gone_half_way_is_an_error() {
    let (read, requests) = download(|request, bytes| match from(request) {
        0 => [
            format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes(),
            &bytes[..9],
        ]
        .concat(),
        _ => reply(404, "", b"{}"),
    })
    .await;
    assert!(read.unwrap_err().contains("not found"));
    assert_eq!(requests, 2);
}
