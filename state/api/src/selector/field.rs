//! Field selectors: `metadata.name=web,status.phase!=Running`.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::SelectorError;
use crate::{Resource, Status, meta};

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field's name.
    pub field: String,
    /// The value that it must (not) have.
    pub value: String,
    /// Whether it must have the value, or must not.
    pub equal: bool,
}

/// Terms that must all hold. The empty selector selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Returns the terms.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// Returns whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Returns the value that a field must have, if a term says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|term| term.equal && term.field == field)
            .map(|term| term.value.as_str())
    }

    /// Refuses fields that the kind cannot be selected by, as Kubernetes words it (400).
    pub fn check(&self, resource: &Resource) -> Result<(), Status> {
        // A built-in kind without fields of its own is selected by Kubernetes' general rule, which knows no scopes.
        let general = !resource.custom && resource.selectable_fields.is_empty();
        for FieldRequirement { field, .. } in &self.requirements {
            let known = match field.as_str() {
                "metadata.name" => true,
                "metadata.namespace" => general || resource.namespaced,
                name => resource.selectable_fields.iter().any(|field| field.name == name),
            };
            if known {
                continue;
            }
            let quoted = crate::validate::field::quote(field);
            return Err(Status::bad_request(if general {
                format!("{quoted} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
            } else {
                format!("field label not supported: {field}")
            }));
        }
        Ok(())
    }

    /// Returns whether an object is selected; fields that the kind does not have read as "".
    pub fn matches(&self, resource: &Resource, object: &Value) -> bool {
        self.requirements.iter().all(|term| {
            let value = match term.field.as_str() {
                "metadata.name" => meta::name(object).to_owned(),
                "metadata.namespace" => meta::namespace(object).to_owned(),
                name => resource
                    .selectable_fields
                    .iter()
                    .find(|field| field.name == name)
                    .map_or_else(String::new, |field| field.read(object)),
            };
            (value == term.value) == term.equal
        })
    }
}

impl FromStr for FieldSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<FieldSelector, SelectorError> {
        let mut requirements = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            let wrong = || SelectorError(format!("invalid selector: '{text}'; can't understand '{term}'"));
            let (field, operator, value) = split_term(term).ok_or_else(wrong)?;
            let value = unescape(value).ok_or_else(|| SelectorError(format!("invalid field selector: {value}")))?;
            requirements.push(FieldRequirement {
                field: field.to_owned(),
                value,
                equal: operator != "!=",
            });
        }
        Ok(FieldSelector { requirements })
    }
}

/// Splits at commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, &str, &str)> {
    for (index, _) in term.char_indices() {
        for operator in ["!=", "==", "="] {
            if let Some(value) = term[index..].strip_prefix(operator) {
                return Some((&term[..index], operator, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.push(characters.next().filter(|next| matches!(next, '\\' | ',' | '='))?),
            // An `=` or `,` in a value has to be escaped.
            ',' | '=' => return None,
            other => out.push(other),
        }
    }
    Some(out)
}

fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for character in value.chars() {
        if matches!(character, '\\' | ',' | '=') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.requirements.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if term.equal { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}{}", term.field, escape(&term.value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scheme;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn pods_are_selected_by_node_and_phase() {
        let pods = Scheme::builtin().get("", "v1", "pods").unwrap();
        let pod = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"nodeName": "one"}, "status": {"phase": "Running"}});
        for (text, selected) in [
            ("", true),
            ("spec.nodeName=one", true),
            ("spec.nodeName==two", false),
            ("spec.nodeName!=,status.phase=Running", true),
            ("metadata.name=a,metadata.namespace=n", true),
            ("status.phase!=Running", false),
            ("spec.hostNetwork=false", true),
        ] {
            let selector: FieldSelector = text.parse().unwrap();
            assert!(selector.check(&pods).is_ok());
            assert_eq!(selector.matches(&pods, &pod), selected, "{text}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_name() {
        let pods = Scheme::builtin().get("", "v1", "pods").unwrap();
        let selector: FieldSelector = "spec.foo=a".parse().unwrap();
        let status = selector.check(&pods).unwrap_err();
        assert_eq!(
            (status.code, status.message.as_str()),
            (400, "field label not supported: spec.foo")
        );
        let scheme = Scheme::builtin();
        for (group, plural, field, message) in [
            (
                "",
                "configmaps",
                "spec.x",
                "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            ),
            (
                "",
                "nodes",
                "metadata.namespace",
                "field label not supported: metadata.namespace",
            ),
            ("", "events", "spec.x", "field label not supported: spec.x"),
        ] {
            let row = scheme.any_version(group, plural).unwrap();
            let selector: FieldSelector = format!("{field}=a").parse().unwrap();
            assert_eq!(selector.check(&row).unwrap_err().message, message);
        }
        let role = scheme.any_version("rbac.authorization.k8s.io", "clusterroles").unwrap();
        let selector: FieldSelector = "metadata.namespace=".parse().unwrap();
        assert!(selector.check(&role).is_ok());
        let mut custom = (*role).clone();
        custom.custom = true;
        assert_eq!(
            selector.check(&custom).unwrap_err().message,
            "field label not supported: metadata.namespace"
        );
        assert_eq!(
            "foo".parse::<FieldSelector>().unwrap_err().0,
            "invalid selector: 'foo'; can't understand 'foo'"
        );
    }

    proptest! {
        #[test]
        fn printing_and_parsing_gives_the_same_selector(terms in proptest::collection::vec(("[a-z.]{1,8}", "[a-z\\\\=, ]{0,6}", any::<bool>()), 0..4)) {
            let requirements = terms.into_iter().map(|(field, value, equal)| FieldRequirement { field, value, equal }).collect();
            let selector = FieldSelector { requirements };
            prop_assert_eq!(selector.to_string().parse::<FieldSelector>().unwrap(), selector);
        }
    }
}
