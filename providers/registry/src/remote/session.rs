//! One place, one repository, one credential: requests with the authorization that the registry asks for.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::time::timeout;

use super::Patience;
use super::challenge::{self, Challenge};
use crate::credentials::Proof;
use crate::settings::Place;
use crate::{Credential, Descriptor, ImageReference, MAX_MANIFEST, RegistryError};

/// How often a request for a manifest is sent when the network or the registry fails.
const TRIES: u32 = 3;
/// The largest answer of a token server, and of an error, in bytes.
const LARGEST_ANSWER: u64 = 256 << 10;

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

pub(super) struct Session {
    client: Client,
    base: String,
    place: String,
    repository: String,
    /// What is fetched, for errors.
    what: String,
    credential: Option<Credential>,
    /// What the registry was satisfied with last. Tokens end; it is then asked for anew.
    authorization: tokio::sync::Mutex<Option<HeaderValue>>,
    pub(super) patience: Patience,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct Envelope {
    errors: Vec<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Why a request failed, and whether it may be sent again.
pub(super) struct Failed {
    pub error: RegistryError,
    pub wait: Option<Duration>,
}

impl Session {
    pub fn new(
        client: Client,
        place: &Place,
        repository: &str,
        reference: &ImageReference,
        credential: Option<Credential>,
        patience: Patience,
    ) -> Self {
        let scheme = if place.transport.plain_http { "http" } else { "https" };
        // Docker Hub's API is not where its name says.
        let host = match place.host.as_str() {
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        Session {
            client,
            base: format!("{scheme}://{host}"),
            place: place.host.clone(),
            repository: repository.to_owned(),
            what: reference.to_string(),
            credential,
            authorization: tokio::sync::Mutex::new(None),
            patience,
        }
    }

    pub fn place(&self) -> &str {
        &self.place
    }

    pub fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }

    /// Names place and user.
    pub fn described(&self) -> String {
        match &self.credential {
            Some(credential) if !credential.user.is_empty() => format!("{} as {}", self.place, credential.user),
            _ => self.place.clone(),
        }
    }

    /// Fetches a manifest's bytes, by tag or digest.
    pub async fn manifest(&self, which: &str) -> Result<Vec<u8>, RegistryError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.manifest_once(which).await {
                Ok(bytes) => return Ok(bytes),
                Err(Failed { wait: Some(wait), .. }) if tries < TRIES => tokio::time::sleep(wait * tries).await,
                Err(failed) => return Err(failed.error),
            }
        }
    }

    async fn manifest_once(&self, which: &str) -> Result<Vec<u8>, Failed> {
        let url = format!("{}/v2/{}/manifests/{which}", self.base, self.repository);
        let response = self.send(&url, |request| request.header(ACCEPT, ACCEPTED)).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind.is_some_and(|kind| kind.starts_with("text/html")) {
            let reason = format!(
                "{} answers with a web page: it is no registry, or a login page stands before it",
                self.place
            );
            return Err(for_good(RegistryError::malformed(&self.what, reason)));
        }
        match timeout(self.patience.answer, self.bounded(response, MAX_MANIFEST)).await {
            Ok(bytes) => bytes,
            Err(_) => Err(again(self.late())),
        }
    }

    /// Opens a blob from an offset.
    pub async fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Response, Failed> {
        let url = format!("{}/v2/{}/blobs/{}", self.base, self.repository, descriptor.digest);
        self.send(&url, |request| match offset {
            0 => request,
            from => request.header(RANGE, format!("bytes={from}-")),
        })
        .await
    }

    /// Sends a request, again with an authorization when the registry asks for one.
    async fn send(&self, url: &str, shape: impl Fn(RequestBuilder) -> RequestBuilder) -> Result<Response, Failed> {
        let mut authorized = false;
        loop {
            let used = self.authorization.lock().await.clone();
            let mut request = shape(self.client.get(url));
            if let Some(authorization) = &used {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            let response = self.within(request).await?;
            if response.status() == StatusCode::UNAUTHORIZED && !authorized {
                authorized = true;
                self.authorize(&response, used).await?;
                continue;
            }
            return self.judged(response).await;
        }
    }

    async fn within(&self, request: RequestBuilder) -> Result<Response, Failed> {
        match timeout(self.patience.answer, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                // A redirect that is not followed stays one.
                let repeat = !error.is_redirect() && !error.is_builder();
                let failed = self.failed(error.without_url());
                Err(if repeat { again(failed) } else { for_good(failed) })
            }
            Err(_) => Err(again(self.late())),
        }
    }

