//! The Kubernetes API as a `tower::Service` over the revision log.
//!
//! One generic path serves every kind; what is special about a kind is a row of the scheme or a small strategy. Nothing
//! here knows controllers, git or containers: streaming to a pod goes through the [`PodStreams`] trait.

mod admission;
mod api;
mod authn;
mod authz;
mod discovery;
mod exec;
mod health;
pub mod listen;
mod logs;
mod metrics;
mod openapi_routes;
mod pods;
mod respond;
mod reviews;
mod tokens;
mod body;
mod cache;
mod crd;
mod maintenance;
mod registry;
mod seed;
mod strategy;
mod watch;
pub mod request;
mod streams;

pub use api::{ApiServer, AsUser, ServerConfig, ServerError};
pub use tokens::TokenKeyError;
pub use request::{Query, RequestInfo, UserInfo};
pub use admission::{Admission, AdmissionRequest, Operation};
pub use cache::{Cache, Stored};
pub use registry::{Now, Registry, RegistryConfig, StartError, TokenSigner};
pub use streams::{ByteStream, ExecRequest, ExecStreams, LogRequest, PodStreams, StreamError};
