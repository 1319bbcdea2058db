//! Kinds whose objects are not stored but made each time that they are asked for: what nodes and pods use.
//!
//! To clients they are kinds as any other, with `get` and `list`: selectors, tables and the rest come from the generic path, which is
//! given the objects by a [`Computed`].

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use setpoint_api::Status;

use crate::request::RequestInfo;

/// Makes the objects of a kind.
#[async_trait]
pub(crate) trait Computed: Send + Sync + 'static {
    /// All objects of a namespace, or of all where it is `None`; with apiVersion, kind and metadata, ordered by namespace and name.
    async fn list(&self, namespace: Option<&str>) -> Result<Vec<Value>, Status>;

    /// One object; the refusal, in the words of whoever serves this kind elsewhere, when there is none.
    async fn get(&self, namespace: &str, name: &str) -> Result<Value, Status>;
}

/// A kind and who makes its objects.
pub(crate) struct ComputedKind {
    pub group: &'static str,
    pub resource: &'static str,
    pub source: Arc<dyn Computed>,
}

/// Who makes the objects that a request is about, if they are made.
pub(crate) fn find<'a>(kinds: &'a [ComputedKind], info: &RequestInfo) -> Option<&'a dyn Computed> {
    let found = kinds
        .iter()
        .find(|kind| info.is_resource && kind.group == info.group && kind.resource == info.resource)?;
    Some(&*found.source)
}
