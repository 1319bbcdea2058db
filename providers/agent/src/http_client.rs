//! A small HTTP/1.1 client for probes and hooks: one request a connection, bounded in time and size. Redirects are followed on the same host only, as
//! Kubernetes does, whatever port and scheme they name; one that leads elsewhere is the answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, SignatureScheme};

/// How much of a body is read.
const BODY_LIMIT: usize = 10 * 1024;
/// How many redirects are followed.
const REDIRECTS: usize = 10;

/// What to ask for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Whether to speak TLS; certificates are not checked, as in Kubernetes' probes.
    pub tls: bool,
    /// The host to connect to.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Headers, over the usual ones.
    pub headers: Vec<(String, String)>,
}

impl Request {
    fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}{}", self.host, self.port, self.target())
    }

    fn target(&self) -> String {
        if self.path.starts_with('/') {
            self.path.clone()
        } else {
            format!("/{}", self.path)
        }
    }
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The beginning of the body.
    pub body: Vec<u8>,
}

/// Why there was no answer, in the words of Go's client, which people know from events.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The connection could not be made.
    #[error("dial tcp {address}: {reason}")]
    Connect {
        /// Host and port.
        address: String,
        /// The cause, e.g. `connect: connection refused`.
        reason: String,
    },
    /// The exchange failed.
    #[error("Get \"{url}\": {reason}")]
    Exchange {
        /// The URL.
        url: String,
        /// The cause.
        reason: String,
    },
}

/// Connects to a port within a time.
pub async fn connect(host: &str, port: u16, limit: Duration) -> Result<TcpStream, HttpError> {
    let address = format!("{host}:{port}");
    let failed = |reason: String| HttpError::Connect {
        address: address.clone(),
        reason,
    };
    match tokio::time::timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(failed(match error.kind() {
            io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
            io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
            _ => error.to_string(),
        })),
        Err(_) => Err(failed("i/o timeout".to_owned())),
    }
}

/// Sends a GET and reads the answer, all within a time.
pub async fn get(request: &Request, limit: Duration) -> Result<Response, HttpError> {
    let failed = |reason: String| HttpError::Exchange {
        url: request.url(),
        reason,
    };
    let exchange = async {
        let mut current = request.clone();
        for _ in 0..REDIRECTS {
            let (response, location) = once(&current, limit).await.map_err(failed)?;
            match location.and_then(|location| same_host(&current, &location)) {
                Some(next) if (300..400).contains(&response.status) => current = next,
                _ => return Ok(response),
            }
        }
        Err(failed(format!("stopped after {REDIRECTS} redirects")))
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(result) => result,
        Err(_) => Err(failed(
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned(),
        )),
    }
}

/// Returns the request that a redirect asks for, if it leads to the same host.
fn same_host(request: &Request, location: &str) -> Option<Request> {
    let next = |path: String| Request {
        path,
        ..request.clone()
    };
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(next(location.to_owned()));
    }
    let uri: http::Uri = location.parse().ok()?;
    let Some(scheme) = uri.scheme_str() else {
        // A path beside the one that was asked for.
        let folder = request.target();
        let folder = folder.split('?').next()?.rsplit_once('/')?.0.to_owned();
        let relative = !location.contains("//") && uri.authority().is_none();
        return relative.then(|| next(format!("{folder}/{location}")));
    };
    let tls = scheme == "https";
    let same = uri.host()? == request.host && (tls || scheme == "http");
    same.then(|| Request {
        tls,
        port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        ..next(uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string))
    })
}

async fn once(request: &Request, limit: Duration) -> Result<(Response, Option<String>), String> {
    let stream = connect(&request.host, request.port, limit)
        .await
        .map_err(|error| error.to_string())?;
    if !request.tls {
        return exchange(stream, request).await;
    }
    let name = ServerName::try_from(request.host.clone()).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(tls_config()?))
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())?;
    exchange(stream, request).await
}

