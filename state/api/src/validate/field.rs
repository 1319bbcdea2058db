//! What is wrong with one field, worded as Kubernetes words it.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use crate::status::Cause;

/// The sort of a [`FieldError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// The field must be set.
    Required,
    /// The value is of the right type, but not allowed.
    Invalid,
    /// The value is none of the allowed ones.
    NotSupported,
    /// The field may not be set (to this) here and now.
    Forbidden,
    /// The value occurs twice where it must be unique.
    Duplicate,
    /// What the value refers to does not exist.
    NotFound,
    /// The text has too many bytes.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// The value has the wrong JSON type.
    TypeInvalid,
    /// A fault of the server.
    Internal,
}

impl FieldErrorKind {
    /// Returns the word in `details.causes[].reason`.
    pub fn reason(self) -> &'static str {
        match self {
            FieldErrorKind::Required => "FieldValueRequired",
            FieldErrorKind::Invalid => "FieldValueInvalid",
            FieldErrorKind::NotSupported => "FieldValueNotSupported",
            FieldErrorKind::Forbidden => "FieldValueForbidden",
            FieldErrorKind::Duplicate => "FieldValueDuplicate",
            FieldErrorKind::NotFound => "FieldValueNotFound",
            FieldErrorKind::TooLong => "FieldValueTooLong",
            FieldErrorKind::TooMany => "FieldValueTooMany",
            FieldErrorKind::TypeInvalid => "FieldValueTypeInvalid",
            FieldErrorKind::Internal => "InternalError",
        }
    }

    fn text(self) -> &'static str {
        match self {
            FieldErrorKind::Required => "Required value",
            FieldErrorKind::Invalid | FieldErrorKind::TypeInvalid => "Invalid value",
            FieldErrorKind::NotSupported => "Unsupported value",
            FieldErrorKind::Forbidden => "Forbidden",
            FieldErrorKind::Duplicate => "Duplicate value",
            FieldErrorKind::NotFound => "Not found",
            FieldErrorKind::TooLong => "Too long",
            FieldErrorKind::TooMany => "Too many",
            FieldErrorKind::Internal => "Internal error",
        }
    }
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// The sort of fault.
    pub kind: FieldErrorKind,
    /// Where: `spec.containers[0].name`.
    pub field: String,
    /// The value found, where the message shows it.
    pub value: Option<Value>,
    /// What is wrong or asked for; may be empty.
    pub detail: String,
}

impl FieldError {
    fn new(
        kind: FieldErrorKind,
        field: impl Into<String>,
        value: Option<Value>,
        detail: impl Into<String>,
    ) -> FieldError {
        FieldError {
            kind,
            field: field.into(),
            value,
            detail: detail.into(),
        }
    }

    /// `field: Required value: detail`
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Required, field, None, detail)
    }

    /// `field: Invalid value: value: detail`
    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Invalid, field, Some(value.into()), detail)
    }

    /// `field: Invalid value: detail`, where the value is too large to be shown or says nothing.
    pub fn invalid_unshown(field: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Invalid, field, None, detail)
    }

    /// `field: Invalid value: "string": detail`, for a value of the wrong JSON type.
    pub fn type_invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::TypeInvalid, field, Some(value.into()), detail)
    }

    /// `field: Unsupported value: value: supported values: "a", "b"`
    pub fn not_supported<S: AsRef<str>>(
        field: impl Into<String>,
        value: impl Into<Value>,
        supported: &[S],
    ) -> FieldError {
        let mut sorted: Vec<&str> = supported.iter().map(AsRef::as_ref).collect();
        sorted.sort_unstable();
        FieldError::not_supported_in_order(field, value, &sorted)
    }

    /// As [`FieldError::not_supported`], with the supported values in their own order.
    pub fn not_supported_in_order(field: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> FieldError {
        let quoted: Vec<String> = supported.iter().map(|word| format!("\"{word}\"")).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        FieldError::new(FieldErrorKind::NotSupported, field, Some(value.into()), detail)
    }

    /// `field: Forbidden: detail`
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Forbidden, field, None, detail)
    }

    /// `field: Duplicate value: value`
    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> FieldError {
        FieldError::new(FieldErrorKind::Duplicate, field, Some(value.into()), "")
    }

    /// `field: Not found: value`
    pub fn not_found(field: impl Into<String>, value: impl Into<Value>) -> FieldError {
        FieldError::new(FieldErrorKind::NotFound, field, Some(value.into()), "")
    }

    /// `field: Too long: may not be more than limit bytes`
    pub fn too_long(field: impl Into<String>, limit: usize) -> FieldError {
        FieldError::new(
            FieldErrorKind::TooLong,
            field,
            None,
            format!("may not be more than {limit} bytes"),
        )
    }

    /// `field: Too many: actual: must have at most limit items`
    pub fn too_many(field: impl Into<String>, actual: usize, limit: usize) -> FieldError {
        let detail = format!("must have at most {limit} item{}", if limit == 1 { "" } else { "s" });
        FieldError::new(FieldErrorKind::TooMany, field, Some(actual.into()), detail)
    }

    /// `field: Internal error: detail`
    pub fn internal(field: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError::new(FieldErrorKind::Internal, field, None, detail)
    }

    /// `field: Invalid value: value: field is immutable`
    pub fn immutable(field: impl Into<String>, value: impl Into<Value>) -> FieldError {
        FieldError::invalid(field, value, "field is immutable")
    }

    /// Returns the message without the field, as it stands in a cause.
    pub fn body(&self) -> String {
        let mut out = self.kind.text().to_owned();
        if let Some(value) = &self.value {
            out.push_str(": ");
            match value {
                // Go prints a nil as `null`, a string quoted as Go quotes it, the rest as JSON.
                Value::String(text) => out.push_str(&quote(text)),
                other => out.push_str(&other.to_string()),
            }
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }

    /// Returns the entry for `details.causes`.
    pub fn to_cause(&self) -> Cause {
        Cause {
            reason: Cow::Borrowed(self.kind.reason()),
            message: self.body(),
            field: self.field.clone(),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() || self.field == "<nil>" {
            write!(f, "<nil>: {}", self.body())
        } else {
            write!(f, "{}: {}", self.field, self.body())
        }
    }
}

impl std::error::Error for FieldError {}

/// Quotes a text as Go's `%q` does for what is found in objects.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The path of a field, built on the way down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// Starts at a top-level field; "" is the object itself.
    pub fn new(field: &str) -> Path {
        Path(field.to_owned())
    }

    /// Returns the path of a member: `a.b`.
    #[must_use]
    pub fn child(&self, field: &str) -> Path {
        if self.0.is_empty() {
            Path(field.to_owned())
        } else {
            Path(format!("{}.{field}", self.0))
        }
    }

    /// Returns the path of a list's item: `a[3]`.
    #[must_use]
    pub fn index(&self, index: usize) -> Path {
        Path(format!("{}[{index}]", self.0))
    }

    /// Returns the path of a map's entry: `a[key]`.
    #[must_use]
    pub fn key(&self, key: &str) -> Path {
        Path(format!("{}[{key}]", self.0))
    }

    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Path> for String {
    fn from(path: &Path) -> String {
        path.0.clone()
    }
}

impl From<Path> for String {
    fn from(path: Path) -> String {
        path.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
