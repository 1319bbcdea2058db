//! The paths in the documents: per resource and subresource, the operations that its verbs allow.

use serde_json::{Map, Value, json};

use super::directory;
use super::schemas::{definition_name, is_described, named};
use crate::Resource;

const PREFIX: &str = "#/components/schemas/";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const MEDIA_TYPES: [&str; 2] = ["application/json", "application/yaml"];

/// What an operation takes and gives.
struct Operation<'a> {
    row: &'a Resource,
    /// The kind that it is about, which is the subresource's where there is one.
    kind: (&'a str, &'a str, &'a str),
    /// The last part of its name: `NamespacedDeploymentStatus`.
    scope: String,
    /// What it takes and gives; nothing of a stream.
    schema: Option<String>,
}

/// Adds all paths of a row.
pub(super) fn add(row: &Resource, paths: &mut Map<String, Value>) {
    let base = format!("/{}", directory(&row.group, &row.version));
    let schema = definition_name(row);
    let own = |scope: String| Operation {
        row,
        kind: (&row.group, &row.version, &row.kind),
        scope,
        schema: Some(schema.clone()),
    };
    let namespaced = if row.namespaced { "Namespaced" } else { "" };
    let collection = if row.namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", row.plural)
    } else {
        format!("{base}/{}", row.plural)
    };
    let operation = own(format!("{namespaced}{}", row.kind));
    let mut all = Map::new();
    for (verb, method) in [("list", "get"), ("create", "post"), ("deletecollection", "delete")] {
        if row.allows(verb) {
            all.insert(method.into(), operation.describe(verb));
        }
    }
    insert(paths, collection.clone(), all, row.namespaced, false);
    if row.namespaced && row.allows("list") {
        let operation = own(format!("{}ForAllNamespaces", row.kind));
        let all = Map::from_iter([("get".to_owned(), operation.describe("list"))]);
        insert(paths, format!("{base}/{}", row.plural), all, false, false);
    }
    let mut one = Map::new();
    for (verb, method) in [
        ("get", "get"),
        ("update", "put"),
        ("patch", "patch"),
        ("delete", "delete"),
    ] {
        if row.allows(verb) {
            one.insert(method.into(), operation.describe(verb));
        }
    }
    insert(paths, format!("{collection}/{{name}}"), one, row.namespaced, true);
    for sub in &row.subresources {
        let operation = Operation {
            row,
            kind: (&sub.group, &sub.version, &sub.kind),
            scope: format!("{namespaced}{}{}", row.kind, capitalized(&sub.name)),
            // A custom object's status is the object. What streams has no schema, only options in its query.
            schema: match (sub.group == row.group && sub.version == row.version && sub.kind == row.kind)
                || is_described(&sub.group, &sub.version, &sub.kind)
            {
                true => Some(named(&sub.group, &sub.version, &sub.kind)),
                false => None,
            },
        };
        let mut operations = Map::new();
        for (verb, method) in [
            ("get", "get"),
            ("create", "post"),
            ("update", "put"),
            ("patch", "patch"),
            ("delete", "delete"),
        ] {
            if sub.verbs.contains(&verb) {
                operations.insert(method.into(), operation.describe(verb));
            }
        }
        insert(
            paths,
            format!("{collection}/{{name}}/{}", sub.name),
            operations,
            row.namespaced,
            true,
        );
    }
}

fn insert(
    paths: &mut Map<String, Value>,
    path: String,
    mut operations: Map<String, Value>,
    namespaced: bool,
    name: bool,
) {
    if operations.is_empty() {
        return;
    }
    let mut parameters = Vec::new();
    if name {
        parameters.push(path_parameter("name", "name of the object"));
    }
    if namespaced {
        parameters.push(path_parameter(
            "namespace",
            "object name and auth scope, such as for teams and projects",
        ));
    }
    parameters.push(query_parameter(
        "pretty",
        "string",
        "If 'true', then the output is pretty printed.",
    ));
    operations.insert("parameters".into(), parameters.into());
    paths.insert(path, Value::Object(operations));
}

fn path_parameter(name: &str, description: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "description": description, "schema": {"type": "string", "uniqueItems": true}})
}

fn query_parameter(name: &str, kind: &str, description: &str) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": kind, "uniqueItems": true}})
}

