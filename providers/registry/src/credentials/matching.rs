//! Which images an entry of a docker configuration is for, by the kubelet's rules.
//!
//! An entry is a host, with a port and a path if it has them, `*`, `?` and `[…]` allowed within each part of the host between dots. It is for an
//! image when both hosts have as many parts and each matches, the ports are the same, and the entry's path is the beginning of the image's.

/// Brings an entry's key into the form `host[:port][/path]`: no scheme, no `/v1/` or `/v2/` of docker's own.
pub(super) fn key(text: &str) -> String {
    let text = text.trim();
    let bare = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .unwrap_or(text);
    let (host, path) = match bare.split_once('/') {
        Some((host, path)) => (host, path),
        None => (bare, ""),
    };
    let path = ["v1", "v2"]
        .iter()
        .find_map(|version| {
            path.strip_prefix(version)
                .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        })
        .map_or(path, |rest| rest.trim_start_matches('/'));
    match path.trim_end_matches('/') {
        "" => host.to_owned(),
        path => format!("{host}/{path}"),
    }
}

/// Returns whether an entry's key is for an image's name (`host[:port]/repository`).
pub(super) fn matches(key: &str, image: &str) -> bool {
    let (key_host, key_path) = key.split_once('/').unwrap_or((key, ""));
    let (host, path) = image.split_once('/').unwrap_or((image, ""));
    let (key_name, key_port) = port(key_host);
    let (name, image_port) = port(host);
    let (key_parts, parts): (Vec<&str>, Vec<&str>) = (key_name.split('.').collect(), name.split('.').collect());
    key_port == image_port
        && key_parts.len() == parts.len()
        && key_parts
            .iter()
            .zip(&parts)
            .all(|(pattern, part)| glob(pattern.as_bytes(), part.as_bytes()))
        && path.starts_with(key_path)
}

fn port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    }
}

/// `*`, `?`, `[a-z]`, `[^a-z]` and `\x`, within one part of a host. Takes at most pattern × text steps.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            None if t == text.len() => return true,
            None => None,
            Some(_) => text.get(t).and_then(|byte| one(&pattern[p..], *byte)),
        };
        match (step, star) {
            (Some(taken), _) => (p, t) = (p + taken, t + 1),
            // The last star takes one more; earlier ones need not be looked at again.
            (None, Some((after, from))) if from < text.len() => {
                star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            (None, _) => return false,
        }
    }
}

/// Returns how much of the pattern stood for this byte; `None` when it does not match.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', rest @ ..] => {
            let (negated, rest) = match rest {
                [b'^', rest @ ..] => (true, rest),
                rest => (false, rest),
            };
            let end = rest.iter().position(|byte| *byte == b']')?;
            let mut set = &rest[..end];
            let mut found = false;
            while let Some(&low) = set.first() {
                match set {
                    [_, b'-', high, tail @ ..] => {
                        found |= (low..=*high).contains(&byte);
                        set = tail;
                    }
                    [_, tail @ ..] => {
                        found |= low == byte;
                        set = tail;
                    }
                    [] => break,
                }
            }
            (found != negated).then_some(pattern.len() - rest.len() + end + 1)
        }
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lose_schemes_and_the_versions_of_dockers_own() {
        for (text, expected) in [
            ("https://index.docker.io/v1/", "index.docker.io"),
            ("http://r.example:5000/v2/team/app", "r.example:5000/team/app"),
            ("r.example", "r.example"),
            ("r.example/v1x/", "r.example/v1x"),
            ("*.kubernetes.io", "*.kubernetes.io"),
        ] {
            assert_eq!(key(text), expected, "{text}");
        }
    }

    /// The table of the kubelet's documentation, "config.json interpretation".
    #[test]
    fn globs_stay_within_a_part_and_paths_are_prefixes() {
        for (pattern, image, expected) in [
            ("*.kubernetes.io", "abc.kubernetes.io/x", true),
            ("*.kubernetes.io", "kubernetes.io/x", false),
            ("*.*.kubernetes.io", "abc.kubernetes.io/x", false),
            ("*.*.kubernetes.io", "abc.def.kubernetes.io/x", true),
            ("prefix.*.io", "prefix.kubernetes.io/x", true),
            ("*-good.kubernetes.io", "prefix-good.kubernetes.io/x", true),
            ("r.example", "r.example:5000/x", false),
            ("r.example:5000", "r.example:5000/x", true),
            ("r.example/team", "r.example/team/app", true),
            ("r.example/team", "r.example/other/app", false),
            ("r[0-9].exampl?", "r7.example/x", true),
            ("r[^0-9].example", "r7.example/x", false),
            ("a*b*c.x", "aXbXbXc.x/y", true),
            ("a*b*c.x", "aXbXbX.x/y", false),
            ("[", "[/x", false),
        ] {
            assert_eq!(matches(pattern, image), expected, "{pattern} {image}");
        }
    }
}
