//! The API for callers in this process: a `tower::Service` without a socket, TLS or HTTP's bytes.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use tower::{BoxError, Service};

use super::ApiServer;
use crate::authn::Origin;
use crate::request::UserInfo;

/// The API as one user sees it. Cheap to clone.
#[derive(Clone)]
pub struct AsUser {
    api: ApiServer,
    origin: Origin,
}

impl AsUser {
    pub(super) fn new(api: ApiServer, user: UserInfo) -> AsUser {
        AsUser {
            api,
            origin: Origin::InProcess(Arc::new(user)),
        }
    }
}

impl<B> Service<Request<B>> for AsUser
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let AsUser { api, origin } = self.clone();
        let mut request = request.map(Body::new);
        if let (None, Origin::InProcess(user)) = (request.headers().get(USER_AGENT), &origin)
            && let Ok(name) = HeaderValue::from_str(&user.name)
        {
            // A client in this process writes fields under its user's name, unless it says another.
            request.headers_mut().insert(USER_AGENT, name);
        }
        Box::pin(async move { Ok(api.handle(&origin, request).await) })
    }
}
