//! Image references in their full form.
//!
//! Parsed here and not by the OCI crate: its regular expression takes 6 MB of memory for as long as the process lives.

use std::fmt;
use std::str::FromStr;

use crate::RegistryError;

/// A parsed reference, with the defaults that people expect: `nginx` is `docker.io/library/nginx:latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl ImageReference {
    /// Returns the registry's host, with its port if it has one.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag; `None` when only a digest is given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, if one is given.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Returns `registry/repository`, to which `@digest` may be added.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry(), self.repository())
    }

    /// Returns the same image by this digest.
    pub(crate) fn with_digest(&self, digest: &str) -> Self {
        ImageReference {
            digest: Some(digest.to_owned()),
            ..self.clone()
        }
    }
}

impl FromStr for ImageReference {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let invalid = |reason: String| RegistryError::Reference {
            reference: text.chars().take(300).collect(),
            reason,
        };
        if text.trim() != text || text.is_empty() {
            return Err(invalid("it is empty or has spaces around it".to_string()));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        if let Some(digest) = digest {
            check_digest(digest).map_err(|why| invalid(why.to_string()))?;
        }
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid(
                "the tag has characters that a tag cannot have, or too many".to_string(),
            ));
        }
        let (registry, repository) = split(name);
        check_name(registry, &repository).map_err(|why| invalid(why.to_string()))?;
        // What names nothing more means the newest.
        let tag = match (tag, digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        Ok(ImageReference {
            registry: registry.to_owned(),
            repository,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

/// Splits a name into registry and repository. The first part is a registry when it looks like a host.
fn split(name: &str) -> (&str, String) {
    let (registry, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        _ => ("docker.io", name),
    };
    let registry = if registry == "index.docker.io" {
        "docker.io"
    } else {
        registry
    };
    if registry == "docker.io" && !path.contains('/') {
        (registry, format!("library/{path}"))
    } else {
        (registry, path.to_string())
    }
}

fn check_name(registry: &str, repository: &str) -> Result<(), &'static str> {
    let (host, port) = match registry.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (registry, None),
    };
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        alphanumeric(bytes.first())
            && alphanumeric(bytes.last())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    if !host.split('.').all(is_label) {
        return Err("the registry is no host name");
    }
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err("the registry's port is no number");
    }
    if repository.len() > 255 {
        return Err("repository names have at most 255 characters");
    }
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("repository names are in lower case");
    }
    if !repository.split('/').all(is_component) {
        return Err("each part of a repository's name is made of a-z and 0-9, with single . _ or __ or - between them");
    }
    Ok(())
}

/// Letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_component(part: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [part.bytes().next(), part.bytes().next_back()];
    ends.into_iter().all(|byte| byte.is_some_and(is_letter))
        && part
            .split(|letter: char| u8::try_from(letter).is_ok_and(is_letter))
            .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|byte| byte == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

fn check_digest(digest: &str) -> Result<(), &'static str> {
    let length = match digest.split_once(':') {
        Some(("sha256", _)) => 64,
        Some(("sha384", _)) => 96,
        Some(("sha512", _)) => 128,
        Some(_) => return Err("the digest is of an algorithm that is not known"),
        None => return Err("the digest does not name its algorithm"),
    };
    let hex = digest.split_once(':').map_or("", |(_, hex)| hex);
    if hex.len() == length && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(())
    } else {
        Err("the digest has the wrong length, or characters that are not hexadecimal")
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_get_the_usual_defaults() {
        let full = |text: &str| text.parse::<ImageReference>().unwrap().to_string();
        assert_eq!(full("nginx"), "docker.io/library/nginx:latest");
        assert_eq!(full("setpoint.dev/demo:v1"), "setpoint.dev/demo:v1");
        assert_eq!(full("localhost:5000/a/b"), "localhost:5000/a/b:latest");
        let digest = format!("r.example/x@sha256:{}", "a".repeat(64));
        assert_eq!(full(&digest), digest);
    }

    #[test]
    fn references_are_read_as_the_oci_crate_reads_them() {
        let names = [
            "a",
            "a/b",
            "a/b/c",
            "docker.io/a",
            "index.docker.io/a",
            "docker.io/a/b",
            "localhost/a",
            "localhost:1/a",
            "a:1/b",
            "A.io/b",
            "a.io:/b",
            "a.io:x/b",
            "-a.io/b",
            "a-.io/b",
            "a..b/c",
            "a.b",
            "a..b",
            "a_b",
            "a__b",
            "a___b",
            "a-b",
            "a---b",
            "a-",
            "-a",
            "a._b",
            "a.-b",
            "a/",
            "/a",
            "a//b",
            "a/B",
            "ä",
            "a.io/ä",
            "1.2.3.4:5/x",
            "a b",
            "",
        ];
        let digest = |algorithm: &str, length: usize| format!("@{algorithm}:{}", "0a".repeat(length / 2));
        let tails = [
            String::new(),
            ":v1".into(),
            ":".into(),
            ":.x".into(),
            ":_x".into(),
            ":a-b.c_D".into(),
            format!(":{}", "x".repeat(128)),
            format!(":{}", "x".repeat(129)),
            digest("sha256", 64),
            digest("sha256", 62),
            digest("sha512", 128),
            digest("md5", 32),
            "@sha256".into(),
            "@".into(),
            format!(":v1{}", digest("sha256", 64)),
            format!("{}x", digest("sha256", 64)),
            ":a:b".into(),
        ];
        for (name, tail) in names.iter().flat_map(|name| tails.iter().map(move |tail| (name, tail))) {
            let text = format!("{name}{tail}");
            let ours = text
                .parse::<ImageReference>()
                .ok()
                .map(|reference| reference.to_string());
            let theirs = text.parse::<oci_client::Reference>().ok();
            assert_eq!(ours, theirs.map(|reference| reference.whole()), "{text:?}");
        }
    }

    #[test]
    fn nonsense_is_an_error_that_names_it() {
        for text in ["", " nginx", "UPPER/case", "a b", "x:", "http://x/y"] {
            let error = text.parse::<ImageReference>().unwrap_err();
            assert!(error.to_string().contains("invalid image reference"), "{text}: {error}");
        }
    }
}
