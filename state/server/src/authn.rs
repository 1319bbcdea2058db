//! Who asks: client certificates, the peer of the unix socket, service account tokens, and impersonation.
//!
//! A connection has an [`Origin`] that its listener found out. Where that names nobody, the request's bearer token does.
//! Nobody at all may only ask whether the server is well and which version it is.

mod impersonation;

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use setpoint_api::Status;

pub(crate) use impersonation::impersonate;

use crate::cache::Cache;
use crate::request::UserInfo;
use crate::tokens::{Claims, Tokens};

/// What is known of the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// This process itself: not limited, not encrypted, always known.
    InProcess(Arc<UserInfo>),
    /// The listener knows the user: a client certificate, or the peer of the unix socket.
    Known(Arc<UserInfo>),
    /// The listener knows that this peer is not to be served, and why.
    Refused(String),
    /// The request must say who it is.
    Unknown,
}

impl Origin {
    /// Whether the request comes from this process.
    pub(crate) fn is_in_process(&self) -> bool {
        matches!(self, Origin::InProcess(_))
    }
}

/// Finds out who sends a request. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Authenticator {
    tokens: Arc<Tokens>,
    cache: Arc<Cache>,
}

impl Authenticator {
    /// An authenticator that checks accounts against a cache.
    pub(crate) fn new(tokens: Arc<Tokens>, cache: Arc<Cache>) -> Authenticator {
        Authenticator { tokens, cache }
    }

    /// The user behind a request; `None` when nobody is named.
    pub(crate) fn authenticate(&self, origin: &Origin, headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
        match origin {
            Origin::InProcess(user) | Origin::Known(user) => Ok(Some(UserInfo::clone(user))),
            Origin::Refused(why) => Err(Status::forbidden("", "", "", why)),
            Origin::Unknown => match bearer(headers) {
                Some(token) => self
                    .token(token, &[])
                    .map(|(user, _)| Some(user))
                    // The reason stays here: a caller without a good token learns nothing of what would be one.
                    .map_err(|_| Status::unauthorized()),
                None if headers.contains_key(AUTHORIZATION) => Err(Status::unauthorized()),
                None => Ok(None),
            },
        }
    }

    /// The account behind a token and the audiences that it is good for; the error says why there is none.
    pub(crate) fn token(&self, token: &str, audiences: &[String]) -> Result<(UserInfo, Vec<String>), String> {
        let claims = self
            .tokens
            .verify(token, audiences)
            .map_err(|error| error.to_string())?;
        let Claims {
            namespace,
            name,
            uid,
            pod,
            audiences,
            id,
        } = claims;
        if !self.exists("core/serviceaccounts", &namespace, &name, &uid) {
            return Err(format!(
                "serviceaccounts {namespace:?}/{name:?} does not exist any more as the token names it"
            ));
        }
        let mut user = UserInfo::service_account(&namespace, &name, &uid);
        user.extra.insert(
            "authentication.kubernetes.io/credential-id".to_owned(),
            vec![format!("JTI={id}")],
        );
        if let Some((pod, pod_uid)) = pod {
            if !self.exists("core/pods", &namespace, &pod, &pod_uid) {
                return Err(format!(
                    "pods {namespace:?}/{pod:?} does not exist any more as the token names it"
                ));
            }
            user.extra
                .insert("authentication.kubernetes.io/pod-name".to_owned(), vec![pod]);
            user.extra
                .insert("authentication.kubernetes.io/pod-uid".to_owned(), vec![pod_uid]);
        }
        Ok((user, audiences))
    }

    fn exists(&self, kind: &str, namespace: &str, name: &str, uid: &str) -> bool {
        self.cache
            .get(kind, namespace, name)
            .is_some_and(|stored| stored.value()["metadata"]["uid"] == uid)
    }
}

/// Reads the user from a client certificate that was verified: the common name, and the organizations as groups.
pub(crate) fn certificate_user(der: &[u8]) -> Option<UserInfo> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    let groups: Vec<&str> = subject
        .iter_organization()
        .filter_map(|organization| organization.as_str().ok())
        .collect();
    (!name.is_empty()).then(|| UserInfo::new(name, &groups))
}

/// The user behind the peer of the unix socket: root and whoever runs the server are its masters, nobody else.
pub(crate) fn peer_origin(uid: u32, own_uid: u32) -> Origin {
    if uid == 0 || uid == own_uid {
        Origin::Known(Arc::new(UserInfo::new("system:admin", &[crate::request::MASTERS])))
    } else {
        Origin::Refused(format!(
            "the socket is open to root and to the user that runs the server (uid {own_uid}), not to uid {uid}"
        ))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unix_socket_serves_root_and_its_own_user_only() {
        for (uid, own, good) in [(0, 0, true), (0, 7, true), (7, 7, true), (8, 7, false), (1, 0, false)] {
            let origin = peer_origin(uid, own);
            assert_eq!(matches!(origin, Origin::Known(_)), good, "uid {uid} at {own}");
        }
    }

    #[test]
    fn only_a_bearer_token_is_one() {
        let header = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().expect("a header"));
            headers
        };
        assert_eq!(bearer(&header("Bearer abc")), Some("abc"));
        assert_eq!(bearer(&header("bearer abc")), Some("abc"));
        assert_eq!(bearer(&header("Basic abc")), None);
        assert_eq!(bearer(&header("Bearer ")), None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
