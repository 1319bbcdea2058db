//! git's smart HTTP: one GET for the offer, one POST for the pack.
//!
//! TLS is rustls with ring and the machine's own certificates; proxies are taken from the environment as curl does.

use bytes::Bytes;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url, header};

use super::address::{Remote, Scheme};
use super::link::Waits;
use super::{Credentials, Limits};
use crate::source::SourceError;
use crate::source::error::plain;

const MAX_REDIRECTS: usize = 5;
const OFFER: &str = "application/x-git-upload-pack-advertisement";
const ANSWER: &str = "application/x-git-upload-pack-result";
const REQUEST: &str = "application/x-git-upload-pack-request";
/// Some servers show a web page to whom does not begin like git.
const AGENT: &str = concat!("git/2.0 (setpoint ", env!("CARGO_PKG_VERSION"), ")");
const REFS: &str = "/info/refs";

pub(super) struct Http {
    client: Client,
    /// The repository's address, after redirects.
    base: Url,
    credentials: Option<Credentials>,
    response: Response,
    waits: Waits,
}

impl Http {
    pub(super) async fn open(
        remote: &Remote,
        limits: &Limits,
        credentials: Option<&Credentials>,
    ) -> Result<Self, SourceError> {
        let waits = Waits::new(remote, limits);
        let asked = format!("{remote}{REFS}?service=git-upload-pack");
        let url = Url::parse(&asked).map_err(|error| SourceError::Setup {
            remote: waits.remote(),
            problem: "its address cannot be used".to_owned(),
            source: Some(Box::new(error)),
        })?;
        let client = client(remote, limits)?;
        let mut request = client.get(url.clone()).header(header::ACCEPT, "*/*");
        if let Some(Credentials { username, password }) = credentials {
            request = request.basic_auth(username, Some(password));
        }
        let response = waits
            .idle("answer", request.send())
            .await?
            .map_err(|error| waits.unreachable(error.without_url()))?;
        let response = good(&waits, response, OFFER, credentials.is_some()).await?;
        let mut base = response.url().clone();
        // Another host than the one that they are for gets no credentials.
        let credentials = credentials.filter(|_| base.origin() == url.origin()).cloned();
        base.set_query(None);
        let Some(path) = base.path().strip_suffix(REFS).map(str::to_owned) else {
            return Err(SourceError::Protocol {
                remote: waits.remote(),
                problem: "it redirects to something that is no repository; use the new address".to_owned(),
            });
        };
        base.set_path(&path);
        Ok(Self {
            client,
            base,
            credentials,
            response,
            waits,
        })
    }

    pub(super) async fn chunk(&mut self) -> Result<Bytes, SourceError> {
        let chunk = self.waits.idle("send anything more", self.response.chunk()).await?;
        let chunk = chunk.map_err(|error| self.waits.unreachable(error.without_url()))?;
        match chunk {
            // An empty chunk means the end to our caller.
            Some(chunk) if chunk.is_empty() => Box::pin(self.chunk()).await,
            chunk => Ok(chunk.unwrap_or_default()),
        }
    }

    pub(super) async fn request(&mut self, body: Vec<u8>) -> Result<(), SourceError> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/git-upload-pack", self.base.path()));
        let mut request = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, REQUEST)
            .header(header::ACCEPT, ANSWER)
            .body(body);
        if let Some(Credentials { username, password }) = &self.credentials {
            request = request.basic_auth(username, Some(password));
        }
        let response = self
            .waits
            .idle("answer the request", request.send())
            .await?
            .map_err(|error| self.waits.unreachable(error.without_url()))?;
        self.response = good(&self.waits, response, ANSWER, self.credentials.is_some()).await?;
        Ok(())
    }
}

async fn good(waits: &Waits, mut response: Response, wanted: &str, known: bool) -> Result<Response, SourceError> {
    let remote = waits.remote();
    let status = response.status();
    if status.is_success() {
        let kind = response
            .headers()
            .get(header::CONTENT_TYPE)
            .map(|kind| kind.as_bytes().to_vec())
            .unwrap_or_default();
        if kind == wanted.as_bytes() {
            return Ok(response);
        }
        return Err(SourceError::Protocol {
            remote,
            problem: format!("it sends `{}`; is the address that of a repository?", plain(&kind, 100)),
        });
    }
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => SourceError::Denied {
            remote,
            problem: match known {
                true => format!("it answers {status} to these credentials; give others, or give them access"),
                false => format!("it answers {status}; give it credentials"),
            },
        },
        StatusCode::NOT_FOUND | StatusCode::GONE => SourceError::NoRemote { remote },
        _ => {
            let words = match waits.idle("say what is wrong", response.chunk()).await {
                Ok(Ok(Some(words))) => plain(&words, 200),
                _ => String::new(),
            };
            let answer = format!("{status} {words}").trim_end().to_owned();
            if status.is_server_error()
                || status == StatusCode::TOO_MANY_REQUESTS
                || status == StatusCode::REQUEST_TIMEOUT
            {
                SourceError::Answer { remote, answer }
            } else {
                SourceError::Protocol {
                    remote,
                    problem: format!("it answers {answer}"),
                }
            }
        }
    })
}

fn client(remote: &Remote, limits: &Limits) -> Result<Client, SourceError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have been first with the same provider; either will do.
        rustls::crypto::ring::default_provider().install_default().ok();
    }
    let policy = Policy::custom(|attempt| {
        let plain_after_tls =
            attempt.url().scheme() != "https" && attempt.previous().iter().any(|url| url.scheme() == "https");
        if plain_after_tls {
            attempt.error("the server redirects from https to an address without encryption")
        } else if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("the server redirects more than five times")
        } else {
            attempt.follow()
        }
    });
    let builder = || {
        Client::builder()
            .user_agent(AGENT)
            .connect_timeout(limits.connect)
            .read_timeout(limits.idle)
            .timeout(limits.total)
            .referer(false)
    };
    match (builder().redirect(policy).build(), remote.scheme) {
        (Ok(client), _) => Ok(client),
        // A machine without certificates can still do without encryption.
        (Err(_), Scheme::Http) => builder().redirect(Policy::none()).tls_certs_only([]).build(),
        (Err(error), _) => Err(error),
    }
    .map_err(|error| SourceError::Setup {
        remote: remote.to_string(),
        problem: "this machine has no certificates to check the server's with; install the package ca-certificates"
            .to_owned(),
        source: Some(Box::new(error)),
    })
}
