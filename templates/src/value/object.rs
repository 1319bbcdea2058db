//! Structs that the host hands in, such as `.Capabilities` or a certificate.

use super::Value;

/// A struct with fields and methods without arguments, both computed beforehand.
#[derive(Clone, Debug)]
pub struct Object {
    /// The Go type; a leading `*` makes it a pointer.
    pub type_name: &'static str,
    /// The exported fields in Go's order, with the name that JSON uses (empty: not written).
    pub fields: Vec<(&'static str, &'static str, Value)>,
    /// The results of its methods.
    pub methods: Vec<(&'static str, Value)>,
    /// What its `String` method says, where it has one.
    pub text: Option<String>,
}

impl Object {
    /// Finds a field or a method's result.
    pub fn member(&self, name: &str) -> Option<Value> {
        self.methods
            .iter()
            .find(|(method, _)| *method == name)
            .map(|(_, value)| value.clone())
            .or_else(|| {
                self.fields
                    .iter()
                    .find(|(field, ..)| *field == name)
                    .map(|(.., value)| value.clone())
            })
    }
}
