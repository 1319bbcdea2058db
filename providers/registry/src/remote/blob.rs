//! A blob as it is downloaded: resumed where it broke off, a bounded number of times, with a deadline on silence.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use tokio_util::io::StreamReader;

use super::chain;
use super::session::{Failed, Session};
use crate::{BlobReader, Descriptor, RegistryError};

/// How often in a row a download is taken up again without a byte more.
const FRUITLESS: u32 = 5;
/// How often it is taken up again at all: a registry that sends a byte at a time must come to an end.
const RESUMED: u32 = 100;

/// Opens a blob; the first request is made before this returns, so that what is not there is known at once.
pub(super) async fn open(session: Arc<Session>, descriptor: &Descriptor) -> Result<BlobReader, RegistryError> {
    let mut download = Download {
        session,
        descriptor: descriptor.clone(),
        offset: 0,
        body: None,
        pending: None,
        fruitless: 0,
        resumed: 0,
    };
    loop {
        match download.session.blob(descriptor, 0).await {
            Ok(response) => {
                download.body = Some(response);
                break;
            }
            Err(Failed { error, wait }) => match wait {
                Some(_) if download.fruitless < FRUITLESS => download.pause().await,
                _ => return Err(error),
            },
        }
    }
    let chunks = futures::stream::try_unfold(download, |mut download| async move {
        let chunk = download.next().await?;
        Ok::<_, io::Error>(chunk.map(|chunk| (chunk, download)))
    });
    Ok(Box::new(StreamReader::new(Box::pin(chunks))))
}

struct Download {
    session: Arc<Session>,
    descriptor: Descriptor,
    /// How much is here.
    offset: u64,
    body: Option<Response>,
    /// What came in one piece with bytes that were here already.
    pending: Option<Bytes>,
    fruitless: u32,
    resumed: u32,
}

impl Download {
    async fn pause(&mut self) {
        let patience = self.session.patience;
        let pause = (patience.pause * 2u32.pow(self.fruitless.min(8))).min(patience.longest_pause);
        self.fruitless += 1;
        tokio::time::sleep(pause).await;
    }

    /// Returns the next piece; `None` when the blob is whole.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let Some(body) = &mut self.body else {
                self.resume().await?;
                continue;
            };
            let chunk = match self.pending.take() {
                Some(pending) => Ok(Ok(Some(pending))),
                None => tokio::time::timeout(self.session.patience.silence, body.chunk()).await,
            };
            let broken = match chunk {
                Ok(Ok(Some(chunk))) if chunk.is_empty() => continue,
                Ok(Ok(Some(chunk))) => {
                    self.offset += chunk.len() as u64;
                    if self.offset > self.descriptor.size {
                        return Err(self.lie("sends more than the manifest says"));
                    }
                    self.fruitless = 0;
                    return Ok(Some(chunk));
                }
                Ok(Ok(None)) if self.offset == self.descriptor.size => return Ok(None),
                Ok(Ok(None)) => "the connection ended early".to_owned(),
                Ok(Err(error)) => chain(&error.without_url()),
                Err(_) => format!("nothing came for {} s", self.session.patience.silence.as_secs()),
            };
            self.body = None;
            self.resumed += 1;
            if self.fruitless >= FRUITLESS || self.resumed > RESUMED {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    self.described(&broken),
                ));
            }
            tracing::debug!(
                digest = self.descriptor.digest,
                at = self.offset,
                why = broken,
                "resuming a download"
            );
            self.pause().await;
        }
    }

    /// Asks for the rest.
    async fn resume(&mut self) -> io::Result<()> {
        self.pending = None;
        let offset = self.offset;
        match self.session.blob(&self.descriptor, offset).await {
            Ok(response) if response.status() == StatusCode::PARTIAL_CONTENT => {
                let range = response
                    .headers()
                    .get(CONTENT_RANGE)
                    .and_then(|range| range.to_str().ok());
                let begins = format!("bytes {offset}-");
                if !range.is_some_and(|range| range.starts_with(&begins)) {
                    return Err(self.lie("sends another part than was asked for"));
                }
                self.body = Some(response);
                Ok(())
            }
            // It knows no ranges: what is here already comes once more.
            Ok(mut response) => {
                let mut skip = offset;
                while skip > 0 {
                    let chunk = tokio::time::timeout(self.session.patience.silence, response.chunk()).await;
                    let Ok(Ok(Some(mut chunk))) = chunk else {
                        // Counted as a try like any other.
                        if self.fruitless >= FRUITLESS {
                            return Err(io::Error::new(
                                io::ErrorKind::ConnectionAborted,
                                self.described("it broke off again"),
                            ));
                        }
                        self.pause().await;
                        return Ok(());
                    };
                    let passed = skip.min(chunk.len() as u64);
                    skip -= passed;
                    let rest = chunk.split_off(usize::try_from(passed).unwrap_or(chunk.len()));
                    self.pending = Some(rest).filter(|rest| !rest.is_empty());
                }
                self.body = Some(response);
                Ok(())
            }
            Err(Failed { wait: Some(_), .. }) if self.fruitless < FRUITLESS => {
                self.pause().await;
                Ok(())
            }
            Err(Failed { error, .. }) => Err(io::Error::other(chain(&error))),
        }
    }

    fn lie(&self, what: &str) -> io::Error {
        let text = format!(
            "{} {what} ({} bytes of {})",
            self.session.place(),
            self.descriptor.size,
            self.descriptor.digest
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    fn described(&self, why: &str) -> String {
        format!(
            "{} broke off at {} of {} bytes and could not be resumed: {why}",
            self.session.place(),
            self.offset,
            self.descriptor.size
        )
    }
}
