//! A server for one test: everything real but the pods.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONNECTION, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use setpoint_server::listen::{ServingCerts, serve_tls, serve_unix};
use setpoint_server::{
    ApiServer, AuditConfig, AuditPolicy, ByteStream, Duplex, ExecRequest, ExecStreams, LogRequest, NodeUsage,
    PodAddress, PodStreams, PodUsage, ServerConfig, ServerError, StreamError, SubresourceHandler, Usage,
};
use setpoint_store::{SqliteLog, SqliteOptions};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// A server with its doors.
pub struct Cluster {
    pub api: ApiServer,
    pub dir: TempDir,
    pub address: SocketAddr,
    pub certs: ServingCerts,
    /// The uid of the pod that is measured.
    pub measured: Arc<parking_lot::Mutex<String>>,
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
        Cluster::start_audited(subresources, None).await
    }

    /// Starts a cluster that keeps an audit log by a policy, in `audit` of its directory.
    pub async fn start_audited(
        subresources: Vec<Arc<dyn SubresourceHandler>>,
        policy: Option<AuditPolicy>,
    ) -> Result<Cluster, ServerError> {
        let dir = tempfile::tempdir().expect("a directory");
        let log = SqliteLog::open(&dir.path().join("state.db"), SqliteOptions::default())
            .await
            .expect("a store");
        let pods = Pods::default();
        let measured = Arc::clone(&pods.uid);
        #[expect(
            clippy::disallowed_methods,
            reason = "certificates and tokens are checked by real clients"
        )]
        let now: setpoint_server::Now = Arc::new(jiff::Timestamp::now);
        let api = ApiServer::start(ServerConfig {
            log: Arc::new(log),
            streams: Arc::new(pods),
            subresources,
            now: now.clone(),
            data_dir: dir.path().to_owned(),
            service_cidr: "10.96.0.0/16".to_owned(),
            node_port_range: 30000..=32767,
            admission: Vec::new(),
            metrics: prometheus::Registry::new(),
            api_address: None,
            build: "0.0.0".to_owned(),
            audit: policy.map(|policy| AuditConfig {
                policy,
                directory: dir.path().join("audit"),
                largest_file: 1 << 20,
                older_files: 1,
            }),
        })
        .await?;
        let (authority, authority_pem) = authority();
        let serving = issue(&authority, "server", &[], &["localhost", "127.0.0.1"]);
        let certs = ServingCerts::from_pem(&serving.0, &serving.1, &authority_pem, now).expect("certificates");
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
            measured,
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
        self.kubeconfig_of(user, groups, None)
    }

    /// Writes a kubeconfig with a certificate for a user that is kept under a uid.
    pub fn kubeconfig_of(&self, user: &str, groups: &[&str], uid: Option<&str>) -> PathBuf {
        let (certificate, key) = issue_for(&self.authority, user, groups, &[], uid);
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
    issue_for(authority, name, groups, names, None)
}

fn issue_for(
    authority: &Issuer<'static, KeyPair>,
    name: &str,
    groups: &[&str],
    names: &[&str],
    uid: Option<&str>,
) -> (String, String) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, name);
    for group in groups {
        params.distinguished_name.push(DnType::OrganizationName, *group);
    }
    if let Some(uid) = uid {
        let attribute = setpoint_server::users::UID_ATTRIBUTE.split('.');
        let attribute = attribute.map(|part| part.parse().expect("a number")).collect();
        params.distinguished_name.push(DnType::CustomDnType(attribute), uid);
    }
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

/// Pods that exist only here: their log is what was asked for, their processes are `cat`, `exit CODE` and `size`.
#[derive(Default)]
struct Pods {
    /// The uid of the pod that is measured.
    uid: Arc<parking_lot::Mutex<String>>,
}

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

    async fn connect(
        &self,
        _: &str,
        _: &str,
        pod: &str,
        address: PodAddress,
        port: u16,
    ) -> Result<Box<dyn Duplex>, StreamError> {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        match (address, port) {
            (PodAddress::Loopback, 7) => tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(theirs);
                drop(tokio::io::copy(&mut read, &mut write).await);
                drop(write.shutdown().await);
            }),
            (PodAddress::Pod, 80 | 8080) => tokio::spawn(answer(theirs, pod.to_owned())),
            _ => {
                return Err(StreamError::Failed {
                    operation: format!("connect to port {port} of pod {pod}"),
                    source: format!("dial tcp 10.0.0.1:{port}: connect: connection refused").into(),
                });
            }
        };
        Ok(Box::new(ours))
    }

    async fn usage(&self, node: &str) -> Result<NodeUsage, StreamError> {
        if node != "box" {
            return Err(StreamError::NodeNotConnected(node.to_owned()));
        }
        let usage = |cpu, memory_bytes| Usage {
            cpu_nanoseconds: 7_000_000_000,
            cpu_nanocores: cpu,
            memory_bytes,
        };
        let uid = self.uid.lock().clone();
        Ok(NodeUsage {
            at: "2026-01-02T03:04:05.678Z".parse().expect("a time"),
            window: std::time::Duration::from_millis(15_020),
            total: usage(1_500_000_000, 3 << 30),
            pods: vec![PodUsage {
                namespace: "default".to_owned(),
                name: "web".to_owned(),
                uid,
                total: usage(300_000_000, 50 << 20),
                containers: vec![
                    ("main".to_owned(), usage(250_000_001, 40 << 20)),
                    ("side".to_owned(), usage(50_000_000, 8 << 20)),
                ],
            }],
        })
    }
}

/// What listens in every pod at port 80: tells what it was asked; `/away` redirects, `/raw` switches to another protocol.
async fn answer(stream: DuplexStream, pod: String) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        let pod = pod.clone();
        async move {
            let path = request.uri().path().to_owned();
            if path == "/raw" {
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let mut stream = TokioIo::new(upgrade.await.expect("upgraded"));
                    let mut word = [0; 4];
                    stream.read_exact(&mut word).await.expect("read");
                    word.reverse();
                    stream.write_all(&word).await.expect("written");
                    stream.shutdown().await.expect("shut down");
                });
                let response = Response::builder()
                    .status(StatusCode::SWITCHING_PROTOCOLS)
                    .header(CONNECTION, "Upgrade")
                    .header(UPGRADE, "reverse");
                return Ok(response.body(Body::empty()).expect("a response"));
            }
            if path == "/away" {
                let response = Response::builder().status(302).header("location", "/login?x=1");
                return Ok(response.body(Body::empty()).expect("a response"));
            }
            let headers: serde_json::Map<String, Value> = request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().expect("text").into()))
                .collect();
            let (method, uri) = (request.method().to_string(), request.uri().to_string());
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            let told = json!({
                "pod": pod, "method": method, "uri": uri, "headers": headers, "body": String::from_utf8_lossy(&body),
            });
            let response = Response::builder()
                .status(if path == "/teapot" { 418 } else { 200 })
                .header("keep-alive", "timeout=5")
                .header("x-kept", "yes");
            Ok::<_, Infallible>(response.body(Body::from(told.to_string())).expect("a response"))
        }
    });
    let server = hyper::server::conn::http1::Builder::new();
    let connection = server.serve_connection(TokioIo::new(stream), service).with_upgrades();
    drop(connection.await);
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
