//! How registries are reached on this machine: `registries.toml`, documented in `docs/registries.md`.
//!
//! Pure: text in, settings or an error with a line out. [`Settings::endpoints`] says where an image is asked for, in which order.

mod file;

use std::path::PathBuf;

pub use file::Files;
pub(crate) use file::Stamp;

use crate::ImageReference;
#[cfg(test)]
use crate::RegistryError;

/// How one place is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transport {
    /// Plain HTTP, without any protection.
    pub plain_http: bool,
    /// TLS without looking at the certificate.
    pub skip_verify: bool,
    /// A PEM file of authorities that are trusted besides the system's.
    pub ca: Option<PathBuf>,
    /// The proxy.
    pub proxy: Proxy,
}

/// Which proxy is used.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub enum Proxy {
    /// What the environment says (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`).
    #[default]
    Environment,
    /// None.
    Direct,
    /// This one, but for the hosts of a `NO_PROXY` list.
    Through {
        /// Its address; it may hold a password and is never shown.
        url: String,
        /// Hosts that are reached directly.
        except: String,
    },
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Proxy::Environment => "Environment",
            Proxy::Direct => "Direct",
            Proxy::Through { .. } => "Through(…)",
        })
    }
}

/// A place that has the images of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The host, with its port if it has one.
    pub host: String,
    /// What comes before the repository's name there; empty, or without slashes at its ends.
    pub prefix: String,
    /// How it is spoken to.
    pub transport: Transport,
}

/// One registry's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registry {
    /// The host as it stands in images' names, `*.example.org`, or `*`.
    pub host: String,
    /// Whether it is asked itself.
    pub direct: bool,
    pub transport: Transport,
    /// Asked before it, in this order.
    pub mirrors: Vec<Place>,
}

/// What all files say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub(crate) registries: Vec<Registry>,
    pub(crate) defaults: Transport,
}

impl Settings {
    /// Returns where an image is asked for: the mirrors of its registry in their order, then the registry itself.
    pub fn endpoints(&self, reference: &ImageReference) -> Vec<Place> {
        let host = reference.registry();
        let rank = |registry: &&Registry| match registry.host.as_str() {
            exact if exact == host => Some(usize::MAX),
            "*" => Some(0),
            pattern => pattern
                .strip_prefix('*')
                .filter(|tail| host.ends_with(*tail))
                .map(|tail| tail.len()),
        };
        let found = self
            .registries
            .iter()
            .filter(|registry| rank(registry).is_some())
            .max_by_key(rank);
        let own = |transport: Transport| Place {
            host: host.to_owned(),
            prefix: String::new(),
            transport,
        };
        match found {
            Some(registry) => {
                let itself = registry.direct.then(|| own(registry.transport.clone()));
                registry.mirrors.iter().cloned().chain(itself).collect()
            }
            None => vec![own(Transport {
                plain_http: is_this_machine(host),
                ..self.defaults.clone()
            })],
        }
    }
}

/// Whether a host is this machine: nobody else hears what is said there, so that it needs no TLS by default.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost"
        || name
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::file::parse;
    use super::*;

    fn read(text: &str) -> Result<Settings, RegistryError> {
        let mut settings = Settings::default();
        parse(text, Path::new("/etc/setpoint/registries.toml"), &mut settings).map(|()| settings)
    }

    fn hosts(settings: &Settings, image: &str) -> Vec<String> {
        let places = settings.endpoints(&image.parse().unwrap());
        places
            .into_iter()
            .map(|place| format!("{}/{}", place.host, place.prefix))
            .collect()
    }

    #[test]
    fn mirrors_come_first_and_the_most_specific_registry_counts() {
        let settings = read(
            r#"
            ca = "/etc/corp.pem"
            [[registry]]
            host = "docker.io"
            mirrors = [{ location = "mirror.corp:5000/hub" }, { location = "127.0.0.1:5001", plain_http = true }]
            [[registry]]
            host = "*.corp"
            skip_verify = true
            [[registry]]
            host = "closed.corp"
            mirrors = [{ location = "open.corp" }]
            direct = false
            "#,
        )
        .unwrap();
        assert_eq!(
            hosts(&settings, "nginx"),
            ["mirror.corp:5000/hub", "127.0.0.1:5001/", "docker.io/"]
        );
        assert_eq!(hosts(&settings, "closed.corp/x"), ["open.corp/"]);
        let place = |image: &str| settings.endpoints(&image.parse().unwrap()).remove(0).transport;
        assert!(place("a.corp/x").skip_verify && !place("quay.io/x").skip_verify);
        assert_eq!(place("quay.io/x").ca.as_deref(), Some(Path::new("/etc/corp.pem")));
        assert_eq!(place("nginx").ca.as_deref(), Some(Path::new("/etc/corp.pem")));
        assert!(place("localhost:5000/x").plain_http);
    }

    #[test]
    fn errors_name_the_file_the_line_and_what_to_do() {
        for (text, line, part) in [
            ("[[registry]]\nhots = 'a'", 2, "hots"),
            ("[[registry]]\nhost = 'docker.io/library'", 2, "host"),
            ("[[registry]]\nhost = 'a'\n\n[[registry]]\nhost = 'a'", 5, "twice"),
            (
                "[[registry]]\nhost = 'a'\nplain_http = true\nskip_verify = true",
                4,
                "plain_http",
            ),
            (
                "[[registry]]\nhost = 'a'\nmirrors = [{ location = 'https://x' }]",
                3,
                "https://",
            ),
            ("[[registry]]\nhost = 'a'\nca = 'relative.pem'", 3, "absolute"),
            ("[[registry]]\nhost = 'a'\ndirect = false", 2, "mirrors"),
            ("proxy = 'ftp://user:hidden@x'", 1, "http://"),
            ("= 1", 1, ""),
        ] {
            let error = read(text).unwrap_err().to_string();
            let place = format!("/etc/setpoint/registries.toml:{line}: ");
            assert!(error.starts_with(&place) && error.contains(part), "{text}: {error}");
            assert!(!error.contains("hidden"), "{error}");
        }
    }

    #[test]
    fn proxies_are_not_shown() {
        let settings = read("proxy = 'http://user:hidden@proxy:3128'\nno_proxy = ['.corp']").unwrap();
        assert!(!format!("{settings:?}").contains("hidden"));
    }
}
