//! A registry as it is run elsewhere (Debian's `docker-registry`): with passwords, with a private authority, behind a proxy, and by a helper.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use setpoint_registry::digest_of;
use setpoint_runtime::images::{
    Image, ImageError, ImageErrorClass, ImageStore, Keyring, NodeCredentials, Progress, Registries, RegistryFiles,
};

use crate::pulls::secret;
use crate::store::{FILE, tar_of};
use crate::trial;

/// How long the registry may take to listen.
const DEADLINE: Duration = Duration::from_secs(30);
/// A line of htpasswd for the user `ann` with the password `right`.
const HTPASSWD: &str = "ann:$2y$05$abcdefghijklmnopqrstuu8xaCxxL82bnl.UY74PMksDxIJShppPC\n";

/// Lets a moment pass between two looks at something that tells nobody when it changes.
#[allow(
    clippy::disallowed_methods,
    reason = "another program's state is looked at under a deadline"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// A registry on a free port, until it is dropped.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    /// Starts one over a folder of images; `http` and `rest` are further lines of its configuration.
    fn start(folder: &Path, http: &str, rest: &str) -> Registry {
        // The program cannot be given port 0 and say which it took: take one that is free, now.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let config = folder.join(format!("{}.yml", address.replace(':', "-")));
        let text = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp:\n  addr: '{address}'\n{http}{rest}",
            folder.join("storage").display()
        );
        std::fs::write(&config, text).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed by .ci/install");
        let registry = Registry { process, address };
        let end = Instant::now() + DEADLINE;
        while TcpStream::connect(&registry.address).is_err() {
            assert!(Instant::now() < end, "the registry does not listen");
            pause();
        }
        registry
    }

    fn curl(&self, args: &[&str], url: &str) -> String {
        let url = match url.strip_prefix('/') {
            Some(path) => format!("http://{}/{path}", self.address),
            None => url.to_owned(),
        };
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--fail",
                "--max-time",
                "30",
                "--noproxy",
                "*",
            ])
            .args(args)
            .arg(&url)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{url}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Uploads a blob; returns what a manifest says of it.
    fn blob(&self, folder: &Path, kind: &str, bytes: &[u8]) -> serde_json::Value {
        let file = folder.join("blob");
        std::fs::write(&file, bytes).unwrap();
        let started = self.curl(
            &["-X", "POST", "-D", "-", "-o", "/dev/null"],
            "/v2/team/app/blobs/uploads/",
        );
        let location = started.lines().find_map(|line| {
            let (header, value) = line.split_once(": ")?;
            header.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
        });
        let digest = digest_of(bytes);
        let url = format!("{}&digest={digest}", location.unwrap());
        let data = format!("@{}", file.display());
        let kind_of_body = "Content-Type: application/octet-stream";
        self.curl(&["-X", "PUT", "-H", kind_of_body, "--data-binary", &data], &url);
        serde_json::json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().expect("the registry runs");
        self.process.wait().expect("the registry ends");
    }
}

/// A folder with the images of a registry: `team/app:v1` of one layer.
fn images() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path(), "", "");
    let layer = tar_of(&[("a", FILE, b"hello", "")]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&layer).unwrap();
    let config = serde_json::json!({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/a"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(&layer)]}});
    let oci = |what: &str| format!("application/vnd.oci.image.{what}");
    let config = registry.blob(folder.path(), &oci("config.v1+json"), config.to_string().as_bytes());
    let layer = registry.blob(folder.path(), &oci("layer.v1.tar+gzip"), &packed.finish().unwrap());
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": oci("manifest.v1+json"),
        "config": config, "layers": [layer]});
    let (kind, data) = (
        format!("Content-Type: {}", oci("manifest.v1+json")),
        manifest.to_string(),
    );
    registry.curl(
        &["-X", "PUT", "-H", &kind, "--data-binary", &data],
        "/v2/team/app/manifests/v1",
    );
    folder
}

