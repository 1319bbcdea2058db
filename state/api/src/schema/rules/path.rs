//! A rule's `fieldPath`: a path of fields and map keys below the rule's place.

use serde_json::Value;

/// Returns the path as errors write it, if the schema has such a place.
pub(super) fn normalized(path: &str, schema: &Value) -> Option<String> {
    let mut out = String::new();
    let mut schema = schema;
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let (name, after) = match first {
            '.' => {
                let end = rest[1..].find(['.', '[', ']']).map_or(rest.len(), |end| end + 1);
                (rest[1..end].to_owned(), &rest[end..])
            }
            '[' => quoted(&rest[1..])?,
            _ => return None,
        };
        if name.is_empty() {
            return None;
        }
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            schema = properties.get(&name)?;
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&name);
        } else {
            schema = schema.get("additionalProperties").filter(|values| values.is_object())?;
            out.push_str(&format!("[{name}]"));
        }
        rest = after;
    }
    Some(out)
}

/// Reads `'name']` with its escapes; returns what is behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('\'')?;
    let mut name = String::new();
    let mut chars = body.char_indices();
    loop {
        match chars.next()?.1 {
            '\'' => {
                let rest = chars.as_str().strip_prefix(']')?;
                return Some((name, rest));
            }
            '\\' => name.push(match chars.next()?.1 {
                'a' => '\x07',
                'b' => '\x08',
                'f' => '\x0c',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\x0b',
                other @ ('\'' | '\\') => other,
                _ => return None,
            }),
            other => name.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_leads_to_a_place_of_the_schema() {
        let schema = json!({"properties": {"a": {"properties": {"b.c": {}}}, "m": {"additionalProperties": {"properties": {"x": {}}}}}});
        assert_eq!(normalized(".a['b.c']", &schema).as_deref(), Some("a.b.c"));
        assert_eq!(normalized(".m['k'].x", &schema).as_deref(), Some("m[k].x"));
        assert_eq!(normalized("", &schema).as_deref(), Some(""));
        for wrong in ["a", ".b", ".a[0]", ".a['b.c'", ".a.", "..a", ".a['\\q']"] {
            assert_eq!(normalized(wrong, &schema), None, "{wrong}");
        }
    }
}