/// The query's parameters, by verb.
fn parameters(verb: &str) -> Vec<Value> {
    let dry_run = (
        "dryRun",
        "string",
        "When present, indicates that modifications should not be persisted; the one value is All.",
    );
    let manager = (
        "fieldManager",
        "string",
        "The name of the actor that makes these changes; required for apply requests.",
    );
    let validation = (
        "fieldValidation",
        "string",
        "How unknown and duplicate fields are handled: Ignore, Warn (the default) or Strict.",
    );
    let force = (
        "force",
        "boolean",
        "Whether an apply takes over fields that other managers have; unset for other patches.",
    );
    let deletion = [
        (
            "gracePeriodSeconds",
            "integer",
            "How many seconds the object has to end; zero is at once.",
        ),
        ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
        (
            "propagationPolicy",
            "string",
            "What happens to dependents: Orphan, Background or Foreground.",
        ),
    ];
    let selection = [
        ("fieldSelector", "string", "Restricts the objects by their fields."),
        ("labelSelector", "string", "Restricts the objects by their labels."),
        ("resourceVersion", "string", "Which version of the data is read."),
        (
            "resourceVersionMatch",
            "string",
            "How resourceVersion is applied: Exact or NotOlderThan.",
        ),
        ("limit", "integer", "How many objects one answer has at most."),
        (
            "continue",
            "string",
            "The token of the last answer, to go on from there.",
        ),
        ("timeoutSeconds", "integer", "How long the call may last."),
    ];
    let watching = [
        ("watch", "boolean", "Streams changes instead of listing."),
        (
            "allowWatchBookmarks",
            "boolean",
            "Asks for events that only tell the version.",
        ),
        (
            "sendInitialEvents",
            "boolean",
            "Begins a watch with events that make up the present state.",
        ),
    ];
    let mut list = Vec::new();
    match verb {
        "create" | "update" => list.extend([dry_run, manager, validation]),
        "patch" => list.extend([dry_run, manager, validation, force]),
        "delete" => {
            list.push(dry_run);
            list.extend(deletion);
        }
        "list" => {
            list.extend(selection);
            list.extend(watching);
        }
        "deletecollection" => {
            list.push(dry_run);
            list.extend(deletion);
            list.extend(selection);
        }
        _ => {}
    }
    list.into_iter()
        .map(|(name, kind, description)| query_parameter(name, kind, description))
        .collect()
}

impl Operation<'_> {
    fn describe(&self, verb: &str) -> Value {
        match &self.schema {
            Some(schema) => self.describe_object(verb, schema),
            None => self.describe_stream(verb),
        }
    }

    fn describe_stream(&self, verb: &str) -> Value {
        let (group, version, kind) = self.kind;
        let word = match verb {
            "create" => "connectPost",
            "update" => "connectPut",
            "patch" => "connectPatch",
            "delete" => "connectDelete",
            _ => "connectGet",
        };
        json!({
            "tags": [tag(&self.row.group, &self.row.version)],
            "operationId": format!("{word}{}{}{}", group_word(&self.row.group), capitalized(&self.row.version), self.scope),
            "responses": {"200": {"description": "OK", "content": {"*/*": {"schema": {"type": "string"}}}}, "401": {"description": "Unauthorized"}},
            "x-kubernetes-action": "connect",
            "x-kubernetes-group-version-kind": {"group": group, "kind": kind, "version": version},
        })
    }

    fn describe_object(&self, verb: &str, schema: &str) -> Value {
        let (action, word) = match verb {
            "list" => ("list", "list"),
            "create" => ("post", "create"),
            "update" => ("put", "replace"),
            "patch" => ("patch", "patch"),
            "delete" => ("delete", "delete"),
            "deletecollection" => ("deletecollection", "deleteCollection"),
            _ => ("get", "read"),
        };
        let gives = match verb {
            "list" => format!("{schema}List"),
            "delete" if self.row.writing.returns_deleted => schema.to_owned(),
            "delete" | "deletecollection" => format!("{META}.Status"),
            _ => schema.to_owned(),
        };
        let (group, version, kind) = self.kind;
        let mut out = json!({
            "tags": [tag(&self.row.group, &self.row.version)],
            "operationId": format!("{word}{}{}{}", group_word(&self.row.group), capitalized(&self.row.version), self.scope),
            "parameters": parameters(verb),
            "responses": responses(verb, &content(&MEDIA_TYPES, &gives)),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "kind": kind, "version": version},
        });
        let body = match verb {
            "create" | "update" => Some((vec!["*/*"], schema.to_owned(), true)),
            "patch" => Some((self.patch_types(), format!("{META}.Patch"), true)),
            "delete" | "deletecollection" => Some((vec!["*/*"], format!("{META}.DeleteOptions"), false)),
            _ => None,
        };
        if let (Some((types, schema, required)), Some(map)) = (body, out.as_object_mut()) {
            let mut body = json!({"content": content(&types, &schema)});
            if required && let Some(body) = body.as_object_mut() {
                body.insert("required".into(), true.into());
            }
            map.insert("requestBody".into(), body);
        }
        out
    }

    fn patch_types(&self) -> Vec<&'static str> {
        let mut types = vec![
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
        ];
        if !self.row.custom {
            types.push("application/strategic-merge-patch+json");
        }
        types
    }
}