/// An empty store that reaches registries by these settings.
fn store(settings: &str, credentials: Vec<PathBuf>) -> (tempfile::TempDir, ImageStore) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registries.toml");
    std::fs::write(&file, settings).unwrap();
    let registries = Registries::new(RegistryFiles::new(vec![file]));
    let store = ImageStore::open(&folder.path().join("store")).unwrap();
    let store = store.with_registries(registries, NodeCredentials::new(credentials));
    (folder, store)
}

async fn pull(store: &ImageStore, host: &str, keyring: Keyring) -> Result<Image, ImageError> {
    let name = format!("{host}/team/app:v1");
    store.pull(&name, keyring, &Progress::default()).await
}

fn hello(image: &Image) -> bool {
    std::fs::read(image.layers[0].join("a")).unwrap() == b"hello"
}

async fn a_registry_with_passwords_is_shown_the_right_one() {
    let folder = images();
    let passwords = folder.path().join("htpasswd");
    std::fs::write(&passwords, HTPASSWD).unwrap();
    let auth = format!(
        "auth: {{ htpasswd: {{ realm: test, path: {} }} }}\n",
        passwords.display()
    );
    let registry = Registry::start(folder.path(), "", &auth);
    let host = registry.address.as_str();
    let (_kept, store) = store("", Vec::new());
    for keyring in [Keyring::default(), secret("1", "wrong", host)] {
        let error = pull(&store, host, keyring).await.unwrap_err();
        assert_eq!(error.class(), ImageErrorClass::Denied, "{error}");
    }
    let right = secret("1", "right", host);
    let image = pull(&store, host, right.clone()).await.unwrap();
    assert!(hello(&image));
    let name = format!("{host}/team/app:v1");
    assert!(store.may_use(&image.id, &name, &right).unwrap());
    assert!(!store.may_use(&image.id, &name, &Keyring::default()).unwrap());
}

async fn a_helper_is_asked_for_the_machines_credentials() {
    let folder = images();
    let passwords = folder.path().join("htpasswd");
    std::fs::write(&passwords, HTPASSWD).unwrap();
    let auth = format!(
        "auth: {{ htpasswd: {{ realm: test, path: {} }} }}\n",
        passwords.display()
    );
    let registry = Registry::start(folder.path(), "", &auth);
    let host = registry.address.as_str();
    let config = folder.path().join("config.json");
    for by in [
        serde_json::json!({"credsStore": "ann"}),
        serde_json::json!({"credHelpers": {host: "ann"}}),
    ] {
        std::fs::write(&config, by.to_string()).unwrap();
        let (_kept, store) = store("", vec![config.clone()]);
        let image = pull(&store, host, Keyring::default()).await.unwrap();
        // The machine's credentials are every pod's.
        let name = format!("{host}/team/app:v1");
        assert!(hello(&image) && store.may_use(&image.id, &name, &Keyring::default()).unwrap());
    }
}

/// Makes an authority and a certificate of it for these names; returns the authority's file, and the lines for a registry.
fn certificates(folder: &Path, names: &[&str]) -> (PathBuf, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = authority.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(authority, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = rcgen::CertificateParams::new(names).unwrap();
    let certificate = certificate.signed_by(&own, &issuer).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let tls = format!(
        "  tls: {{ certificate: {}, key: {} }}\n",
        write("tls.crt", certificate.pem()).display(),
        write("tls.key", own.serialize_pem()).display()
    );
    (write("ca.crt", ca.pem()), tls)
}

async fn a_registry_with_a_private_authority_is_reached_by_whom_is_told_of_it() {
    let folder = images();
    let (ca, tls) = certificates(folder.path(), &["localhost"]);
    let registry = Registry::start(folder.path(), &tls, "");
    let host = registry.address.replace("127.0.0.1", "localhost");
    let named = format!("[[registry]]\nhost = '{host}'\n");
    let (_untold, store_untold) = store(&named, Vec::new());
    let error = pull(&store_untold, &host, Keyring::default()).await.unwrap_err();
    let mut causes = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        causes = format!("{causes}: {next}");
        cause = next.source();
    }
    assert!(causes.contains("certificate"), "{causes}");
    for settings in [
        format!("{named}ca = '{}'\n", ca.display()),
        format!("ca = '{}'\n{named}", ca.display()),
        format!("{named}skip_verify = true\n"),
    ] {
        let (_kept, store) = store(&settings, Vec::new());
        let image = pull(&store, &host, Keyring::default()).await;
        assert!(hello(&image.unwrap_or_else(|error| panic!("{settings}: {error}"))));
    }
}

