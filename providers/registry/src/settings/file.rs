//! `registries.toml`: its form, and the files that are read again when they change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use toml::Spanned;

use super::{Place, Proxy, Registry, Settings, Transport};
use crate::RegistryError;

/// The largest file, in bytes.
const LARGEST: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    registry: Vec<RawRegistry>,
    ca: Option<Spanned<PathBuf>>,
    proxy: Option<Spanned<String>>,
    #[serde(default)]
    no_proxy: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRegistry {
    host: Spanned<String>,
    #[serde(default)]
    mirrors: Vec<RawMirror>,
    #[serde(default = "yes")]
    direct: bool,
    #[serde(default)]
    plain_http: bool,
    skip_verify: Option<Spanned<bool>>,
    ca: Option<Spanned<PathBuf>>,
    proxy: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMirror {
    location: Spanned<String>,
    #[serde(default)]
    plain_http: bool,
    skip_verify: Option<Spanned<bool>>,
    ca: Option<Spanned<PathBuf>>,
    proxy: Option<Spanned<String>>,
}

fn yes() -> bool {
    true
}

/// Makes errors of one file.
struct At<'a> {
    file: &'a Path,
    text: &'a str,
}

impl At<'_> {
    fn error(&self, offset: Option<usize>, reason: impl Into<String>) -> RegistryError {
        let line = |offset: usize| 1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        RegistryError::Settings {
            file: self.file.to_owned(),
            line: offset.map(line),
            reason: reason.into(),
        }
    }

    fn transport(
        &self,
        defaults: &Transport,
        plain_http: bool,
        skip_verify: Option<&Spanned<bool>>,
        ca: Option<&Spanned<PathBuf>>,
        proxy: Option<&Spanned<String>>,
    ) -> Result<Transport, RegistryError> {
        if let Some(skip) = skip_verify.filter(|skip| plain_http && *skip.get_ref()) {
            let why = "skip_verify is about TLS, which plain_http leaves out: keep one of them";
            return Err(self.error(Some(skip.span().start), why));
        }
        let except = match &defaults.proxy {
            Proxy::Through { except, .. } => except.clone(),
            _ => String::new(),
        };
        Ok(Transport {
            plain_http,
            skip_verify: skip_verify.is_some_and(|skip| *skip.get_ref()),
            ca: match ca {
                Some(path) => Some(self.absolute(path)?),
                None => defaults.ca.clone(),
            },
            proxy: match proxy {
                Some(text) => self.proxy(text, except)?,
                None => defaults.proxy.clone(),
            },
        })
    }

    fn absolute(&self, path: &Spanned<PathBuf>) -> Result<PathBuf, RegistryError> {
        if path.get_ref().is_absolute() {
            Ok(path.get_ref().clone())
        } else {
            Err(self.error(Some(path.span().start), "ca must be the absolute path of a PEM file"))
        }
    }

    fn proxy(&self, text: &Spanned<String>, except: String) -> Result<Proxy, RegistryError> {
        match text.get_ref().as_str() {
            "none" => Ok(Proxy::Direct),
            url if url.starts_with("http://") || url.starts_with("https://") => Ok(Proxy::Through {
                url: url.to_owned(),
                except,
            }),
            // Not shown: it may hold a password.
            _ => Err(self.error(
                Some(text.span().start),
                "proxy must begin with http:// or https://, or be \"none\"",
            )),
        }
    }
}

/// `host`, `host:port`; with a star as the first part, or alone, where patterns are allowed.
fn is_host(host: &str, patterns: bool) -> bool {
    let plain = |host: &str| {
        !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':'))
    };
    plain(host) || (patterns && (host == "*" || host.strip_prefix("*.").is_some_and(plain)))
}

/// Reads one file over what came before it: a registry that is named again is replaced.
pub(super) fn parse(text: &str, file: &Path, settings: &mut Settings) -> Result<(), RegistryError> {
    let at = At { file, text };
    let raw: RawFile = toml::from_str(text).map_err(|error| {
        let offset = error.span().map(|span| span.start);
        at.error(offset.or(Some(0)), error.message())
    })?;
    if let Some(ca) = &raw.ca {
        settings.defaults.ca = Some(at.absolute(ca)?);
    }
    if let Some(proxy) = &raw.proxy {
        settings.defaults.proxy = at.proxy(proxy, raw.no_proxy.join(","))?;
    } else if !raw.no_proxy.is_empty() {
        let why = "no_proxy goes with proxy; of the environment's proxy, NO_PROXY says that";
        return Err(at.error(None, why));
    }
    let mut names = BTreeSet::new();
    for registry in &raw.registry {
        let (host, start) = (registry.host.get_ref().clone(), registry.host.span().start);
        if !is_host(&host, true) {
            let why = format!("{host:?} is not a host: write HOST or HOST:PORT as in images' names, *.DOMAIN, or *");
            return Err(at.error(Some(start), why));
        }
        if !names.insert(host.clone()) {
            return Err(at.error(Some(start), format!("{host} is there twice: join the two")));
        }
        if !registry.direct && registry.mirrors.is_empty() {
            return Err(at.error(
                Some(start),
                format!("{host} is not asked itself (direct = false) and has no mirrors"),
            ));
        }
        let mut mirrors = Vec::new();
        for mirror in &registry.mirrors {
            let location = mirror.location.get_ref();
            let (host, prefix) = location.split_once('/').unwrap_or((location, ""));
            if location.contains("://") || !is_host(host, false) {
                let why = format!("{location:?} is not HOST[:PORT][/PATH], without http:// or https:// before it");
                return Err(at.error(Some(mirror.location.span().start), why));
            }
            let (skip, ca, proxy) = (mirror.skip_verify.as_ref(), mirror.ca.as_ref(), mirror.proxy.as_ref());
            mirrors.push(Place {
                host: host.to_owned(),
                prefix: prefix.trim_matches('/').to_owned(),
                transport: at.transport(&settings.defaults, mirror.plain_http, skip, ca, proxy)?,
            });
        }
        let (skip, ca, proxy) = (
            registry.skip_verify.as_ref(),
            registry.ca.as_ref(),
            registry.proxy.as_ref(),
        );
        let transport = at.transport(&settings.defaults, registry.plain_http, skip, ca, proxy)?;
        settings.registries.retain(|known| known.host != host);
        settings.registries.push(Registry {
            host,
            direct: registry.direct,
            transport,
            mirrors,
        });
    }
    Ok(())
}

/// The files of one machine; later ones count over earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Files {
    paths: Vec<PathBuf>,
}

/// What tells that a file has changed.
pub(crate) type Stamp = Vec<Option<(SystemTime, u64)>>;

impl Files {
    /// Takes the files; none has to exist.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Files { paths }
    }

    /// Returns what changes when a file does.
    pub(crate) fn stamp(&self) -> Stamp {
        let stamp = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        self.paths.iter().map(stamp).collect()
    }

    /// Reads them all.
    pub fn read(&self) -> Result<Settings, RegistryError> {
        let mut settings = Settings::default();
        for path in &self.paths {
            let io = |source| RegistryError::Io {
                path: path.clone(),
                source,
            };
            match std::fs::metadata(path) {
                Ok(metadata) if metadata.len() > LARGEST => {
                    return Err(RegistryError::Settings {
                        file: path.clone(),
                        line: None,
                        reason: format!("it is over {LARGEST} bytes"),
                    });
                }
                Ok(_) => parse(&std::fs::read_to_string(path).map_err(io)?, path, &mut settings)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(io(error)),
            }
        }
        Ok(settings)
    }
}
