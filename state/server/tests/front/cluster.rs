//! A server for one test: everything real but the pods.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use setpoint_server::listen::{ServingCerts, serve_tls, serve_unix};
use setpoint_server::{
    ApiServer, ByteStream, ExecRequest, ExecStreams, LogRequest, PodStreams, ServerConfig, ServerError, StreamError,
    SubresourceHandler,
};
use setpoint_store::{SqliteLog, SqliteOptions};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// A server with its doors.
pub struct Cluster {
    pub api: ApiServer,
    pub dir: TempDir,
    pub address: SocketAddr,
    pub certs: ServingCerts,
    authority: Issuer<'static, KeyPair>,
    authority_pem: String,
    shutdown: watch::Sender<bool>,
    doors: JoinSet<()>,
}

impl Cluster {
    pub async fn start() -> Cluster {
        Cluster::start_with(Vec::new()).await
    }

    /// Starts a cluster in which these answer subresources.
    pub async fn start_with(subresources: Vec<Arc<dyn SubresourceHandler>>) -> Cluster {
        Cluster::try_start(subresources).await.expect("a server")
    }

    pub async fn try_start(subresources: Vec<Arc<dyn SubresourceHandler>>) -> Result<Cluster, ServerError> {
        let dir = tempfile::tempdir().expect("a directory");
        let log = SqliteLog::open(&dir.path().join("state.db"), SqliteOptions::default())
            .await
            .expect("a store");
        #[expect(
            clippy::disallowed_methods,
            reason = "certificates and tokens are checked by real clients"
        )]
        let now = Arc::new(jiff::Timestamp::now);
        let api = ApiServer::start(ServerConfig {
            log: Arc::new(log),
            streams: Arc::new(Pods),
            subresources,
            now,
            data_dir: dir.path().to_owned(),
            service_cidr: "10.96.0.0/16".to_owned(),
            node_port_range: 30000..=32767,
            admission: Vec::new(),
            metrics: prometheus::Registry::new(),
            api_address: None,
            build: "0.0.0".to_owned(),
        })
        .await?;
        let (authority, authority_pem) = authority();
        let serving = issue(&authority, "server", &[], &["localhost", "127.0.0.1"]);
        let certs = ServingCerts::from_pem(&serving.0, &serving.1, &authority_pem).expect("certificates");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (shutdown, ends) = watch::channel(false);
        let mut doors = JoinSet::new();
        let wait = |mut ends: watch::Receiver<bool>| async move {
            ends.wait_for(|end| *end).await.expect("the sender lives");
        };
        let (tls, unix) = (wait(ends.clone()), wait(ends));
        doors.spawn({
            let (api, certs) = (api.clone(), certs.clone());
            async move { serve_tls(api, vec![listener], certs, tls).await.expect("served") }
        });
        doors.spawn({
            let (api, path) = (api.clone(), dir.path().join("api.sock"));
            async move { serve_unix(api, &path, unix).await.expect("served") }
        });
        Ok(Cluster {
            api,
            dir,
            address,
            certs,
            authority,
            authority_pem,
            shutdown,
            doors,
        })
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Puts a new serving certificate in place of the old, and a new authority of servers and clients if asked to.
    pub fn renew(&mut self, with_authority: bool) {
        if with_authority {
            (self.authority, self.authority_pem) = authority();
        }
        let (certificate, key) = issue(&self.authority, "server", &[], &["localhost", "127.0.0.1"]);
        self.certs
            .replace(&certificate, &key, &self.authority_pem)
            .expect("certificates");
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("api.sock")
    }

    /// A certificate and its key for a user, and the authority that servers are known by, in PEM.
    #[allow(dead_code, reason = "the bench uses it")]
    pub fn identity(&self, user: &str, groups: &[&str]) -> (String, String, String) {
        let (certificate, key) = issue(&self.authority, user, groups, &[]);
        (certificate, key, self.authority_pem.clone())
    }

    /// Writes a kubeconfig with a certificate for a user.
    pub fn kubeconfig(&self, user: &str, groups: &[&str]) -> PathBuf {
        let (certificate, key) = issue(&self.authority, user, groups, &[]);
        self.write(
            user,
            &format!(
                "client-certificate-data: {}\n    client-key-data: {}",
                STANDARD.encode(certificate),
                STANDARD.encode(key)
            ),
        )
    }

    /// Writes a kubeconfig with a token.
    pub fn kubeconfig_with_token(&self, name: &str, token: &str) -> PathBuf {
        self.write(name, &format!("token: {token}"))
    }

    fn write(&self, name: &str, credentials: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{name}.kubeconfig"));
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster:\n    server: {}\n    certificate-authority-data: {}\nusers:\n- name: u\n  user:\n    {credentials}\ncontexts:\n- name: x\n  context: {{cluster: c, user: u}}\ncurrent-context: x\n",
            self.url(),
            STANDARD.encode(&self.authority_pem),
        );
        std::fs::write(&path, text).expect("written");
        path
    }

    /// Closes the doors and waits until they are.
    pub async fn stop(mut self) {
        self.shutdown.send_replace(true);
        while let Some(done) = self.doors.join_next().await {
            done.expect("no panic");
        }
    }
}

fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, "test-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let pem = params.self_signed(&key).expect("a certificate").pem();
    (Issuer::new(params, key), pem)
}

fn issue(authority: &Issuer<'static, KeyPair>, name: &str, groups: &[&str], names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, name);
    for group in groups {
        params.distinguished_name.push(DnType::OrganizationName, *group);
    }
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

/// Pods that exist only here: their log is what was asked for, their processes are `cat`, `exit CODE` and `size`.
struct Pods;

#[async_trait]
impl PodStreams for Pods {
    async fn logs(
        &self,
        node: &str,
        namespace: &str,
        pod: &str,
        request: LogRequest,
    ) -> Result<ByteStream, StreamError> {
        if request.previous {
            let container = request.container.unwrap_or_default();
            return Err(StreamError::BadRequest(format!(
                "previous terminated container \"{container}\" in pod \"{pod}\" not found"
            )));
        }
        let line = format!(
            "{node} {namespace} {pod} {} tail={:?}\n",
            request.container.unwrap_or_default(),
            request.tail_lines
        );
        let first = futures::stream::iter([Ok(Bytes::from(line))]);
        Ok(if request.follow {
            first.chain(futures::stream::pending()).boxed()
        } else {
            first.boxed()
        })
    }

    async fn exec(&self, _: &str, _: &str, _: &str, request: ExecRequest) -> Result<ExecStreams, StreamError> {
        if request.command == ["broken"] {
            return Err(StreamError::Failed {
                operation: "start a process".to_owned(),
                source: "exec: \"broken\": no such file".into(),
            });
        }
        let (stdin, mut input) = tokio::io::duplex(1024);
        let (mut output, stdout) = tokio::io::duplex(1024);
        let (mut errors, stderr) = tokio::io::duplex(1024);
        let (resize, mut sizes) = mpsc::channel(4);
        let words: Vec<String> = request.command.clone();
        let exit = async move {
            match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["cat"] => {
                    tokio::io::copy(&mut input, &mut output).await.expect("copied");
                    Ok(0)
                }
                ["exit", code] => {
                    output.write_all(b"out\n").await.expect("written");
                    errors.write_all(b"err\n").await.expect("written");
                    Ok(code.parse().expect("a code"))
                }
                ["size"] => {
                    let (columns, rows) = sizes.recv().await.expect("a size");
                    output
                        .write_all(format!("{columns}x{rows}\n").as_bytes())
                        .await
                        .expect("written");
                    Ok(0)
                }
                ["wait"] => {
                    let mut rest = Vec::new();
                    input.read_to_end(&mut rest).await.expect("read");
                    Ok(0)
                }
                _ => Err(StreamError::NotFound(format!("no such program: {words:?}"))),
            }
        };
        // The process runs on its own, as a real one does; dropping the exit ends it.
        let task = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(exit));
        Ok(ExecStreams {
            stdin: request.stdin.then(|| Box::new(stdin) as _),
            stdout: request.stdout.then(|| Box::new(stdout) as _),
            stderr: request.stderr.then(|| Box::new(stderr) as _),
            resize: request.tty.then_some(resize),
            exit: Box::pin(async move { task.await.expect("no panic") }),
        })
    }
}

/// Runs a kubectl and gives back whether it succeeded, and what it wrote.
pub async fn kubectl(program: &Path, kubeconfig: &Path, args: &[&str], stdin: &str) -> (bool, String, String) {
    let home = kubeconfig.parent().expect("a directory");
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .env("KUBECONFIG", kubeconfig)
        .env("HOME", home)
        .env_remove("HTTPS_PROXY")
        .env_remove("https_proxy")
        .env("NO_PROXY", "*")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("kubectl starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(stdin.as_bytes()).await.expect("written");
    drop(pipe);
    let done = tokio::time::timeout(std::time::Duration::from_secs(60), child.wait_with_output());
    let output = done.await.expect("kubectl ends in time").expect("its output");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// The kubectl programs to test with: those that the install script fetched.
pub fn kubectls() -> Vec<PathBuf> {
    [
        "SETPOINT_TEST_KUBECTL",
        "SETPOINT_TEST_KUBECTL_1_33",
        "SETPOINT_TEST_KUBECTL_1_27",
    ]
    .into_iter()
    .map(|variable| {
        std::env::var_os(variable)
            .unwrap_or_else(|| panic!("{variable} is not set; install the clients: eval \"$(bash .ci/install)\""))
            .into()
    })
    .collect()
}
