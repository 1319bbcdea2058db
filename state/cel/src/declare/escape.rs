//! The names of properties as identifiers: one that is a word of the language is written `__word__`.

use crate::words::is_word;

/// What stands for what in the middle of a name.
const PARTS: &[(&str, &str)] = &[("__", "underscores"), (".", "dot"), ("-", "dash"), ("/", "slash")];

/// Returns how expressions write a property's name, or `None` if they cannot.
pub fn escape(property: &str) -> Option<String> {
    if property.is_empty() || property.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if is_word(property) {
        return Some(format!("__{property}__"));
    }
    let mut out = String::with_capacity(property.len());
    let mut rest = property;
    while let Some(c) = rest.chars().next() {
        if let Some((part, name)) = PARTS.iter().find(|(part, _)| rest.starts_with(part)) {
            out.push_str(&format!("__{name}__"));
            rest = &rest[part.len()..];
        } else if c.is_ascii_alphanumeric() || c == '_' {
            out.push(c);
            rest = &rest[1..];
        } else {
            return None;
        }
    }
    Some(out)
}

/// Returns the property that an identifier stands for, or `None` if its escapes are none.
pub fn unescape(identifier: &str) -> Option<String> {
    let mut out = String::with_capacity(identifier.len());
    let mut rest = identifier;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("__")
            && let Some(end) = after
                .find('_')
                .filter(|end| *end > 0 && after[*end..].starts_with("__"))
        {
            let name = &after[..end];
            match PARTS.iter().find(|(_, known)| *known == name) {
                Some((part, _)) => out.push_str(part),
                None if is_word(name) && identifier.len() == name.len() + 4 => out.push_str(name),
                None => return None,
            }
            rest = &after[end + 2..];
        } else {
            let c = rest.chars().next()?;
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_read_back() {
        for (property, identifier) in [
            ("spec", "spec"),
            ("namespace", "__namespace__"),
            ("a.b", "a__dot__b"),
            ("x-prop", "x__dash__prop"),
            ("redact__d", "redact__underscores__d"),
            ("string", "string"),
            ("a/b", "a__slash__b"),
            ("_x_", "_x_"),
        ] {
            assert_eq!(escape(property).as_deref(), Some(identifier));
            assert_eq!(unescape(identifier).as_deref(), Some(property));
        }
        assert_eq!(escape("$ref"), None);
        assert_eq!(escape("1a"), None);
        assert_eq!(escape(""), None);
        assert_eq!(unescape("__nothing__"), None);
    }
}
