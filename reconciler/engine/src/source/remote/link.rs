//! A way to a server's `git-upload-pack`: bytes there, bytes back, each wait bounded.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::address::{Remote, Scheme};
use super::http::Http;
use super::ssh::Ssh;
use super::{Credentials, Limits};
use crate::source::SourceError;

const CHUNK: usize = 64 * 1024;
const GIT_PORT: u16 = 9418;

pub(super) enum Link {
    Http(Box<Http>),
    Ssh(Box<Ssh>),
    Tcp(Box<Tcp>),
}

impl Link {
    /// Connects; what comes first is the server's offer of refs.
    pub(super) async fn open(
        remote: &Remote,
        limits: &Limits,
        credentials: Option<&Credentials>,
    ) -> Result<Self, SourceError> {
        let credentials = credentials.or(remote.credentials.as_ref());
        match remote.scheme {
            Scheme::Http | Scheme::Https => Http::open(remote, limits, credentials)
                .await
                .map(Box::new)
                .map(Self::Http),
            Scheme::Ssh => Ssh::open(remote, limits).map(Box::new).map(Self::Ssh),
            Scheme::Git => Tcp::open(remote, limits).await.map(Box::new).map(Self::Tcp),
        }
    }

    /// Says whether each request is one of its own, which starts with nothing said before.
    pub(super) fn stateless(&self) -> bool {
        matches!(self, Self::Http(_))
    }

    /// Gives the next bytes; none of them at the end.
    pub(super) async fn chunk(&mut self) -> Result<Bytes, SourceError> {
        match self {
            Self::Http(http) => http.chunk().await,
            Self::Ssh(ssh) => ssh.chunk().await,
            Self::Tcp(tcp) => tcp.chunk().await,
        }
    }

    /// Sends the request; what comes next is its answer.
    pub(super) async fn request(&mut self, body: Vec<u8>) -> Result<(), SourceError> {
        match self {
            Self::Http(http) => http.request(body).await,
            Self::Ssh(ssh) => ssh.request(&body).await,
            Self::Tcp(tcp) => tcp.request(&body).await,
        }
    }
}

/// git://, without encryption or authentication.
pub(super) struct Tcp {
    stream: TcpStream,
    waits: Waits,
    buffer: Vec<u8>,
}

impl Tcp {
    async fn open(remote: &Remote, limits: &Limits) -> Result<Self, SourceError> {
        let waits = Waits::new(remote, limits);
        let port = remote.port.unwrap_or(GIT_PORT);
        let connecting = TcpStream::connect((remote.host.as_str(), port));
        let stream = waits
            .bound(limits.connect, "let us connect", connecting)
            .await?
            .map_err(|error| waits.unreachable(error))?;
        let mut tcp = Self {
            stream,
            waits,
            buffer: vec![0; CHUNK],
        };
        let service = format!("git-upload-pack {}\0host={}:{port}\0", remote.path, remote.host);
        tcp.request(format!("{:04x}{service}", service.len() + 4).as_bytes())
            .await?;
        Ok(tcp)
    }

    async fn chunk(&mut self) -> Result<Bytes, SourceError> {
        let read = self
            .waits
            .idle("send anything more", self.stream.read(&mut self.buffer))
            .await?;
        let length = read.map_err(|error| self.waits.unreachable(error))?;
        Ok(Bytes::copy_from_slice(self.buffer.get(..length).unwrap_or_default()))
    }

    async fn request(&mut self, body: &[u8]) -> Result<(), SourceError> {
        let written = self.waits.idle("take the request", self.stream.write_all(body)).await?;
        written.map_err(|error| self.waits.unreachable(error))
    }
}

/// Bounds waits and words their errors.
#[derive(Clone)]
pub(super) struct Waits {
    remote: String,
    idle: Duration,
}

impl Waits {
    pub(super) fn new(remote: &Remote, limits: &Limits) -> Self {
        Self {
            remote: remote.to_string(),
            idle: limits.idle,
        }
    }

    pub(super) async fn idle<F: Future>(&self, what: &'static str, future: F) -> Result<F::Output, SourceError> {
        self.bound(self.idle, what, future).await
    }

    pub(super) async fn bound<F: Future>(
        &self,
        limit: Duration,
        what: &'static str,
        future: F,
    ) -> Result<F::Output, SourceError> {
        tokio::time::timeout(limit, future)
            .await
            .map_err(|_| SourceError::Timeout {
                remote: self.remote.clone(),
                what,
                seconds: limit.as_secs(),
            })
    }

    pub(super) fn unreachable(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SourceError {
        let (remote, source) = (self.remote.clone(), source.into());
        match is_untrusted(&*source) {
            true => SourceError::Untrusted { remote, source },
            false => SourceError::Unreachable { remote, source },
        }
    }

    pub(super) fn remote(&self) -> String {
        self.remote.clone()
    }
}

/// Says whether a connection failed because nobody that this machine trusts vouches for the other side.
fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // The verifier's error is wrapped by several libraries, of which some hand on its text alone.
        if error.to_string().contains("UnknownIssuer") {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::is_untrusted;

    #[test]
    fn a_certificate_that_nobody_vouches_for_is_told_apart_from_a_dead_network() {
        let refused = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert!(is_untrusted(&std::io::Error::other(refused)));
        assert!(!is_untrusted(&std::io::Error::from(
            std::io::ErrorKind::ConnectionRefused
        )));
    }
}