    /// Gets what the registry asks for; another request of this session may have been faster.
    async fn authorize(&self, response: &Response, used: Option<HeaderValue>) -> Result<(), Failed> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenge = challenge::parse(headers.iter().filter_map(|header| header.to_str().ok()));
        let mut authorization = self.authorization.lock().await;
        if *authorization != used {
            return Ok(());
        }
        let denied = || for_good(self.denied());
        let value = match (challenge, &self.credential) {
            (
                _,
                Some(Credential {
                    proof: Proof::RegistryToken(token),
                    ..
                }),
            ) => format!("Bearer {token}"),
            (
                Some(Challenge::Basic),
                Some(Credential {
                    user,
                    proof: Proof::Password(password),
                    ..
                }),
            ) => {
                format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
            }
            (Some(Challenge::Bearer { realm, service, scope }), _) => {
                format!("Bearer {}", self.token(&realm, service, scope).await?)
            }
            _ => return Err(denied()),
        };
        let mut value = HeaderValue::try_from(value).map_err(|_| denied())?;
        value.set_sensitive(true);
        *authorization = Some(value);
        Ok(())
    }

    /// Asks a token server (the distribution project's token and OAuth2 protocols).
    async fn token(&self, realm: &str, service: Option<String>, scope: Option<String>) -> Result<String, Failed> {
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        let malformed =
            |reason: &str| for_good(RegistryError::malformed(&self.what, format!("{} {reason}", self.place)));
        let mut url = Url::parse(realm).map_err(|_| malformed("names a token server that is no address"))?;
        let secure = url.scheme() == "https";
        if !secure && (url.scheme() != "http" || self.base.starts_with("https://")) {
            return Err(malformed("names a token server that is not reached by TLS"));
        }
        let request = match &self.credential {
            Some(Credential {
                proof: Proof::IdentityToken(token),
                ..
            }) => {
                // A query is written as a form is.
                let mut form = url.clone();
                form.query_pairs_mut()
                    .clear()
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("service", service.as_deref().unwrap_or_default())
                    .append_pair("client_id", "setpoint")
                    .append_pair("scope", &scope)
                    .append_pair("refresh_token", token);
                let form = form.query().unwrap_or_default().to_owned();
                self.client
                    .post(url)
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form)
            }
            credential => {
                {
                    let mut pairs = url.query_pairs_mut();
                    if let Some(service) = &service {
                        pairs.append_pair("service", service);
                    }
                    pairs.append_pair("scope", &scope);
                }
                let request = self.client.get(url);
                match credential {
                    Some(Credential {
                        user,
                        proof: Proof::Password(password),
                        ..
                    }) => request.basic_auth(user, Some(password)),
                    _ => request,
                }
            }
        };
        let response = self.within(request).await?;
        if matches!(
            response.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST
        ) {
            return Err(for_good(self.denied()));
        }
        let response = self.judged(response).await?;
        let bytes = match timeout(self.patience.answer, self.bounded(response, LARGEST_ANSWER)).await {
            Ok(bytes) => bytes?,
            Err(_) => return Err(again(self.late())),
        };
        let answer: Option<Token> = serde_json::from_slice(&bytes).ok();
        let token = answer.and_then(|answer| answer.token.or(answer.access_token));
        token
            .filter(|token| !token.is_empty())
            .ok_or_else(|| malformed("has a token server that gives no token"))
    }

    /// Turns what is no success into an error.
    async fn judged(&self, response: Response) -> Result<Response, Failed> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|after| after.to_str().ok());
        let after = after.and_then(|after| after.parse().ok()).map(Duration::from_secs);
        let wait = after
            .unwrap_or(self.patience.pause * 4)
            .min(self.patience.longest_pause);
        let told = self.told(response).await;
        let (what, place) = (self.what.clone(), self.place.clone());
        let error = match status {
            StatusCode::NOT_FOUND => return Err(for_good(RegistryError::NotFound { what, place })),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(for_good(self.denied())),
            status => self.failed(std::io::Error::other(format!("it answers {status}{told}"))),
        };
        let passing = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        Err(Failed {
            error,
            wait: passing.then_some(wait),
        })
    }

    /// What the registry says about its error, made fit to be shown.
    async fn told(&self, response: Response) -> String {
        let Ok(Ok(bytes)) = timeout(self.patience.answer, self.bounded(response, LARGEST_ANSWER)).await else {
            return String::new();
        };
        let envelope: Option<Envelope> = serde_json::from_slice(&bytes).ok();
        let first = envelope.and_then(|envelope| envelope.errors.into_iter().next());
        first.map_or_else(String::new, |error| {
            let text = format!(": {} {}", error.code, error.message);
            text.chars().filter(|letter| !letter.is_control()).take(300).collect()
        })
    }

    async fn bounded(&self, mut response: Response, most: u64) -> Result<Vec<u8>, Failed> {
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    if (bytes.len() + chunk.len()) as u64 > most {
                        let reason = format!("{} answers with more than {most} bytes", self.place);
                        return Err(for_good(RegistryError::malformed(&self.what, reason)));
                    }
                    bytes.extend_from_slice(&chunk);
                }
                Ok(None) => return Ok(bytes),
                Err(error) => return Err(again(self.failed(error.without_url()))),
            }
        }
    }

    fn failed(&self, source: impl std::error::Error + Send + Sync + 'static) -> RegistryError {
        RegistryError::Remote {
            what: self.what.clone(),
            place: self.place.clone(),
            source: Box::new(source),
        }
    }

    fn late(&self) -> RegistryError {
        RegistryError::Timeout {
            what: self.what.clone(),
            place: self.place.clone(),
            seconds: self.patience.answer.as_secs(),
        }
    }

    fn denied(&self) -> RegistryError {
        RegistryError::Denied {
            what: self.what.clone(),
            place: self.described(),
        }
    }
}

fn again(error: RegistryError) -> Failed {
    Failed {
        error,
        wait: Some(Duration::from_millis(500)),
    }
}

fn for_good(error: RegistryError) -> Failed {
    Failed { error, wait: None }
}
