//! Reads a CustomResourceDefinition's `openAPIV3Schema`, which must be structural: every field has one type, so that it can
//! be pruned, defaulted and merged.

mod complete;

use std::fmt;
use std::sync::Arc;

use serde_json::{Map as JsonMap, Value, json};

use super::checks::{Checks, Nested, Pattern, default_faults};
use super::rules::Rules;
use super::{Field, Format, Link, List, ListKey, ListMerge, Map, Object, Patch, Schema, Type, builtin, format};
use crate::FieldError;
use crate::validate::field::Path;

/// How deep a schema may nest; deeper ones come from no person.
const DEPTH: usize = 100;

/// What a schema inside `allOf`, `anyOf`, `oneOf` or `not` does not say, and what it is instead.
const NOT_NESTED: [(&str, &str); 13] = [
    ("type", "empty"),
    ("additionalProperties", "undefined"),
    ("default", "undefined"),
    ("title", "empty"),
    ("description", "empty"),
    ("nullable", "false"),
    ("x-kubernetes-preserve-unknown-fields", "false"),
    ("x-kubernetes-embedded-resource", "false"),
    ("x-kubernetes-int-or-string", "false"),
    ("x-kubernetes-list-map-keys", "empty"),
    ("x-kubernetes-list-type", "undefined"),
    ("x-kubernetes-map-type", "undefined"),
    ("x-kubernetes-validations", "empty"),
];

/// Why a schema is not structural.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemaErrors {
    /// Every fault, with its path.
    pub errors: Vec<FieldError>,
}

impl fmt::Display for SchemaErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for SchemaErrors {}

/// Makes the tree of a whole custom kind, whose schema is at `root`.
pub(super) fn from_openapi(source: &Value, root: &Path) -> Result<Schema, SchemaErrors> {
    let mut reader = Reader {
        errors: Vec::new(),
        depth: 0,
    };
    if source.get("type").and_then(Value::as_str) != Some("object") {
        let found = source.get("type").cloned().unwrap_or_else(|| Value::from(""));
        reader.errors.push(FieldError::invalid(
            root.child("type"),
            found,
            "must be object at the root",
        ));
        return Err(SchemaErrors { errors: reader.errors });
    }
    let mut schema = reader.read(source, root);
    reader.metadata(source, root);
    complete::faults(source, source, root, root, &mut reader.errors);
    if reader.errors.is_empty() {
        schema.kind = with_bookkeeping(schema.kind, &mut schema.preserve);
        schema.rules = Rules::new(source).map(Arc::new);
        Ok(schema)
    } else {
        Err(SchemaErrors { errors: reader.errors })
    }
}

/// Adds the fields that every object has.
fn with_bookkeeping(kind: Type, preserve: &mut bool) -> Type {
    let mut object = match kind {
        Type::Object(object) => object,
        other => {
            // An object whose fields are not described, such as with preserve-unknown-fields at the root.
            *preserve |= matches!(other, Type::Any | Type::Map(_));
            Object::default()
        }
    };
    let text = || Link::new(Schema::of(Type::String(Format::Text)));
    let own = [
        ("apiVersion", text()),
        ("kind", text()),
        ("metadata", builtin::object_meta()),
    ];
    let mut fields: Vec<Field> = object.fields.into_vec();
    fields.retain(|field| !own.iter().any(|(name, _)| **name == *field.name));
    for (name, schema) in own {
        fields.push(field(name, schema, false));
    }
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    object.fields = fields.into();
    Type::Object(object)
}

fn field(name: &str, schema: Link, required: bool) -> Field {
    Field {
        name: name.into(),
        schema,
        required,
        patch: Patch::default(),
        atomic: None,
        by_value: false,
        omits_zero: false,
    }
}

struct Reader {
    errors: Vec<FieldError>,
    depth: usize,
}

