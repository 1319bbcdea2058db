//! How ignored fields are written.

use super::{Ignore, Part};

/// A rule is no longer than this, in bytes.
const MAX_LENGTH: usize = 1024;
/// A path has no more steps than this.
const MAX_STEPS: usize = 64;

/// A text does not name a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no field to ignore: {fault}")]
pub struct IgnoreError {
    /// What was written.
    pub text: String,
    /// What is wrong with it, and how it is meant.
    pub fault: String,
}

impl Ignore {
    /// Reads a rule: `spec.replicas`, `Deployment:spec.replicas`, `Deployment.apps/web:metadata.annotations["x/y"]`,
    /// `spec.template.spec.containers[name=web].image`, `spec.ports[*].nodePort`.
    ///
    /// Errors: it names no field, or one that says who the object is.
    pub fn parse(text: &str) -> Result<Ignore, IgnoreError> {
        let shown: String = text.chars().take(80).collect();
        let error = |fault: String| IgnoreError {
            text: shown.clone(),
            fault,
        };
        if text.len() > MAX_LENGTH {
            return Err(error(format!("it is longer than {MAX_LENGTH} bytes")));
        }
        let trimmed = text.trim();
        let (target, path) = match target_end(trimmed) {
            Some(at) => (Some(trimmed[..at].trim()), trimmed[at + 1..].trim()),
            None => (None, trimmed),
        };
        let (mut kind, mut name) = (None, None);
        if let Some(target) = target {
            let (left, right) = match target.split_once('/') {
                Some((kind, name)) => (kind, Some(name)),
                None => (target, None),
            };
            let (left, group) = match left.split_once('.') {
                Some((kind, group)) => (kind, Some(group.to_owned())),
                None => (left, None),
            };
            if left.is_empty() || !left.chars().all(char::is_alphanumeric) {
                return Err(error(format!(
                    "`{target}` before the colon is not KIND or KIND/NAME, as in `Deployment/web:spec.replicas`"
                )));
            }
            if right == Some("") {
                return Err(error(format!("a name is missing after `{left}/`")));
            }
            kind = Some((left.to_owned(), group));
            name = right.map(str::to_owned);
        }
        let path = Reader {
            rest: path,
            whole: path,
        }
        .path()
        .map_err(error)?;
        refuse_identity(&path).map_err(error)?;
        Ok(Ignore {
            text: trimmed.to_owned(),
            kind,
            name,
            path,
        })
    }
}

/// Returns where the colon after KIND[/NAME] stands: before any bracket or quote.
fn target_end(text: &str) -> Option<usize> {
    let at = text.find([':', '[', '"'])?;
    text[at..].starts_with(':').then_some(at)
}

/// Refuses the fields without which the object would be another one.
fn refuse_identity(path: &[Part]) -> Result<(), String> {
    let refused = match path {
        [Part::Key(top)] => matches!(top.as_str(), "apiVersion" | "kind" | "metadata" | "status"),
        [Part::Key(top), Part::Key(key), ..] if top == "metadata" => crate::structure::is_bookkeeping(key),
        [Part::Key(top), ..] => matches!(top.as_str(), "apiVersion" | "kind" | "status"),
        _ => true,
    };
    match path.first() {
        Some(Part::Key(top)) if refused && top == "status" => {
            Err("status is never compared, so there is nothing to ignore".to_owned())
        }
        _ if refused => Err("it is part of what names the object or of what the server keeps; name a field such as `spec.replicas` or `metadata.annotations`".to_owned()),
        _ => Ok(()),
    }
}

struct Reader<'a> {
    rest: &'a str,
    whole: &'a str,
}

impl<'a> Reader<'a> {
    fn column(&self) -> usize {
        self.whole[..self.whole.len() - self.rest.len()].chars().count() + 1
    }

