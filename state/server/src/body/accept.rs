//! What a client wants to be answered with.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, USER_AGENT};
use serde_json::Value;
use setpoint_api::Status;
use setpoint_api::table::{self, IncludeObject};

use crate::request::Query;

const META_V1: &str = "meta.k8s.io/v1";
/// What kubectl asked for before 1.15, and others still do.
const META_V1BETA1: &str = "meta.k8s.io/v1beta1";

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Objects and lists as they are.
    Object,
    /// `meta.k8s.io/v1 Table`.
    Table,
    /// `meta.k8s.io/v1 PartialObjectMetadata` and its list.
    Metadata,
}

/// What a client wants to be answered with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accept {
    pub(crate) form: Form,
    pub(crate) include: IncludeObject,
    pub(crate) yaml: bool,
    pub(crate) pretty: bool,
    pub(crate) gzip: bool,
    /// The version of `meta.k8s.io` that Tables and metadata are of.
    pub(crate) meta: &'static str,
}

impl Accept {
    /// Plain JSON.
    pub(crate) const JSON: Accept = Accept {
        form: Form::Object,
        include: IncludeObject::Metadata,
        yaml: false,
        pretty: false,
        gzip: false,
        meta: META_V1,
    };

    /// Whether Tables and metadata are asked for in the version that they are made in.
    pub(crate) fn is_current(&self) -> bool {
        self.meta == META_V1
    }

    /// A Table or metadata in the version asked for.
    pub(crate) fn versioned(&self, mut document: Value) -> Value {
        if !self.is_current() {
            table::to_version(&mut document, self.meta);
        }
        document
    }

    /// Reads the headers; 406 when nothing that is accepted can be written.
    pub(crate) fn read(headers: &HeaderMap, query: &Query) -> Result<Accept, Status> {
        let text = |name| {
            headers
                .get(name)
                .and_then(|value: &http::HeaderValue| value.to_str().ok())
                .unwrap_or_default()
        };
        let mut accept = Accept::JSON;
        accept.gzip = text(ACCEPT_ENCODING).split(',').any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            parts.next() == Some("gzip") && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0"))
        });
        accept.pretty = match query.get("pretty") {
            Some(value) => !matches!(value, "0" | "false"),
            // People look at what these print.
            None => ["curl/", "Wget/", "Mozilla/"]
                .iter()
                .any(|agent| text(USER_AGENT).starts_with(agent)),
        };
        let include = query.get("includeObject").unwrap_or_default();
        accept.include = IncludeObject::parse(include)
            .ok_or_else(|| Status::bad_request(format!("unrecognized includeObject value: {include:?}")))?;
        let wanted = text(ACCEPT);
        if wanted.trim().is_empty() {
            return Ok(accept);
        }
        for range in wanted.split(',') {
            if let Some((form, meta, yaml)) = media_range(range) {
                accept.form = form;
                accept.meta = meta;
                accept.yaml = yaml;
                return Ok(accept);
            }
        }
        Err(Status::not_acceptable("application/json, application/yaml"))
    }
}

/// The form that a media range asks for, its version, and whether as YAML; if it can be had.
fn media_range(range: &str) -> Option<(Form, &'static str, bool)> {
    let mut parts = range.split(';').map(str::trim);
    let yaml = match parts.next()?.to_ascii_lowercase().as_str() {
        "application/json" | "application/*" | "*/*" => false,
        "application/yaml" | "application/x-yaml" | "text/yaml" => true,
        _ => return None,
    };
    let (mut shape, mut group, mut version) = ("", "", "");
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key.trim() {
            "as" => shape = value.trim(),
            "g" => group = value.trim(),
            "v" => version = value.trim(),
            "q" if value.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0) => return None,
            _ => {}
        }
    }
    let meta = match (group, version) {
        _ if shape.is_empty() => return Some((Form::Object, META_V1, yaml)),
        ("meta.k8s.io", "v1") => META_V1,
        ("meta.k8s.io", "v1beta1") => META_V1BETA1,
        _ => return None,
    };
    match shape {
        "Table" => Some((Form::Table, meta, yaml)),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Some((Form::Metadata, meta, yaml)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(accept: &str) -> Result<Accept, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        Accept::read(&headers, &Query::default())
    }

    #[test]
    fn the_first_form_that_can_be_written_is_taken() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(read(kubectl).unwrap().form, Form::Table);
        for (version, form) in [("v1", Form::Table), ("v1beta1", Form::Table), ("v2", Form::Object)] {
            let accepted = format!("application/json;as=Table;v={version};g=meta.k8s.io,application/json");
            assert_eq!(read(&accepted).unwrap().form, form);
        }
        let old = "application/json;as=PartialObjectMetadataList;v=v1beta1;g=meta.k8s.io";
        assert_eq!(read(old).unwrap().meta, "meta.k8s.io/v1beta1");
        assert_eq!(
            read("application/vnd.kubernetes.protobuf,application/json")
                .unwrap()
                .form,
            Form::Object
        );
        assert!(read("application/yaml").unwrap().yaml);
        assert_eq!(read("application/vnd.kubernetes.protobuf").unwrap_err().code, 406);
    }
}
