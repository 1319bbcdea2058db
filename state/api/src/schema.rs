//! The structure of objects: one compact tree of types for built-in and custom kinds.
//!
//! A [`Schema`] says what a field is (object, map, list, scalar), how lists and maps merge (the `x-kubernetes-*` facts), and
//! for custom kinds what values are allowed. Everything that has to know an object's structure walks this tree: decoding
//! checks, pruning, defaulting, validation, strategic merge patches and server-side apply.
//!
//! * [`builtin()`] makes the tree of a built-in kind when it is first asked for and keeps it, without descriptions. Definitions
//!   are shared between kinds; a definition may contain itself.
//! * [`Schema::from_openapi`] makes the tree of a CustomResourceDefinition's `openAPIV3Schema`, if that is structural.

mod builtin;
mod checks;
mod decode;
mod duplicates;
pub(crate) mod extensions;
mod format;
mod index;
mod normalize;
mod prune;
mod rules;
mod structural;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use serde_json::Value;

pub use builtin::builtin;
pub(crate) use builtin::{generate, kinds};
pub(crate) use checks::Checks;
pub use decode::{strict_message, strict_text};
pub use duplicates::{Duplicates, duplicates};
pub use structural::SchemaErrors;

use crate::validate::field::Path;

/// The type of a value, with what hangs below it.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// What sort of value it is.
    pub(crate) kind: Type,
    /// Whether `null` is a value of its own (custom kinds only).
    pub(crate) nullable: bool,
    /// What an absent value reads as (custom kinds only).
    pub(crate) default: Option<Value>,
    /// Whether fields that are not described are kept.
    pub(crate) preserve: bool,
    /// Whether the value is a whole object with apiVersion, kind and metadata.
    pub(crate) embedded: bool,
    /// Whether this is a part of a custom kind's schema.
    pub(crate) custom: bool,
    /// Which values are allowed (custom kinds only).
    pub(crate) checks: Option<Box<Checks>>,
    /// The CEL rules of a custom kind, at its root.
    pub(crate) rules: Option<Arc<rules::Rules>>,
}

/// What sort of value a [`Schema`] describes.
#[derive(Clone, Debug, Default)]
pub(crate) enum Type {
    /// An object with known fields.
    Object(Object),
    /// An object with arbitrary keys and one type of value.
    Map(Map),
    /// A list.
    List(List),
    /// A string; the format says which.
    String(Format),
    /// An integer of 32 or 64 bits (0: no limit was said).
    Integer(u8),
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// An integer or a string.
    IntOrString,
    /// A Kubernetes quantity.
    Quantity,
    /// Anything; merged by the form that it has.
    #[default]
    Any,
    /// Anything; replaced as a whole.
    Opaque,
}

/// The formats of strings that decoding looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// Any text.
    #[default]
    Text,
    /// Base64.
    Byte,
    /// RFC 3339.
    DateTime,
    /// RFC 3339 with exactly six digits of fraction.
    MicroTime,
}

/// An object with known fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    /// The definition's name, as Go prints it: `v1.PodSpec`; "" where there is none.
    pub name: Box<str>,
    /// Sorted by name.
    pub fields: Box<[Field]>,
    /// Whether it has one owner and is replaced as a whole.
    pub atomic: bool,
    /// Whether other values than objects may stand here too (custom kinds only).
    pub untyped: bool,
}

impl Object {
    pub fn field(&self, name: &str) -> Option<&Field> {
        let index = self.fields.binary_search_by(|field| (*field.name).cmp(name)).ok()?;
        Some(&self.fields[index])
    }
}

/// One field of an [`Object`].
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub name: Box<str>,
    pub schema: Link,
    pub required: bool,
    /// How a strategic merge patch treats it.
    pub patch: Patch,
    /// Whether the field is an atomic map, where that differs from what its type says.
    pub atomic: Option<bool>,
    /// Whether Go holds the struct by value, so that it is never absent.
    pub by_value: bool,
    /// Whether Go leaves a zero scalar out of what it writes.
    pub omits_zero: bool,
}

/// How a strategic merge patch treats a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patch {
    pub merge: bool,
    pub replace: bool,
    pub retain_keys: bool,
    pub merge_key: Option<Box<str>>,
}

/// An object with arbitrary keys.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    pub values: Link,
    pub atomic: bool,
}

/// A list.
#[derive(Clone, Debug)]
pub(crate) struct List {
    pub items: Link,
    pub merge: ListMerge,
}

/// What makes an item of a list the same item.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ListMerge {
    /// Nothing: the list is one value.
    Atomic,
    /// Its value.
    Set,
    /// The values of these keys.
    Keys(Box<[ListKey]>),
}

/// A key of a list's items.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListKey {
    pub name: Box<str>,
    /// What it reads as where an item lacks it.
    pub default: Option<Value>,
}

/// A way to a schema: shared, and perhaps through a definition's name.
#[derive(Clone)]
pub(crate) enum Link {
    Direct(Arc<Schema>),
    /// A definition, which is filled in before any of its users is handed out.
    Named(Arc<OnceLock<Arc<Schema>>>),
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Link::Direct(schema) => schema.fmt(f),
            // A definition may contain itself.
            Link::Named(_) => f.write_str("Named"),
        }
    }
}

static ANY: Schema = Schema {
    kind: Type::Any,
    nullable: true,
    default: None,
    preserve: true,
    embedded: false,
    custom: false,
    checks: None,
    rules: None,
};

