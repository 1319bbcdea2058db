//! What is known of one request, from its arrival to its end, and when that is told.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Request, Response};
use jiff::Timestamp;
use parking_lot::Mutex;
use setpoint_api::Status;

use super::annotations::Annotations;
use super::event::{About, Event, Sent};
use super::log::AuditLog;
use super::policy::{AuditLevel, AuditPolicy, Decision, Stage};
use super::tee::tee;
use crate::body;
use crate::registry::Now;
use crate::request::{RequestInfo, UserInfo};
use crate::respond::Told;

/// Tells a client under which name its request is in the log; a client may give the name itself.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// The longest name that a client may give, in bytes.
const LONGEST_ID: usize = 64;
/// The longest URI and user agent that are kept, in bytes.
const LONGEST_TEXT: usize = 4 << 10;
/// The largest answer that is kept, in bytes.
const LARGEST_ANSWER: usize = 1 << 20;

const DECISION: &str = "authorization.k8s.io/decision";
const REASON: &str = "authorization.k8s.io/reason";
const OMITTED: &str = "setpoint.dev/audit-omitted";

/// The address of the other end of a connection; an extension of requests that came over the network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The trail of a request. Cheap to clone; nothing is kept where nothing is to be.
#[derive(Clone)]
pub(crate) struct Trail(Option<Arc<Inner>>);

struct Inner {
    policy: Arc<AuditPolicy>,
    log: AuditLog,
    now: Now,
    about: Arc<About>,
    annotations: Arc<Annotations>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the policy says; `None` until it is known who asks.
    decision: Option<Decision>,
    user: UserInfo,
    impersonated: Option<UserInfo>,
    request: Option<Sent>,
    code: Option<u16>,
    status: Option<Status>,
    /// Whether the answer has begun and its end is still to be told.
    lasts: bool,
}

/// Tells the end of a request that lasts, when it is dropped.
pub(crate) struct Ending(Trail);

impl Drop for Ending {
    fn drop(&mut self) {
        let Some(inner) = &self.0.0 else { return };
        if std::mem::take(&mut inner.state.lock().lasts) {
            inner.tell(Stage::ResponseComplete, None);
        }
    }
}

impl Trail {
    /// A trail of which nothing is kept.
    pub(super) fn none() -> Trail {
        Trail(None)
    }

