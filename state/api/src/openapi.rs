//! The API's description of itself, from which clients explain, validate and build their types.
//!
//! A document is made when it is asked for and not kept: descriptions are large, and few clients read them. Built-in kinds are
//! described by the generated types plus our table of merge facts; custom kinds by their definition's schema.
//!
//! * [`v3_index`] and [`v3_document`]: OpenAPI 3.0, a document per group and version.
//! * [`v2_document`]: the older form, everything in one.

mod paths;
mod schemas;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::Resource;

/// The version of Kubernetes that the documents claim.
const VERSION: &str = "v1.37.0";

/// Gives a custom kind's `openAPIV3Schema`.
pub type CustomSchemas<'a> = dyn Fn(&Resource) -> Option<Value> + 'a;

fn directory(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// Makes the index at `/openapi/v3`: where each group and version is described.
///
/// `digest` gives the digest of the document of a group and version: under the URL that names it the document never changes.
pub fn v3_index(rows: &[Arc<Resource>], mut digest: impl FnMut(&str, &str) -> String) -> Vec<u8> {
    let mut paths = Map::new();
    for row in rows {
        let directory = directory(&row.group, &row.version);
        if paths.contains_key(&directory) {
            continue;
        }
        let url = v3_url(&row.group, &row.version, &digest(&row.group, &row.version));
        paths.insert(directory, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths}).to_string().into_bytes()
}

/// Returns the URL, relative to the server, of the document of a group and version that has a digest.
pub fn v3_url(group: &str, version: &str, digest: &str) -> String {
    format!("/openapi/v3/{}?hash={digest}", directory(group, version))
}

/// Makes the OpenAPI 3.0 document of one group and version, or nothing if no row is in it.
pub fn v3_document(group: &str, version: &str, rows: &[Arc<Resource>], custom: &CustomSchemas<'_>) -> Option<Vec<u8>> {
    let rows: Vec<&Resource> = rows
        .iter()
        .map(Arc::as_ref)
        .filter(|row| row.group == group && row.version == version)
        .collect();
    if rows.is_empty() {
        return None;
    }
    let mut paths = Map::new();
    for row in &rows {
        paths::add(row, &mut paths);
    }
    let document = json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": schemas::of_rows(&rows, custom),
            "securitySchemes": {"BearerToken": {
                "type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication",
            }},
        },
    });
    Some(document.to_string().into_bytes())
}

/// Makes the OpenAPI 2.0 document of everything.
pub fn v2_document(rows: &[Arc<Resource>], custom: &CustomSchemas<'_>) -> Vec<u8> {
    let rows: Vec<&Resource> = rows.iter().map(Arc::as_ref).collect();
    let mut paths = Map::new();
    for row in &rows {
        paths::add(row, &mut paths);
    }
    paths.values_mut().for_each(paths::to_v2);
    let mut definitions = schemas::of_rows(&rows, custom);
    definitions.values_mut().for_each(schemas::to_v2);
    let document = json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": {"BearerToken": {
            "type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication",
        }},
    });
    document.to_string().into_bytes()
}
