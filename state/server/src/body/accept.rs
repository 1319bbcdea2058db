//! What a client wants to be answered with.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, USER_AGENT};
use setpoint_api::Status;
use setpoint_api::table::IncludeObject;

use crate::request::Query;

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
}

impl Accept {
    /// Plain JSON.
    pub(crate) const JSON: Accept = Accept {
        form: Form::Object,
        include: IncludeObject::Metadata,
        yaml: false,
        pretty: false,
        gzip: false,
    };

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
            if let Some((form, yaml)) = media_range(range) {
                accept.form = form;
                accept.yaml = yaml;
                return Ok(accept);
            }
        }
        Err(Status::not_acceptable("application/json, application/yaml"))
    }
}

/// The form that a media range asks for, if it can be had.
fn media_range(range: &str) -> Option<(Form, bool)> {
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
    match (shape, group, version) {
        ("", ..) => Some((Form::Object, yaml)),
        ("Table", "meta.k8s.io", "v1") => Some((Form::Table, yaml)),
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => Some((Form::Metadata, yaml)),
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
        assert_eq!(
            read("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json")
                .unwrap()
                .form,
            Form::Object
        );
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