/// A proxy that leads everything to one place, whatever it is asked for; returns its address and the heads of the requests that it had.
fn proxy(to: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, to, seen) = (client.unwrap(), to.clone(), seen.clone());
            std::thread::spawn(move || lead(client, &to, &seen));
        }
    });
    (address, heads)
}

fn lead(mut client: TcpStream, to: &str, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    seen.lock().unwrap().push(head.clone());
    let mut server = TcpStream::connect(to).unwrap();
    if head.starts_with("CONNECT ") {
        client
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .unwrap();
    } else {
        // The path alone, one request a connection: the next one may be meant for another host.
        let (first, rest) = head.split_once("\r\n").unwrap();
        let [method, url, version]: [&str; 3] = first.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        let request = format!("{method} /{path} {version}\r\nConnection: close\r\n{rest}");
        server.write_all(request.as_bytes()).unwrap();
    }
    let (mut back, mut forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        // Either end may go first.
        std::io::copy(&mut reader, &mut server).ok();
        server.shutdown(std::net::Shutdown::Write).ok();
    });
    std::io::copy(&mut back, &mut forth).ok();
    client.shutdown(std::net::Shutdown::Both).ok();
}

async fn a_registry_behind_a_proxy_is_reached_through_it() {
    let folder = images();
    let (ca, tls) = certificates(folder.path(), &["registry.test"]);
    let (plain, secure) = (
        Registry::start(folder.path(), "", ""),
        Registry::start(folder.path(), &tls, ""),
    );
    // No name server knows this host: only the proxy can lead there.
    let (address, heads) = proxy(plain.address.clone());
    let settings =
        format!("proxy = 'http://me:word@{address}'\n[[registry]]\nhost = 'registry.test:5000'\nplain_http = true\n");
    let (_plain, store_plain) = store(&settings, Vec::new());
    let image = pull(&store_plain, "registry.test:5000", Keyring::default()).await;
    assert!(hello(&image.unwrap()));
    let seen = heads.lock().unwrap().clone();
    assert!(
        seen.iter()
            .all(|head| head.starts_with("GET http://registry.test:5000/v2/")),
        "{seen:?}"
    );
    // me:word
    assert!(
        seen.iter()
            .all(|head| head.to_lowercase().contains("proxy-authorization: basic bwu6d29yza==")),
        "{seen:?}"
    );

    let (address, heads) = proxy(secure.address.clone());
    let settings = format!("ca = '{}'\nproxy = 'http://{address}'\n", ca.display());
    let (_secure, store_secure) = store(&settings, Vec::new());
    let image = pull(&store_secure, "registry.test", Keyring::default()).await;
    assert!(hello(&image.unwrap()));
    let seen = heads.lock().unwrap().clone();
    assert!(
        !seen.is_empty() && seen.iter().all(|head| head.starts_with("CONNECT registry.test:443 ")),
        "{seen:?}"
    );
}

pub fn tests() -> Vec<Trial> {
    vec![
        trial(
            "a_registry_with_passwords_is_shown_the_right_one",
            a_registry_with_passwords_is_shown_the_right_one,
        ),
        trial(
            "a_helper_is_asked_for_the_machines_credentials",
            a_helper_is_asked_for_the_machines_credentials,
        ),
        trial(
            "a_registry_with_a_private_authority_is_reached_by_whom_is_told_of_it",
            a_registry_with_a_private_authority_is_reached_by_whom_is_told_of_it,
        ),
        trial(
            "a_registry_behind_a_proxy_is_reached_through_it",
            a_registry_behind_a_proxy_is_reached_through_it,
        ),
    ]
}