async fn exchange<S>(stream: S, request: &Request) -> Result<(Response, Option<String>), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let named = |name: &str| {
        request
            .headers
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    };
    let mut builder = hyper::Request::get(request.target());
    if !named("host") {
        builder = builder.header("Host", format!("{}:{}", request.host, request.port));
    }
    if !named("user-agent") {
        builder = builder.header("User-Agent", "kube-probe/1.37");
    }
    if !named("accept") {
        builder = builder.header("Accept", "*/*");
    }
    builder = builder.header("Connection", "close");
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let message = builder.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(message).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let location = response
            .headers()
            .get("Location")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        // A body that is too long or breaks off does not change what the status says.
        let body = Limited::new(response.into_body(), BODY_LIMIT)
            .collect()
            .await
            .map(|body| body.to_bytes().to_vec());
        Ok((
            Response {
                status,
                body: body.unwrap_or_default(),
            },
            location,
        ))
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        driven = connection => match driven {
            Ok(()) => answer.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

/// TLS that takes any certificate.
pub(crate) fn tls_config() -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(config)
}

/// Accepts every certificate: a probe asks whether something answers, not who it is.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers every connection with the text that its path asks for.
    async fn server(answer: fn(&str) -> String) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut bytes = vec![0; 4096];
                    let count = stream.read(&mut bytes).await.unwrap_or(0);
                    let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                    let reply = answer(&path);
                    if reply.is_empty() {
                        std::future::pending::<()>().await;
                    }
                    stream.write_all(reply.as_bytes()).await.expect("write");
                });
            }
        });
        port
    }

    fn request(port: u16, path: &str) -> Request {
        Request {
            host: "127.0.0.1".to_owned(),
            port,
            path: path.to_owned(),
            ..Request::default()
        }
    }

    #[tokio::test]
    async fn redirects_are_followed_on_the_same_host_only() {
        let port = server(|path| match path {
            "/a" => "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "/b" => "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned(),
            _ => "HTTP/1.1 302 Found\r\nLocation: http://elsewhere.invalid/\r\nContent-Length: 0\r\n\r\n".to_owned(),
        })
        .await;
        let limit = Duration::from_secs(10);
        assert_eq!(get(&request(port, "a"), limit).await.expect("an answer").status, 503);
        assert_eq!(get(&request(port, "/c"), limit).await.expect("an answer").status, 302);
    }

    #[test]
    fn a_redirect_may_name_another_port_and_scheme_of_its_host() {
        let from = request(80, "/a/b?c");
        let led = |location: &str| same_host(&from, location).map(|next| next.url());
        assert_eq!(led("/x?y"), Some("http://127.0.0.1:80/x?y".to_owned()));
        assert_eq!(led("https://127.0.0.1/x"), Some("https://127.0.0.1:443/x".to_owned()));
        assert_eq!(led("http://127.0.0.1:81/"), Some("http://127.0.0.1:81/".to_owned()));
        for elsewhere in ["//other/x", "http://other/x", "ftp://127.0.0.1/x", ""] {
            assert_eq!(led(elsewhere), None, "{elsewhere}");
        }
    }

    #[tokio::test]
    async fn a_body_without_end_is_cut_off() {
        let port = server(|_| {
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}",
                "x".repeat(100_000)
            )
        })
        .await;
        let response = get(&request(port, "/"), Duration::from_secs(10))
            .await
            .expect("an answer");
        assert_eq!(response.status, 200);
    }

    #[tokio::test]
    async fn silence_and_refusal_are_errors_in_known_words() {
        let port = server(|_| String::new()).await;
        let error = get(&request(port, "/"), Duration::from_millis(50))
            .await
            .expect_err("a timeout");
        assert!(error.to_string().contains("context deadline exceeded"), "{error}");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let closed = listener.local_addr().expect("address").port();
        drop(listener);
        let error = connect("127.0.0.1", closed, Duration::from_secs(10))
            .await
            .expect_err("refused");
        assert_eq!(
            error.to_string(),
            format!("dial tcp 127.0.0.1:{closed}: connect: connection refused")
        );
    }
}
