//! What a registry asks for when it answers 401: `WWW-Authenticate` (RFC 9110, section 11), `Basic` or `Bearer` with a token server.

use std::collections::BTreeMap;

/// The longest header that is looked at, in bytes.
const LONGEST: usize = 8 << 10;

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password in each request.
    Basic,
    /// A token of this server.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// Reads the challenges of all headers; the token is preferred where both are offered.
pub(super) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers.filter(|header| header.len() <= LONGEST) {
        for (scheme, mut parameters) in schemes(header) {
            if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = parameters.remove("realm")
            {
                return Some(Challenge::Bearer {
                    realm,
                    service: parameters.remove("service"),
                    scope: parameters.remove("scope"),
                });
            }
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

/// Splits `Scheme key="value", key=value, Other …` into schemes with their parameters.
fn schemes(header: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if let Some(value) = after.trim_start().strip_prefix('=') {
            let (value, after) = value_of(value.trim_start());
            if let Some((_, parameters)) = found.last_mut() {
                parameters.insert(word.to_ascii_lowercase(), value);
            }
            rest = after;
        } else {
            found.push((word.to_owned(), BTreeMap::new()));
            rest = after;
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    found
}

/// Takes a token or a quoted string from the front.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', ',', '\t']).unwrap_or(text.len());
        // At least one byte goes, so that this always ends.
        let end = end.max(text.chars().next().map_or(0, char::len_utf8));
        return (text[..end].trim_end_matches(',').to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, letter) in quoted.char_indices() {
        match letter {
            _ if escaped => {
                value.push(letter);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            _ => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.into(),
                service: service.map(Into::into),
                scope: scope.map(Into::into),
            })
        };
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull,push""#,
                bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/nginx:pull,push"),
                ),
            ),
            (
                "bearer realm=https://a/t , service=b",
                bearer("https://a/t", Some("b"), None),
            ),
            (
                r#"Basic realm="x", Bearer realm="https://a\"b""#,
                bearer("https://a\"b", None, None),
            ),
            (r#"Basic realm="Registry Realm""#, Some(Challenge::Basic)),
            ("Negotiate", None),
            ("Bearer service=x", None),
            (r#"Bearer realm="unfinished"#, bearer("unfinished", None, None)),
            ("=,=,=", None),
            ("a=,", None),
            ("", None),
        ] {
            assert_eq!(parse(std::iter::once(header)), expected, "{header}");
        }
    }
}