static OPAQUE: Schema = Schema {
    kind: Type::Opaque,
    nullable: true,
    default: None,
    preserve: true,
    embedded: false,
    custom: false,
    checks: None,
    rules: None,
};

/// The metadata of whole objects.
fn object_meta() -> &'static Schema {
    static METADATA: OnceLock<Link> = OnceLock::new();
    METADATA.get_or_init(builtin::object_meta).get()
}

impl Link {
    pub fn get(&self) -> &Schema {
        match self {
            Link::Direct(schema) => schema,
            Link::Named(cell) => cell.get().map_or(&ANY, |schema| schema),
        }
    }

    pub fn new(schema: Schema) -> Link {
        Link::Direct(Arc::new(schema))
    }
}

/// What is below a key of an object.
pub(crate) struct Below<'a> {
    /// The schema of the value.
    pub schema: &'a Schema,
    /// The field, if the key is a known one.
    pub field: Option<&'a Field>,
}

impl Schema {
    /// The schema of anything, merged by the form that it has.
    pub fn any() -> &'static Schema {
        &ANY
    }

    pub(crate) fn of(kind: Type) -> Schema {
        Schema {
            kind,
            ..<Schema as Default>::default()
        }
    }

    /// Makes the schema of a custom kind from its `openAPIV3Schema`.
    ///
    /// Errors: every place where it is not structural, with paths below `openAPIV3Schema`.
    pub fn from_openapi(schema: &Value) -> Result<Schema, SchemaErrors> {
        structural::from_openapi(schema, &Path::new(""))
    }

    /// Returns every place where an `openAPIV3Schema`, which is at `path`, is not structural.
    pub fn structural_faults(schema: &Value, path: &Path) -> Vec<crate::FieldError> {
        structural::from_openapi(schema, path).map_or_else(|found| found.errors, |_| Vec::new())
    }

    /// Returns whether this describes a built-in kind.
    pub fn is_builtin(&self) -> bool {
        !self.custom
    }

    /// Returns what is wrong with the CEL rules (`x-kubernetes-validations`) of an `openAPIV3Schema` that is structural.
    ///
    /// The paths are below that of the schema itself.
    pub fn rule_faults(schema: &Value, path: &Path) -> Vec<crate::FieldError> {
        rules::faults(schema, path)
    }

    /// Returns what is below a key, or nothing where the key is unknown and would be dropped.
    pub(crate) fn below(&self, key: &str) -> Option<Below<'_>> {
        match &self.kind {
            // What is declared of these constrains them, but is not all that they have.
            Type::Object(_) if self.embedded && matches!(key, "apiVersion" | "kind" | "metadata") => Some(Below {
                schema: if key == "metadata" { object_meta() } else { &ANY },
                field: None,
            }),
            Type::Object(object) => match object.field(key) {
                Some(field) => Some(Below {
                    schema: field.schema.get(),
                    field: Some(field),
                }),
                None if self.preserve => Some(Below {
                    schema: &ANY,
                    field: None,
                }),
                None => None,
            },
            Type::Map(map) => Some(Below {
                schema: map.values.get(),
                field: None,
            }),
            Type::Any | Type::Opaque | Type::IntOrString => Some(Below {
                schema: &ANY,
                field: None,
            }),
            Type::List(_) | Type::String(_) | Type::Integer(_) | Type::Number | Type::Boolean | Type::Quantity => None,
        }
    }

    /// Returns the schema of a list's items.
    pub(crate) fn items(&self) -> &Schema {
        match &self.kind {
            Type::List(list) => list.items.get(),
            _ => &ANY,
        }
    }

    /// Returns the paths of fields that the schema does not know, as `unknown field "spec.foo"`.
    pub fn unknown_fields(&self, value: &Value) -> Vec<String> {
        decode::unknown_fields(self, value)
    }

    /// Checks that every value has the type that Go would decode it into.
    ///
    /// Errors: the first fault, as the message of the 400 that Kubernetes answers. Of a custom kind only `metadata` is
    /// looked at; the rest is [`Schema::validate`]'s.
    pub fn check_types(&self, value: &Value) -> Result<(), String> {
        decode::check_types(self, value)
    }

    /// Drops what the schema does not know, and nulls that are not values of their own.
    pub fn prune(&self, value: &mut Value) {
        prune::prune(self, value);
    }

    /// Rewrites an object of a built-in kind, whose types were checked, as the Go types would write it: quantities and times
    /// in their one form, zero and empty values left out where the types say so. Custom kinds stay as they are.
    pub fn normalize(&self, value: &mut Value) {
        if self.is_builtin() {
            normalize::normalize(self, value);
        }
    }

    /// Fills in the defaults of a custom kind.
    pub fn default(&self, value: &mut Value) {
        prune::apply_defaults(self, value);
    }

    /// Returns everything that a custom kind's schema does not allow in a new object.
    pub fn validate(&self, value: &Value) -> Vec<crate::FieldError> {
        self.checked(value, None)
    }

    /// Returns what a custom kind's schema does not allow in a changed object; what was not changed is left alone.
    pub fn validate_update(&self, new: &Value, old: &Value) -> Vec<crate::FieldError> {
        self.checked(new, Some(old))
    }

    /// The rules are looked at when what they look at has the right form.
    fn checked(&self, value: &Value, old: Option<&Value>) -> Vec<crate::FieldError> {
        let mut errors = checks::validate(self, value, old);
        if let Some(rules) = &self.rules {
            match rules::skipped(&errors) {
                Some(error) => errors.push(error),
                None => errors.extend(rules::validate(rules, value, old)),
            }
        }
        errors
    }
}