    fn path(mut self) -> Result<Vec<Part>, String> {
        if self.rest.is_empty() {
            return Err("the path is missing; write one such as `spec.replicas`".to_owned());
        }
        if self.rest.starts_with('/') {
            return Err("paths are written with dots, as in `spec.replicas`, not with slashes".to_owned());
        }
        self.rest = self.rest.strip_prefix('.').unwrap_or(self.rest);
        let mut out = Vec::new();
        loop {
            if out.len() >= MAX_STEPS {
                return Err(format!("the path has more than {MAX_STEPS} steps"));
            }
            if let Some(rest) = self.rest.strip_prefix('[') {
                if out.is_empty() {
                    return Err("a path begins with a field, as in `metadata.annotations[\"x/y\"]`".to_owned());
                }
                self.rest = rest;
                out.push(self.brackets()?);
            } else {
                let end = self.rest.find(['.', '[', ']', '"', '=']).unwrap_or(self.rest.len());
                let (key, rest) = self.rest.split_at(end);
                if key.is_empty() {
                    return Err(format!(
                        "a field's name is missing at column {} of the path",
                        self.column()
                    ));
                }
                if let Some(odd) = key.chars().find(|c| c.is_whitespace() || c.is_control() || *c == '/') {
                    return Err(format!(
                        "{odd:?} cannot stand in a plain name; put it in brackets and quotes: `[\"{key}\"]`"
                    ));
                }
                out.push(Part::Key(key.to_owned()));
                self.rest = rest;
            }
            if self.rest.is_empty() {
                return Ok(out);
            }
            if let Some(rest) = self.rest.strip_prefix('.') {
                if rest.starts_with('[') {
                    return Err(format!(
                        "there is no dot before `[` (column {} of the path)",
                        self.column()
                    ));
                }
                self.rest = rest;
                if rest.is_empty() {
                    return Err("the path ends with a dot".to_owned());
                }
            } else if !self.rest.starts_with('[') {
                return Err(format!(
                    "unexpected {:?} at column {} of the path",
                    self.rest.chars().next().unwrap_or_default(),
                    self.column()
                ));
            }
        }
    }

    /// Reads what is in brackets, after the opening one.
    fn brackets(&mut self) -> Result<Part, String> {
        if self.rest.starts_with('"') {
            let key = self.quoted()?;
            self.close()?;
            return Ok(Part::Key(key));
        }
        if let Some(rest) = self.rest.strip_prefix("*]") {
            self.rest = rest;
            return Ok(Part::Items(Vec::new()));
        }
        if let Some(rest) = self.rest.strip_prefix('=') {
            self.rest = rest;
            let value = self.value()?;
            self.close()?;
            return Ok(Part::Value(value));
        }
        let mut keys = Vec::new();
        loop {
            let end = self.rest.find(['=', ',', ']', '"']).unwrap_or(self.rest.len());
            let (key, rest) = self.rest.split_at(end);
            let Some(rest) = rest.strip_prefix('=').filter(|_| !key.is_empty()) else {
                return Err(
                    "brackets hold a quoted key (`[\"x/y\"]`), what an item is known by (`[name=web]`), or `[*]`"
                        .to_owned(),
                );
            };
            self.rest = rest;
            keys.push((key.trim().to_owned(), self.value()?));
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None => break,
            }
        }
        self.close()?;
        Ok(Part::Items(keys))
    }

    fn value(&mut self) -> Result<String, String> {
        if self.rest.starts_with('"') {
            return self.quoted();
        }
        let end = self.rest.find([',', ']']).unwrap_or(self.rest.len());
        let (value, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(value.trim().to_owned())
    }

    fn quoted(&mut self) -> Result<String, String> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, c)| {
            let end = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            end
        });
        let Some((end, _)) = end else {
            return Err(format!(
                "the quote at column {} of the path is not closed",
                self.column()
            ));
        };
        let (text, rest) = self.rest.split_at(end + 1);
        let value = serde_json::from_str(text).map_err(|error| format!("{text} cannot be read: {error}"))?;
        self.rest = rest;
        Ok(value)
    }

    fn close(&mut self) -> Result<(), String> {
        match self.rest.strip_prefix(']') {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(format!("a `]` is missing at column {} of the path", self.column())),
        }
    }
}