    /// Begins.
    pub(super) fn begin(
        policy: Arc<AuditPolicy>,
        log: AuditLog,
        now: Now,
        info: &RequestInfo,
        uri: &http::Uri,
        headers: &HeaderMap,
        peer: Option<Peer>,
    ) -> Trail {
        let text = |name: &HeaderName| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let given = Some(text(&AUDIT_ID)).filter(|id| !id.is_empty() && id.len() <= LONGEST_ID);
        let received = now();
        let about = About {
            id: given.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned),
            info: info.clone(),
            uri: cut(uri.path_and_query().map_or(uri.path(), |uri| uri.as_str())),
            agent: cut(text(&USER_AGENT)),
            address: peer.map(|peer| peer.0.to_canonical().to_string()),
            received,
        };
        Trail(Some(Arc::new(Inner {
            policy,
            log,
            now,
            about: Arc::new(about),
            annotations: Arc::default(),
            state: Mutex::default(),
        })))
    }

    /// It is known who asks (`None`: it is not), and with that what is kept.
    pub(crate) fn asked_by(&self, user: Option<&UserInfo>) {
        let Some(inner) = &self.0 else { return };
        let user = user.cloned().unwrap_or_default();
        let decision = inner.policy.decide(&inner.about.info, &user);
        {
            let mut state = inner.state.lock();
            state.decision = Some(decision);
            state.user = user;
        }
        inner.tell(Stage::RequestReceived, None);
    }

    /// Whoever asks does so as somebody else.
    pub(crate) fn acts_as(&self, other: &UserInfo) {
        if let Some(inner) = &self.0 {
            inner.state.lock().impersonated = Some(other.clone());
        }
    }

    /// The request is allowed, and why; `None`: it is not.
    pub(crate) fn decided(&self, why: impl FnOnce() -> Option<String>) {
        let Some(inner) = &self.0 else { return };
        if inner.level() == AuditLevel::None {
            return;
        }
        let why = why();
        let decision = if why.is_some() { "allow" } else { "forbid" };
        inner.annotations.set(DECISION, decision);
        inner.annotations.set(REASON, why.unwrap_or_default());
    }

    /// The request, of which the body is looked at if it is to be kept.
    pub(crate) fn request(&self, mut request: Request<Body>) -> Request<Body> {
        let Some(inner) = &self.0 else { return request };
        request.extensions_mut().insert(Arc::clone(&inner.annotations));
        let level = inner.level();
        if level == AuditLevel::RequestResponse {
            // What is kept of the answer is plain.
            request.headers_mut().remove(ACCEPT_ENCODING);
        }
        if level < AuditLevel::Request || inner.about.info.is_read() {
            return request;
        }
        let media = body::content_type(request.headers());
        let inner = Arc::clone(inner);
        request.map(|body| {
            tee(
                body,
                body::LIMIT,
                Box::new(move |bytes| {
                    if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
                        inner.state.lock().request = Some(Sent { bytes, media });
                    }
                }),
            )
        })
    }

    /// Tells the end of a request that lasts, when it is dropped.
    pub(crate) fn ending(&self) -> Ending {
        Ending(self.clone())
    }

    /// The handling broke down.
    pub(crate) fn panicked(&self) {
        if let Some(inner) = &self.0 {
            inner.state.lock().code = Some(500);
            inner.tell(Stage::Panic, None);
            // It has ended: that it was answered all the same is not told.
            inner.state.lock().decision = None;
        }
    }

    /// There is an answer: it is told now, or when it has been sent if it is to be kept, or when it ends if it lasts.
    pub(crate) fn answered(&self, mut response: Response<Body>, lasts: bool) -> Response<Body> {
        let Some(inner) = &self.0 else { return response };
        if let Ok(id) = HeaderValue::from_str(&inner.about.id) {
            response.headers_mut().insert(AUDIT_ID, id);
        }
        let level = {
            let mut state = inner.state.lock();
            state.code = Some(response.status().as_u16());
            state.status = response.extensions_mut().remove::<Told>().map(|told| told.0);
            state.lasts = lasts;
            state
                .decision
                .as_ref()
                .map_or(AuditLevel::None, |decision| decision.level)
        };
        if lasts {
            inner.tell(Stage::ResponseStarted, None);
            return response;
        }
        if level < AuditLevel::RequestResponse {
            inner.tell(Stage::ResponseComplete, None);
            return response;
        }
        let media = body::content_type(response.headers());
        let inner = Arc::clone(inner);
        response.map(|body| {
            tee(
                body,
                LARGEST_ANSWER,
                Box::new(move |bytes: Option<Bytes>| {
                    if bytes.is_none() {
                        let why = format!("the answer was cut off, or has more than {LARGEST_ANSWER} bytes");
                        inner.annotations.set(OMITTED, why);
                    }
                    inner.tell(Stage::ResponseComplete, bytes.map(|bytes| Sent { bytes, media }));
                }),
            )
        })
    }
}

impl Inner {
    fn level(&self) -> AuditLevel {
        let state = self.state.lock();
        state
            .decision
            .as_ref()
            .map_or(AuditLevel::None, |decision| decision.level)
    }

    /// Hands an event over, if one of this stage is to be kept.
    fn tell(&self, stage: Stage, response: Option<Sent>) {
        let state = self.state.lock();
        let Some(decision) = &state.decision else { return };
        if decision.level == AuditLevel::None || decision.omit_stages.contains(&stage) {
            return;
        }
        let at: Timestamp = (self.now)();
        self.log.send(Event {
            about: Arc::clone(&self.about),
            level: decision.level,
            stage,
            at,
            user: state.user.clone(),
            impersonated: state.impersonated.clone(),
            code: state.code,
            status: state.status.clone(),
            request: state.request.clone(),
            response,
            omit_managed_fields: decision.omit_managed_fields,
            annotations: self.annotations.all(),
            created: self.annotations.created(),
        });
    }
}

fn cut(text: &str) -> String {
    let end = (0..=text.len().min(LONGEST_TEXT))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    text[..end].to_owned()
}
