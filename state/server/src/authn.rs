//! Who asks: client certificates, the peer of the unix socket, tokens of service accounts and of users, and impersonation.
//!
//! A connection has an [`Origin`] that its listener found out. Where that names nobody, the request's bearer token does.
//! Nobody at all may only ask whether the server is well and which version it is. What a certificate or token says is held
//! against what is stored at each request: what was removed or has ended meanwhile is nobody.

mod certificate;
mod impersonation;

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::SignedDuration;
use setpoint_api::{Status, meta};

pub(crate) use certificate::Holder;
pub(crate) use impersonation::impersonate;

use crate::cache::Cache;
use crate::registry::Now;
use crate::request::UserInfo;
use crate::tokens::{Claims, ISSUER, Named, TokenError, Tokens};
use crate::users;

/// What holds a token, and asked to go, still counts for so long: clocks differ.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// What is known of the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// This process itself: not limited, not encrypted, always known.
    InProcess(Arc<UserInfo>),
    /// The listener knows the user: the peer of the unix socket.
    Known(Arc<UserInfo>),
    /// The peer showed a certificate that TLS has verified.
    Certificate(Arc<Holder>),
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
    now: Now,
}

/// The words for a token that is bound to something that is gone.
const INVALIDATED: &str = "service account token has been invalidated";

impl Authenticator {
    /// An authenticator that checks accounts and users against a cache.
    pub(crate) fn new(tokens: Arc<Tokens>, cache: Arc<Cache>, now: Now) -> Authenticator {
        Authenticator { tokens, cache, now }
    }

