//! Where a repository is, as a person writes it.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;

use super::Credentials;
use crate::source::SourceError;

const LONGEST: usize = 4_096;

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// On this machine.
    Path(PathBuf),
    /// Elsewhere.
    Remote(Remote),
}

/// A remote repository's address. Prints itself without a password or token, also in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Remote {
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// As the server is asked for it.
    pub(super) path: String,
    pub(super) user: Option<String>,
    pub(super) credentials: Option<Credentials>,
    shown: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
    Ssh,
    Git,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Location {
    /// Tells a path (`./fleet`, `/srv/fleet.git`, `file:///srv/fleet.git`) from an address (`https://…`, `http://…`, `ssh://…`,
    /// `git://…`, `git@host:path`). Looks at nothing but the text: a path with a colon before its first slash is written `./a:b`.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let text = text.trim();
        if text.is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
            return Err(bad(
                text,
                "write a path, an https:// or ssh:// address, or user@host:path",
            ));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return match scheme.to_ascii_lowercase().as_str() {
                "file" => match rest.strip_prefix("localhost").unwrap_or(rest) {
                    path if path.starts_with('/') => Ok(Self::Path(PathBuf::from(path))),
                    _ => Err(bad(
                        text,
                        "file:// is followed by an absolute path, as in file:///srv/fleet.git",
                    )),
                },
                "https" => with_scheme(text, Scheme::Https).map(Self::Remote),
                "http" => with_scheme(text, Scheme::Http).map(Self::Remote),
                "ssh" | "git+ssh" | "ssh+git" => with_scheme(text, Scheme::Ssh).map(Self::Remote),
                "git" => with_scheme(text, Scheme::Git).map(Self::Remote),
                _ => Err(bad(text, "use https, http, ssh, git or file")),
            };
        }
        match text.split_once(':') {
            Some((host, path)) if !host.is_empty() && !host.contains('/') => scp(text, host, path).map(Self::Remote),
            _ => Ok(Self::Path(PathBuf::from(text))),
        }
    }
}

fn with_scheme(text: &str, scheme: Scheme) -> Result<Remote, SourceError> {
    let url = Url::parse(text).map_err(|error| bad(text, &error.to_string()))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad(text, "it may have no `?` and no `#`"));
    }
    let host = url
        .host_str()
        .filter(|host| !host.is_empty())
        .ok_or_else(|| bad(text, "it names no host"))?;
    let user = Some(decoded(url.username())).filter(|user| !user.is_empty());
    let path = url.path().trim_end_matches('/');
    if path.is_empty() {
        return Err(bad(text, "it names no repository on the host"));
    }
    let port = url.port();
    let shown_port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let (name, shown_user) = match (scheme, &user) {
        (Scheme::Https, _) => ("https", String::new()),
        (Scheme::Http, _) => ("http", String::new()),
        (Scheme::Git, _) => ("git", String::new()),
        (Scheme::Ssh, Some(user)) => ("ssh", format!("{user}@")),
        (Scheme::Ssh, None) => ("ssh", String::new()),
    };
    let shown = format!("{name}://{shown_user}{host}{shown_port}{path}");
    let credentials = match (scheme, &user, url.password()) {
        (Scheme::Ssh, _, Some(_)) => {
            return Err(bad(
                text,
                "ssh takes no password here; use a key that needs none, or an agent",
            ));
        }
        (Scheme::Https | Scheme::Http, user, password) if user.is_some() || password.is_some() => Some(Credentials {
            username: user.clone().unwrap_or_default(),
            password: password.map(decoded).unwrap_or_default(),
        }),
        _ => None,
    };
    let path = match scheme {
        // Encoded, as it goes into the next address.
        Scheme::Https | Scheme::Http => path.to_owned(),
        Scheme::Ssh | Scheme::Git => {
            let path = decoded(path);
            // A home folder is asked for without the slash.
            path.strip_prefix('/')
                .filter(|rest| rest.starts_with('~'))
                .map(str::to_owned)
                .unwrap_or(path)
        }
    };
    checked(
        text,
        Remote {
            scheme,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            path,
            user,
            credentials,
            shown,
        },
    )
}

/// `[user@]host:path`.
fn scp(text: &str, host: &str, path: &str) -> Result<Remote, SourceError> {
    let (user, host) = match host.rsplit_once('@') {
        Some((user, host)) => (Some(user.to_owned()), host),
        None => (None, host),
    };
    if path.is_empty() {
        return Err(bad(text, "it names no repository on the host"));
    }
    checked(
        text,
        Remote {
            scheme: Scheme::Ssh,
            host: host.to_owned(),
            port: None,
            path: path.to_owned(),
            user,
            credentials: None,
            shown: text.to_owned(),
        },
    )
}

/// None of the parts may be taken for an option by `ssh` or by `git-upload-pack`.
fn checked(text: &str, remote: Remote) -> Result<Remote, SourceError> {
    let odd = |part: &str| part.starts_with('-') || part.chars().any(|character| character.is_control());
    let spaced = |part: &str| part.is_empty() || part.contains(char::is_whitespace);
    let user = remote.user.as_deref();
    if odd(&remote.host) || spaced(&remote.host) || odd(&remote.path) {
        return Err(bad(
            text,
            "neither the host nor the path may begin with `-` or have odd characters",
        ));
    }
    if remote.scheme == Scheme::Ssh && user.is_some_and(|user| odd(user) || spaced(user) || user.contains(['@', ':'])) {
        return Err(bad(text, "the user name is none that ssh takes"));
    }
    Ok(remote)
}

fn bad(text: &str, problem: &str) -> SourceError {
    let address: String = match (text.split_once("://"), text.rsplit_once('@')) {
        // Whatever stands before the last `@` may be a password.
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        (None, Some((user, rest))) if user.contains(':') => format!("…@{rest}"),
        _ => text.to_owned(),
    };
    SourceError::BadAddress {
        address: address.chars().take(200).flat_map(char::escape_debug).collect(),
        problem: problem.to_owned(),
    }
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = (*byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