/// The answers of a verb, all of the same content.
fn responses(verb: &str, content: &Value) -> Value {
    let more: &[(&str, &str)] = match verb {
        "create" => &[("201", "Created"), ("202", "Accepted")],
        "update" | "patch" => &[("201", "Created")],
        "delete" => &[("202", "Accepted")],
        _ => &[],
    };
    let mut all = Map::new();
    for (code, description) in [("200", "OK")].iter().chain(more) {
        all.insert(
            (*code).to_owned(),
            json!({"description": description, "content": content}),
        );
    }
    all.insert("401".into(), json!({"description": "Unauthorized"}));
    Value::Object(all)
}

fn content(types: &[&str], schema: &str) -> Value {
    let entries = types.iter().map(|media_type| {
        (
            (*media_type).to_owned(),
            json!({"schema": {"$ref": format!("{PREFIX}{schema}")}}),
        )
    });
    Value::Object(entries.collect())
}

fn tag(group: &str, version: &str) -> String {
    let word = group_word(group);
    let mut letters = word.chars();
    let lower = letters
        .next()
        .map(|first| first.to_lowercase().collect::<String>() + letters.as_str())
        .unwrap_or_default();
    format!("{lower}_{version}")
}

/// A group in names: `Core`, `Apps`, `RbacAuthorization`.
fn group_word(group: &str) -> String {
    if group.is_empty() {
        return "Core".to_owned();
    }
    let short = group.strip_suffix(".k8s.io").unwrap_or(group);
    short.split(['.', '-']).map(capitalized).collect()
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().collect::<String>() + letters.as_str())
        .unwrap_or_default()
}

/// Turns a path's operations into their OpenAPI 2.0 form.
pub(super) fn to_v2(path: &mut Value) {
    let Some(operations) = path.as_object_mut() else { return };
    for (method, operation) in operations.iter_mut() {
        if method == "parameters" {
            parameters_to_v2(operation);
            continue;
        }
        let Some(map) = operation.as_object_mut() else { continue };
        let body = map.remove("requestBody");
        if let Some(list) = map.get_mut("parameters") {
            parameters_to_v2(list);
        }
        if let Some(body) = body {
            let types: Vec<Value> = body["content"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str().into())
                .collect();
            let mut schema = body["content"]
                .as_object()
                .and_then(|types| types.values().next())
                .map(|entry| entry["schema"].clone())
                .unwrap_or_default();
            super::schemas::to_v2(&mut schema);
            let required = body.get("required").is_some();
            if let Some(list) = map.get_mut("parameters").and_then(Value::as_array_mut) {
                list.push(json!({"name": "body", "in": "body", "required": required, "schema": schema}));
            }
            map.insert("consumes".into(), types.into());
        }
        map.insert("produces".into(), json!(MEDIA_TYPES));
        map.insert("schemes".into(), json!(["https"]));
        let answers = map.get_mut("responses").and_then(Value::as_object_mut);
        for answer in answers.into_iter().flat_map(|all| all.values_mut()) {
            let Some(answer) = answer.as_object_mut() else { continue };
            let Some(content) = answer.remove("content") else {
                continue;
            };
            let first = content.as_object().and_then(|types| types.values().next());
            let mut schema = first.map(|entry| entry["schema"].clone()).unwrap_or_default();
            super::schemas::to_v2(&mut schema);
            answer.insert("schema".into(), schema);
        }
    }
}

fn parameters_to_v2(list: &mut Value) {
    for parameter in list.as_array_mut().into_iter().flatten() {
        if let Some(map) = parameter.as_object_mut()
            && let Some(Value::Object(schema)) = map.remove("schema")
        {
            map.extend(schema);
        }
    }
}
