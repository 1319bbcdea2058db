//! Which texts may be names, label keys and label values, with Kubernetes' words for those that may not.

/// The most bytes in a DNS label.
pub const LABEL_LENGTH: usize = 63;
/// The most bytes in a DNS subdomain.
pub const SUBDOMAIN_LENGTH: usize = 253;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const C_IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

fn lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Whether a text is made of `middle` characters with `end` characters at both ends, and not empty.
fn shaped(text: &str, end: fn(u8) -> bool, middle: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if end(*first) && end(*last))
        && bytes.iter().all(|byte| middle(*byte))
}

/// Whether a text has the shape of a lowercase RFC 1123 label, however long it is.
pub fn is_label_shaped(text: &str) -> bool {
    shaped(text, lower_alphanumeric, |byte| {
        lower_alphanumeric(byte) || byte == b'-'
    })
}

fn collect(checks: [(bool, String); 2]) -> Vec<String> {
    checks
        .into_iter()
        .filter(|(wrong, _)| *wrong)
        .map(|(_, text)| text)
        .collect()
}

/// Returns what is wrong with a lowercase RFC 1123 label (names of namespaces, containers, pods' hosts).
pub fn dns_label(text: &str) -> Vec<String> {
    collect([
        (text.len() > LABEL_LENGTH, too_long(LABEL_LENGTH)),
        (!is_label_shaped(text), LABEL.into()),
    ])
}

/// Returns what is wrong with a lowercase RFC 1123 subdomain (names of most objects).
pub fn dns_subdomain(text: &str) -> Vec<String> {
    let wrong = !text.split('.').all(is_label_shaped);
    collect([
        (text.len() > SUBDOMAIN_LENGTH, too_long(SUBDOMAIN_LENGTH)),
        (wrong, SUBDOMAIN.into()),
    ])
}

/// Returns what is wrong with a DNS-1035 label (names of services).
pub fn dns1035_label(text: &str) -> Vec<String> {
    let wrong = !is_label_shaped(text) || !text.starts_with(|c: char| c.is_ascii_lowercase());
    collect([
        (text.len() > LABEL_LENGTH, too_long(LABEL_LENGTH)),
        (wrong, LABEL_1035.into()),
    ])
}

/// Returns what is wrong with a text as one segment of a path (names of RBAC objects).
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    let found = ['/', '%'].into_iter().filter(|c| text.contains(*c));
    found.map(|c| format!("may not contain '{c}'")).collect()
}

/// Returns what is wrong with a qualified name: a label's or annotation's key, a finalizer.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, rest)) if rest.contains('/') => {
            return vec![format!(
                "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some(("", name)) => {
            errors.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            errors.extend(
                dns_subdomain(prefix)
                    .into_iter()
                    .map(|error| format!("prefix part {error}")),
            );
            name
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".into());
    } else if name.len() > LABEL_LENGTH {
        errors.push(format!("name part {}", too_long(LABEL_LENGTH)));
    }
    if !shaped(
        name,
        |byte| byte.is_ascii_alphanumeric(),
        |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte),
    ) {
        errors.push(QUALIFIED.into());
    }
    errors
}

/// Returns what is wrong with a label's value.
pub fn label_value(text: &str) -> Vec<String> {
    let wrong = !text.is_empty()
        && !shaped(
            text,
            |byte| byte.is_ascii_alphanumeric(),
            |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte),
        );
    collect([
        (text.len() > LABEL_LENGTH, too_long(LABEL_LENGTH)),
        (wrong, LABEL_VALUE.into()),
    ])
}

/// Returns what is wrong with a C identifier.
pub fn c_identifier(text: &str) -> Vec<String> {
    let fine = shaped(text, |_| true, |byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !text.starts_with(|c: char| c.is_ascii_digit());
    if fine { Vec::new() } else { vec![C_IDENTIFIER.into()] }
}

/// Returns what is wrong with an environment variable's name: any printable ASCII but `=`.
pub fn env_name(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".into()];
    }
    let fine = text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=');
    if fine {
        Vec::new()
    } else {
        vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".into()]
    }
}

/// Returns what is wrong with a key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Vec<String> {
    let mut errors = collect([
        (text.len() > SUBDOMAIN_LENGTH, too_long(SUBDOMAIN_LENGTH)),
        (
            !shaped(
                text,
                |_| true,
                |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte),
            ),
            CONFIG_KEY.into(),
        ),
    ]);
    match text {
        "." => errors.push("must not be '.'".into()),
        ".." => errors.push("must not be '..'".into()),
        text if text.starts_with("..") => errors.push("must not start with '..'".into()),
        _ => {}
    }
    errors
}

/// Returns what is wrong with the name of a port.
pub fn port_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.is_empty() || text.len() > 15 {
        errors.push(if text.is_empty() {
            "must contain at least one letter (a-z)".to_owned()
        } else {
            "must be no more than 15 characters".to_owned()
        });
        if text.is_empty() {
            return errors;
        }
    }
    if !text.bytes().all(|byte| lower_alphanumeric(byte) || byte == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".into());
    }
    errors
}

/// Returns what is wrong with a port's number.
pub fn port_number(number: i64) -> Vec<String> {
    if (1..=65535).contains(&number) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".into()]
    }
}

/// Returns a name from a `generateName`: cut so that five characters fit.
///
/// `random` gives numbers below its argument. The letters are those of Kubernetes: no vowels, no look-alikes.
pub fn generate(base: &str, mut random: impl FnMut(usize) -> usize) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const LENGTH: usize = 5;
    let mut end = base.len().min(LABEL_LENGTH - LENGTH);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    for _ in 0..LENGTH {
        name.push(char::from(LETTERS[random(LETTERS.len()) % LETTERS.len()]));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_on_kubernetes() {
        for good in ["a", "0", "my-name", "a.b-c.d", "x0"] {
            assert!(dns_subdomain(good).is_empty(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a..b", "a.", ".a", "a_b", "a b", "é"] {
            assert_eq!(dns_subdomain(bad).len(), 1, "{bad}");
        }
        assert_eq!(dns_label(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert!(!dns1035_label("0a").is_empty());
        assert!(dns_label("0a").is_empty());
        assert!(path_segment("system:node").is_empty());
        assert_eq!(path_segment("a/b"), ["may not contain '/'"]);
    }

    #[test]
    fn label_keys_may_have_a_prefix() {
        for good in ["a", "A_b.c", "example.com/x", "kubernetes.io/metadata.name"] {
            assert!(qualified_name(good).is_empty(), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "-a", "Ex.com/a", "a b"] {
            assert!(!qualified_name(bad).is_empty(), "{bad}");
        }
        assert!(label_value("").is_empty());
        assert!(!label_value("a b").is_empty());
    }

    #[test]
    fn a_generated_name_is_a_label() {
        let name = generate(&"x".repeat(80), |_| 3);
        assert_eq!(name.len(), 63);
        assert!(dns_label(&name).is_empty());
        assert_eq!(generate("web-", |n| n - 1), "web-99999");
    }
}