fn flag(source: &Value, key: &str) -> bool {
    source.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn size(source: &Value, key: &str) -> Option<usize> {
    source
        .get(key)
        .and_then(Value::as_u64)
        .and_then(|size| usize::try_from(size).ok())
}

fn words(source: Option<&Value>) -> Vec<Box<str>> {
    source
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(Into::into)
        .collect()
}

impl Reader {
    fn forbidden(&mut self, path: &Path, key: &str, why: &str) {
        self.errors.push(FieldError::forbidden(path.child(key), why));
    }

    /// Only the name may be constrained in the root's metadata.
    fn metadata(&mut self, source: &Value, path: &Path) {
        let Some(metadata) = source.pointer("/properties/metadata").and_then(Value::as_object) else {
            return;
        };
        let path = path.child("properties").key("metadata");
        let allowed = ["type", "properties", "default"];
        let properties = metadata.get("properties").and_then(Value::as_object);
        let names_alone =
            properties.is_none_or(|found| found.keys().all(|key| matches!(key.as_str(), "name" | "generateName")));
        if metadata.keys().any(|key| !allowed.contains(&key.as_str())) || !names_alone {
            let why =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            self.errors.push(FieldError::forbidden(&path, why));
        }
        if metadata.get("default").is_some_and(|default| !default.is_null()) {
            self.forbidden(&path, "default", "must not be set in top-level metadata");
        }
    }

    fn read(&mut self, source: &Value, path: &Path) -> Schema {
        if self.depth >= DEPTH {
            self.errors.push(FieldError::invalid(
                path,
                "",
                format!("is nested deeper than {DEPTH} levels"),
            ));
            return Schema::any().clone();
        }
        self.depth += 1;
        let schema = self.read_level(source, path);
        self.depth -= 1;
        schema
    }

    /// Refuses what no schema may say, nested or not.
    fn unsupported(&mut self, source: &Value, path: &Path) {
        let given = |key: &str| source.get(key).is_some_and(|found| !found.is_null());
        for key in [
            "id",
            "additionalItems",
            "patternProperties",
            "definitions",
            "dependencies",
            "$ref",
        ] {
            if given(key) {
                self.forbidden(path, key, &format!("{key} is not supported"));
            }
        }
        if flag(source, "uniqueItems") {
            self.forbidden(
                path,
                "uniqueItems",
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            );
        }
    }

    fn read_level(&mut self, source: &Value, path: &Path) -> Schema {
        self.unsupported(source, path);
        self.extensions(source, path);
        let preserve = flag(source, "x-kubernetes-preserve-unknown-fields");
        let embedded = flag(source, "x-kubernetes-embedded-resource");
        let kind = self.kind(source, path, preserve, embedded);
        let checks = self.checks(source, path);
        let mut schema = Schema {
            kind,
            nullable: flag(source, "nullable"),
            default: None,
            preserve,
            embedded,
            custom: true,
            checks: checks.map(Box::new),
            rules: None,
        };
        if let Some(default) = source.get("default").filter(|default| !default.is_null()) {
            let mut pruned = default.clone();
            schema.prune(&mut pruned);
            if pruned != *default {
                self.errors.push(FieldError::invalid(
                    path.child("default"),
                    default.clone(),
                    "must not have unknown fields",
                ));
            }
            for fault in default_faults(&schema, default) {
                self.errors
                    .push(FieldError::invalid(path.child("default"), default.clone(), fault));
            }
            schema.default = Some(pruned);
        }
        schema
    }

    /// Checks what the `x-kubernetes-*` fields ask of each other and of the type.
    fn extensions(&mut self, source: &Value, path: &Path) {
        let kind = source.get("type").and_then(Value::as_str).unwrap_or_default();
        let given = |key: &str| source.get(key).is_some_and(|found| !found.is_null());
        let (preserve, embedded) = ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource");
        if source.get(preserve) == Some(&Value::Bool(false)) {
            let why = "must be true or undefined";
            self.errors.push(FieldError::invalid(path.child(preserve), false, why));
        }
        if flag(source, "x-kubernetes-int-or-string") {
            for key in [preserve, embedded] {
                if flag(source, key) {
                    let why = "must be false if x-kubernetes-int-or-string is true";
                    self.errors.push(FieldError::invalid(path.child(key), true, why));
                }
            }
        }
        for (key, wanted) in [("x-kubernetes-map-type", "object"), ("x-kubernetes-list-type", "array")] {
            if given(key) && kind != wanted {
                self.wrong_type(path, kind, &format!("must be {wanted} if {key} is specified"));
            }
        }
        if flag(source, embedded) {
            let properties = source.get("properties").and_then(Value::as_object);
            if kind != "object" {
                self.wrong_type(path, kind, "must be object if x-kubernetes-embedded-resource is true");
            }
            if given("additionalProperties") {
                let why = "must not be used if x-kubernetes-embedded-resource is set";
                self.forbidden(path, "additionalProperties", why);
            }
            if !flag(source, preserve) && properties.is_none_or(JsonMap::is_empty) {
                let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
                self.errors.push(FieldError::required(path.child("properties"), why));
            }
        }
        if !words(source.get("x-kubernetes-list-map-keys")).is_empty() {
            let at = path.child("x-kubernetes-list-type");
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            match source.get("x-kubernetes-list-type").and_then(Value::as_str) {
                Some("map") => {}
                Some(other) => self.errors.push(FieldError::invalid(at, other, why)),
                None => self.errors.push(FieldError::required(at, why)),
            }
        }
    }

    fn wrong_type(&mut self, path: &Path, found: &str, why: &str) {
        let path = path.child("type");
        self.errors.push(if found.is_empty() {
            FieldError::required(path, why)
        } else {
            FieldError::invalid(path, found, why)
        });
    }

    fn kind(&mut self, source: &Value, path: &Path, preserve: bool, embedded: bool) -> Type {
        if flag(source, "x-kubernetes-int-or-string") {
            if source
                .get("type")
                .and_then(Value::as_str)
                .is_some_and(|kind| !kind.is_empty())
            {
                self.forbidden(path, "type", "must be empty if x-kubernetes-int-or-string is true");
            }
            return Type::IntOrString;
        }
        match source.get("type").and_then(Value::as_str).unwrap_or_default() {
            "object" => self.object(source, path, preserve, embedded),
            "array" => self.list(source, path),
            "string" => Type::String(Format::Text),
            "integer" => Type::Integer(match source.get("format").and_then(Value::as_str) {
                Some("int32") => 32,
                Some("int64") => 64,
                _ => 0,
            }),
            "number" => Type::Number,
            "boolean" => Type::Boolean,
            // What is kept is of any type; where it is an object, what is said of its fields holds.
            "" if preserve => match self.object(source, path, preserve, embedded) {
                Type::Object(object) if !object.fields.is_empty() => Type::Object(Object {
                    untyped: true,
                    ..object
                }),
                _ => Type::Any,
            },
            "" => {
                self.errors.push(FieldError::required(
                    path.child("type"),
                    "must not be empty for specified object fields",
                ));
                Type::Any
            }
            other => {
                let supported = ["array", "boolean", "integer", "number", "object", "string"];
                self.errors
                    .push(FieldError::not_supported(path.child("type"), other, &supported));
                Type::Any
            }
        }
    }

    fn object(&mut self, source: &Value, path: &Path, preserve: bool, embedded: bool) -> Type {
        let atomic = match source.get("x-kubernetes-map-type").and_then(Value::as_str) {
            None | Some("granular") => false,
            Some("atomic") => true,
            Some(other) => {
                let at = path.child("x-kubernetes-map-type");
                self.errors
                    .push(FieldError::not_supported(at, other, &["atomic", "granular"]));
                false
            }
        };
        let properties = source.get("properties").and_then(Value::as_object);
        let values = source.get("additionalProperties").filter(|values| !values.is_null());
        match values {
            Some(Value::Bool(false)) => {
                self.forbidden(path, "additionalProperties", "must not be used with value false")
            }
            Some(_) if properties.is_some_and(|properties| !properties.is_empty()) => {
                self.forbidden(
                    path,
                    "additionalProperties",
                    "additionalProperties and properties are mutual exclusive",
                );
            }
            _ => {}
        }
        if let Some(values) = values.filter(|_| properties.is_none_or(JsonMap::is_empty)) {
            let schema = match values {
                Value::Bool(_) => Schema::any().clone(),
                values => self.read(values, &path.child("additionalProperties")),
            };
            return Type::Map(Map {
                values: Link::new(schema),
                atomic,
            });
        }
        let Some(properties) = properties else {
            if preserve && !embedded {
                return if atomic { Type::Opaque } else { Type::Any };
            }
            return Type::Object(Object {
                atomic,
                ..Object::default()
            });
        };
        let required = words(source.get("required"));
        let mut fields: Vec<Field> = Vec::with_capacity(properties.len());
        for (name, schema) in properties {
            let schema = self.read(schema, &path.child("properties").key(name));
            fields.push(field(
                name,
                Link::new(schema),
                required.iter().any(|known| **known == **name),
            ));
        }
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        Type::Object(Object {
            name: Box::default(),
            fields: fields.into(),
            atomic,
            untyped: false,
        })
    }

    fn list(&mut self, source: &Value, path: &Path) -> Type {
        let Some(items) = source.get("items").filter(|items| items.is_object()) else {
            self.errors
                .push(FieldError::required(path.child("items"), "must be specified"));
            return Type::List(List {
                items: Link::new(Schema::any().clone()),
                merge: ListMerge::Atomic,
            });
        };
        let schema = self.read(items, &path.child("items"));
        let merge = match source.get("x-kubernetes-list-type").and_then(Value::as_str) {
            None | Some("atomic") => ListMerge::Atomic,
            Some("set") => {
                let scalar = match &schema.kind {
                    Type::Object(object) => object.atomic || object.untyped,
                    Type::Map(map) => map.atomic,
                    Type::List(list) => list.merge == ListMerge::Atomic,
                    _ => true,
                };
                if !scalar || schema.nullable {
                    self.forbidden(
                        &path.child("items"),
                        "x-kubernetes-map-type",
                        "must be atomic as item of a list with x-kubernetes-list-type=set",
                    );
                }
                ListMerge::Set
            }
            Some("map") => self.keys(source, &schema, path),
            Some(other) => {
                let at = path.child("x-kubernetes-list-type");
                self.errors
                    .push(FieldError::not_supported(at, other, &["atomic", "map", "set"]));
                ListMerge::Atomic
            }
        };
        Type::List(List {
            items: Link::new(schema),
            merge,
        })
    }

    fn keys(&mut self, source: &Value, items: &Schema, path: &Path) -> ListMerge {
        let names = words(source.get("x-kubernetes-list-map-keys"));
        let at = path.child("x-kubernetes-list-map-keys");
        if names.is_empty() {
            self.errors.push(FieldError::required(
                at,
                "must not be empty if x-kubernetes-list-type is map",
            ));
            return ListMerge::Atomic;
        }
        let Type::Object(object @ Object { untyped: false, .. }) = &items.kind else {
            let found = source.pointer("/items/type").cloned().unwrap_or_default();
            self.errors.push(FieldError::invalid(
                path.child("items").child("type"),
                found,
                "must be object if parent array's x-kubernetes-list-type is map",
            ));
            return ListMerge::Atomic;
        };
        let mut keys = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            let Some(field) = object.field(name) else {
                self.errors.push(FieldError::invalid(
                    at.index(index),
                    &**name,
                    "must be a property of the items",
                ));
                continue;
            };
            let schema = field.schema.get();
            if !field.required && schema.default.is_none() {
                let at = path.child("items").child("properties").key(name).child("default");
                let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                self.errors.push(FieldError::required(at, why));
            }
            keys.push(ListKey {
                name: name.clone(),
                default: schema.default.clone(),
            });
        }
        ListMerge::Keys(keys.into())
    }

    /// Reads the constraints of one level, or nothing if there are none.
    fn checks(&mut self, source: &Value, path: &Path) -> Option<Checks> {
        let checks = self.checks_of(source, path, 2);
        let plain = checks.enumeration.is_empty()
            && checks.minimum.is_none()
            && checks.maximum.is_none()
            && checks.multiple_of.is_none()
            && checks.min_length.is_none()
            && checks.max_length.is_none()
            && checks.pattern.is_none()
            && checks.format.is_none()
            && checks.min_items.is_none()
            && checks.max_items.is_none()
            && checks.min_properties.is_none()
            && checks.max_properties.is_none()
            && checks.required.is_empty()
            && checks.all_of.is_empty()
            && checks.any_of.is_empty()
            && checks.one_of.is_empty()
            && checks.not.is_none();
        (!plain).then_some(checks)
    }

    /// Reads the constraints of a level. `idiom` says where the integer-or-string idiom may stand, the only place of nested
    /// types: in `anyOf` (1), and in that of the first of `allOf` too (2).
    fn checks_of(&mut self, source: &Value, path: &Path, idiom: u8) -> Checks {
        let number = |key: &str| source.get(key).and_then(Value::as_f64);
        let pattern = source
            .get("pattern")
            .and_then(Value::as_str)
            .filter(|pattern| !pattern.is_empty());
        if let Some(fault) = pattern.and_then(Pattern::fault) {
            let why = format!("must be a valid regular expression, but isn't: {fault}");
            self.errors.push(FieldError::invalid(
                path.child("pattern"),
                pattern.unwrap_or_default(),
                why,
            ));
        }
        let format = source.get("format").and_then(Value::as_str);
        Checks {
            enumeration: source
                .get("enum")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default(),
            minimum: number("minimum"),
            exclusive_minimum: flag(source, "exclusiveMinimum"),
            maximum: number("maximum"),
            exclusive_maximum: flag(source, "exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: size(source, "minLength"),
            max_length: size(source, "maxLength"),
            pattern: pattern.map(Pattern::new),
            format: format.filter(|format| format::KNOWN.contains(format)).map(Into::into),
            min_items: size(source, "minItems"),
            max_items: size(source, "maxItems"),
            min_properties: size(source, "minProperties"),
            max_properties: size(source, "maxProperties"),
            required: words(source.get("required")),
            all_of: self.alternatives(source, path, "allOf", idiom.saturating_sub(1)),
            any_of: if idiom > 0 && source.get("anyOf") == Some(&json!([{"type": "integer"}, {"type": "string"}])) {
                ["integer", "string"].map(Nested::of_type).into()
            } else {
                self.alternatives(source, path, "anyOf", 0)
            },
            one_of: self.alternatives(source, path, "oneOf", 0),
            not: source
                .get("not")
                .filter(|not| not.is_object())
                .map(|not| Box::new(self.nested(not, &path.child("not"), 0))),
        }
    }

    fn alternatives(&mut self, source: &Value, path: &Path, key: &str, first_idiom: u8) -> Vec<Nested> {
        let list = source
            .get(key)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let path = path.child(key);
        list.iter()
            .enumerate()
            .map(|(index, nested)| {
                let idiom = if index == 0 { first_idiom } else { 0 };
                self.nested(nested, &path.index(index), idiom)
            })
            .collect()
    }

    fn nested(&mut self, source: &Value, path: &Path, idiom: u8) -> Nested {
        if self.depth >= DEPTH {
            self.errors.push(FieldError::invalid(
                path,
                "",
                format!("is nested deeper than {DEPTH} levels"),
            ));
            return Nested::default();
        }
        self.depth += 1;
        self.unsupported(source, path);
        for (key, wanted) in NOT_NESTED {
            let unsaid = match source.get(key) {
                None | Some(Value::Null) => true,
                Some(Value::Bool(false)) => key != "default",
                Some(Value::String(text)) => wanted == "empty" && text.is_empty(),
                Some(Value::Array(items)) => wanted == "empty" && items.is_empty(),
                Some(_) => false,
            };
            if !unsaid {
                self.forbidden(path, key, &format!("must be {wanted} to be structural"));
            }
        }
        let properties = source.get("properties").and_then(Value::as_object);
        let mut out = Nested {
            checks: self.checks_of(source, path, idiom),
            ..Nested::default()
        };
        for (name, inner) in properties.into_iter().flatten() {
            let at = path.child("properties").key(name);
            if name == "metadata" {
                let why = "must not be specified in a nested context";
                self.errors.push(FieldError::forbidden(&at, why));
            }
            let inner = self.nested(inner, &at, 0);
            out.properties.push((name.as_str().into(), inner));
        }
        if let Some(items) = source.get("items").filter(|items| items.is_object()) {
            out.items = Some(Box::new(self.nested(items, &path.child("items"), 0)));
        }
        self.depth -= 1;
        out
    }
}
