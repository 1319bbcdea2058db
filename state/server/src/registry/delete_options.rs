//! `meta/v1 DeleteOptions`: how an object is to be deleted, as the body says it or, without one, the query.

use axum::body::Body;
use serde_json::Value;
use setpoint_api::validate::field::FieldError;
use setpoint_api::{Status, meta, schema};

use super::call::Call;
use super::list_options::integer;
use crate::body;
use crate::request::Query;

/// What happens to the objects that a deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// How an object is to be deleted.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    /// The seconds that the object is given; `None` leaves it to the object.
    pub(crate) grace: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    /// `None` leaves it to the finalizers that the object has.
    pub(crate) propagation: Option<Propagation>,
    /// Whether the client said `orphanDependents: false`: then what is not gone at once is answered with 202.
    pub(crate) cascades: bool,
    pub(crate) dry_run: bool,
}

/// What a client said, before it is looked at as a whole.
#[derive(Default)]
struct Said {
    options: DeleteOptions,
    orphan: Option<bool>,
    policy: Option<String>,
    dry_run: Vec<Value>,
}

impl DeleteOptions {
    /// Reads the options of a request: the body's, and only without one the query's.
    pub(super) async fn read(call: &mut Call<'_>, body: Body) -> Result<DeleteOptions, Status> {
        let bytes = body::read(body).await?;
        let options = if bytes.is_empty() {
            Said::in_query(&call.info.query)?.checked()?
        } else {
            let media = body::media(call.headers)?;
            DeleteOptions::parse(&body::parse(&bytes, media)?)?
        };
        call.dry_run = options.dry_run;
        Ok(options)
    }

    /// Reads an object, which may leave out its kind and version.
    pub(super) fn parse(value: &Value) -> Result<DeleteOptions, Status> {
        check_types(value)?;
        let precondition = |key: &str| {
            let found = meta::at(value, &["preconditions", key]).and_then(Value::as_str);
            found.map(str::to_owned)
        };
        let said = Said {
            options: DeleteOptions {
                grace: meta::int_at(value, &["gracePeriodSeconds"]),
                uid: precondition("uid"),
                resource_version: precondition("resourceVersion"),
                ..DeleteOptions::default()
            },
            orphan: value.get("orphanDependents").and_then(Value::as_bool),
            policy: value
                .get("propagationPolicy")
                .and_then(Value::as_str)
                .map(str::to_owned),
            dry_run: meta::list_at(value, &["dryRun"]).to_vec(),
        };
        said.checked()
    }
}

/// Refuses what is no DeleteOptions: those of every group are the same.
fn check_types(value: &Value) -> Result<(), Status> {
    let kind = meta::kind(value);
    if !matches!(kind, "" | "DeleteOptions") {
        return Err(Status::bad_request(format!(
            "no kind {kind:?} is registered for version {:?}: the body of a deletion is DeleteOptions",
            meta::api_version(value)
        )));
    }
    let schema = schema::builtin("", "v1", "DeleteOptions")
        .ok_or_else(|| Status::internal("the structure of DeleteOptions is not known"))?;
    schema.check_types(value).map_err(|text| {
        // Kubernetes gives the decoder's words alone here.
        let why = text.split_once(&format!("cannot be handled as a {kind}: "));
        Status::bad_request(why.map_or(text.as_str(), |(_, why)| why))
    })
}

impl Said {
    fn in_query(query: &Query) -> Result<Said, Status> {
        Ok(Said {
            options: DeleteOptions {
                grace: integer(query, "gracePeriodSeconds")?,
                uid: query.get("uid").map(str::to_owned),
                ..DeleteOptions::default()
            },
            orphan: query.get("orphanDependents").map(|_| query.flag("orphanDependents")),
            policy: query.non_empty("propagationPolicy").map(str::to_owned),
            dry_run: query.all("dryRun").map(Into::into).collect(),
        })
    }

    /// Refuses what contradicts itself or is not known, all of it at once.
    fn checked(self) -> Result<DeleteOptions, Status> {
        let mut errors = Vec::new();
        let mut options = self.options;
        if let (Some(_), Some(policy)) = (self.orphan, &self.policy) {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid("propagationPolicy", policy.as_str(), why));
        }
        options.propagation = match (self.policy.as_deref(), self.orphan) {
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some(other), _) => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported_in_order("propagationPolicy", other, &known));
                None
            }
            (None, None) => None,
        };
        options.cascades = self.orphan == Some(false);
        options.dry_run = !self.dry_run.is_empty();
        if self.dry_run.iter().any(|entry| entry != "All") {
            errors.push(FieldError::not_supported("dryRun", self.dry_run, &["All"]));
        }
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &errors));
        }
        if options.grace.is_some_and(|grace| grace < 0) {
            // As Kubernetes has it: less than nothing means as soon as possible, but in order.
            options.grace = Some(1);
        }
        Ok(options)
    }
}