    /// The user behind a request; `None` when nobody is named.
    pub(crate) fn authenticate(&self, origin: &Origin, headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
        match origin {
            Origin::InProcess(user) | Origin::Known(user) => Ok(Some(UserInfo::clone(user))),
            Origin::Refused(why) => Err(Status::forbidden("", "", "", why)),
            Origin::Certificate(holder) => self.holder(holder).map(Some).ok_or_else(Status::unauthorized),
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

    /// Resolves when what a request showed no longer counts, for answers that go on: when the user is removed, or the token. Never for
    /// what cannot be taken back.
    pub(crate) fn taken_back(&self, origin: &Origin, headers: &HeaderMap) -> impl Future<Output = ()> + Send + 'static {
        let revocable = match origin {
            Origin::Certificate(holder) => !holder.user.uid.is_empty(),
            Origin::Unknown => bearer(headers).is_some(),
            _ => false,
        };
        let shown = revocable.then(|| {
            let mut shown = HeaderMap::new();
            if let Some(token) = headers.get(AUTHORIZATION) {
                shown.insert(AUTHORIZATION, token.clone());
            }
            (self.clone(), origin.clone(), shown)
        });
        async move {
            let Some((authenticator, origin, shown)) = shown else {
                return std::future::pending().await;
            };
            // Users and the tokens of users are Secrets; what else ends a token is seen when something of these changes.
            let mut changes = authenticator.cache.subscribe("core/secrets");
            while authenticator.authenticate(&origin, &shown).is_ok() {
                if changes.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        }
    }

    /// The user that a certificate stands for now; `None` when it has ended, or its user was removed.
    fn holder(&self, holder: &Holder) -> Option<UserInfo> {
        if (self.now)() >= holder.expires {
            return None;
        }
        if holder.user.uid.is_empty() {
            return Some(holder.user.clone());
        }
        let (user, uid) = users::find(&self.cache, &holder.user.name)?;
        if uid != holder.user.uid {
            return None;
        }
        let mut info = users::info(&user, uid);
        info.extra.clone_from(&holder.user.extra);
        Some(info)
    }

    /// The account or user behind a token and the audiences that it is good for; the error says why there is none.
    pub(crate) fn token(&self, token: &str, audiences: &[String]) -> Result<(UserInfo, Vec<String>), String> {
        if let Some(name) = users::user_of(token) {
            return self.user_token(&name, token, audiences);
        }
        let claims = self
            .tokens
            .verify(token, audiences)
            .map_err(|error| error.to_string())?;
        self.check_account(&claims)?;
        self.check_bound(&claims, token)?;
        let Claims {
            namespace,
            account,
            pod,
            node,
            audiences,
            id,
            ..
        } = claims;
        let mut user = UserInfo::service_account(&namespace, &account.name, &account.uid);
        let mut extra = |key: &str, value: String| {
            if !value.is_empty() {
                user.extra
                    .insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
            }
        };
        if !id.is_empty() {
            extra("credential-id", format!("JTI={id}"));
        }
        if let Some(Named { name, uid }) = pod {
            extra("pod-name", name);
            extra("pod-uid", uid);
        }
        if let Some(Named { name, uid }) = node {
            extra("node-name", name);
            extra("node-uid", uid);
        }
        Ok((user, audiences))
    }

    fn user_token(&self, name: &str, token: &str, audiences: &[String]) -> Result<(UserInfo, Vec<String>), String> {
        let invalid = || "invalid bearer token".to_owned();
        let (user, uid) = users::find(&self.cache, name).ok_or_else(invalid)?;
        let now = (self.now)();
        if !user.tokens.iter().any(|kept| kept.accepts(token, now)) {
            return Err(invalid());
        }
        let own = vec![ISSUER.to_owned()];
        if !audiences.is_empty() && !audiences.contains(&own[0]) {
            return Err(TokenError::Audience {
                given: own,
                wanted: audiences.to_vec(),
            }
            .to_string());
        }
        Ok((users::info(&user, uid), own))
    }

    fn check_account(&self, claims: &Claims) -> Result<(), String> {
        let Claims { namespace, account, .. } = claims;
        let Some(stored) = self.cache.get("core/serviceaccounts", namespace, &account.name) else {
            return Err(format!("serviceaccounts {:?} not found", account.name));
        };
        if *stored.uid != *account.uid {
            return Err(format!(
                "service account UID ({}) does not match claim ({})",
                stored.uid, account.uid
            ));
        }
        if stored.deleting && self.is_over(&stored.value()) {
            return Err(format!("service account {namespace}/{} has been deleted", account.name));
        }
        Ok(())
    }

    /// Whether what the token is bound to is there.
    fn check_bound(&self, claims: &Claims, token: &str) -> Result<(), String> {
        let Claims {
            namespace,
            pod,
            secret,
            node,
            in_secret,
            ..
        } = claims;
        if *in_secret {
            let name = secret.as_ref().map(|secret| secret.name.as_str()).unwrap_or_default();
            return self.check_kept(namespace, name, token);
        }
        // The node of a pod is told for information; the pod's end is the token's.
        let node = node.as_ref().filter(|_| pod.is_none());
        let bound = [
            ("core/pods", "pod", namespace.as_str(), pod.as_ref()),
            ("core/secrets", "secret", namespace.as_str(), secret.as_ref()),
            ("core/nodes", "node", "", node),
        ];
        for (resource, what, namespace, named) in bound {
            let Some(named) = named else { continue };
            let stored = self.cache.get(resource, namespace, &named.name).ok_or(INVALIDATED)?;
            if *stored.uid != *named.uid {
                return Err(format!(
                    "{what} UID ({}) does not match service account {what} ref claim ({})",
                    stored.uid, named.uid
                ));
            }
            if stored.deleting && self.is_over(&stored.value()) {
                return Err(INVALIDATED.to_owned());
            }
        }
        Ok(())
    }

    /// Whether a token without an end still stands in its Secret.
    fn check_kept(&self, namespace: &str, name: &str, token: &str) -> Result<(), String> {
        let stored = self.cache.get("core/secrets", namespace, name);
        let Some(secret) = stored.filter(|stored| !stored.deleting).map(|stored| stored.value()) else {
            return Err(INVALIDATED.to_owned());
        };
        if token_in(&secret).as_deref() == Some(token.as_bytes()) {
            Ok(())
        } else {
            Err("service account token does not match server's copy".to_owned())
        }
    }

    /// Whether something that was asked to go should be gone by now.
    fn is_over(&self, object: &serde_json::Value) -> bool {
        let asked = meta::str_at(object, &["metadata", "deletionTimestamp"]);
        let Ok(asked) = asked.parse::<jiff::Timestamp>() else {
            return true;
        };
        (self.now)().duration_since(asked) > LEEWAY
    }
}

/// The token that a Secret of type `kubernetes.io/service-account-token` holds.
fn token_in(secret: &serde_json::Value) -> Option<Vec<u8>> {
    use base64::Engine;
    let encoded = secret["data"]["token"].as_str()?;
    base64::engine::general_purpose::STANDARD.decode(encoded).ok()
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
