//! Image references in their full form.

use std::fmt;
use std::str::FromStr;

use crate::RegistryError;

/// A parsed reference, with the defaults that people expect: `nginx` is `docker.io/library/nginx:latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageReference(oci_client::Reference);

impl ImageReference {
    /// Returns the registry's host, with its port if it has one.
    pub fn registry(&self) -> &str {
        self.0.registry()
    }

    /// Returns the repository within the registry.
    pub fn repository(&self) -> &str {
        self.0.repository()
    }

    /// Returns the tag; `None` when only a digest is given.
    pub fn tag(&self) -> Option<&str> {
        self.0.tag()
    }

    /// Returns the digest, if one is given.
    pub fn digest(&self) -> Option<&str> {
        self.0.digest()
    }

    /// Returns `registry/repository`, to which `@digest` may be added.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry(), self.repository())
    }

    pub(crate) fn inner(&self) -> &oci_client::Reference {
        &self.0
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
        let reference: oci_client::Reference = text
            .parse()
            .map_err(|error: oci_client::ParseError| invalid(error.to_string()))?;
        if reference.repository().bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(invalid("repository names are in lower case".to_string()));
        }
        Ok(ImageReference(reference))
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.whole())
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
    fn nonsense_is_an_error_that_names_it() {
        for text in ["", " nginx", "UPPER/case", "a b", "x:", "http://x/y"] {
            let error = text.parse::<ImageReference>().unwrap_err();
            assert!(error.to_string().contains("invalid image reference"), "{text}: {error}");
        }
    }
}
