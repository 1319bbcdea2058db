//! A container's environment and the `$(NAME)` in its command, as Kubernetes makes them. Pure: what ConfigMaps, Secrets and services say
//! comes in as data.

pub mod files;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod, ResourceFieldSelector, Service};

use crate::resources;

/// Keys and values of a ConfigMap or Secret.
pub type Data = BTreeMap<String, Vec<u8>>;

/// What a container's variables may refer to.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The ConfigMaps that exist, by name.
    pub config_maps: BTreeMap<String, Data>,
    /// The Secrets that exist, by name.
    pub secrets: BTreeMap<String, Data>,
    /// The files of the pod's volumes that variables refer to.
    pub files: BTreeMap<files::Place, files::Text>,
    /// Variables that tell of services; explicit ones win.
    pub services: Vec<(String, String)>,
    /// The pod's addresses, its first first.
    pub pod_ips: Vec<String>,
    /// The node's addresses.
    pub host_ips: Vec<String>,
    /// The node's CPUs in thousandths.
    pub node_cpu_millis: i128,
    /// The node's memory in bytes.
    pub node_memory: u64,
    /// The node's disk in bytes.
    pub node_storage: u64,
}

/// Why a container cannot be configured; shown as `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// An object is missing.
    #[error("{kind} \"{name}\" not found")]
    NoObject {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A key is missing.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// The key.
        key: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// The object's namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A file of the pod does not say it.
    #[error("{0}")]
    File(String),
    /// A field or resource cannot be referred to.
    #[error("variable {variable}: {path} cannot be referred to here")]
    Field {
        /// The variable.
        variable: String,
        /// The path.
        path: String,
    },
}

/// Makes a container's variables: those of services first, then `envFrom`, then `env`, later ones over earlier ones.
pub fn build(pod: &Pod, container: &Container, sources: &Sources) -> Result<Vec<(String, String)>, EnvError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut variables = Variables::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (kind, name, optional, found) = if let Some(reference) = &from.config_map_ref {
            (
                "configmap",
                &reference.name,
                reference.optional,
                sources.config_maps.get(&reference.name),
            )
        } else if let Some(reference) = &from.secret_ref {
            (
                "secret",
                &reference.name,
                reference.optional,
                sources.secrets.get(&reference.name),
            )
        } else {
            continue;
        };
        match found {
            Some(data) => {
                for (key, value) in data.iter().filter(|(key, _)| !key.contains('=')) {
                    variables.set(format!("{prefix}{key}"), String::from_utf8_lossy(value).into_owned());
                }
            }
            None if optional == Some(true) => {}
            None => {
                return Err(EnvError::NoObject {
                    kind,
                    name: name.clone(),
                });
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => Some(expand(value, |name| {
                variables.get(name).or_else(|| service(sources, name))
            })),
            (_, Some(from)) => referred(pod, container, &variable.name, from, namespace, sources)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            variables.set(variable.name.clone(), value);
        }
    }
    let services = sources
        .services
        .iter()
        .filter(|(name, _)| variables.get(name).is_none())
        .cloned();
    let mut all: Vec<(String, String)> = services.collect();
    all.extend(variables.list);
    Ok(all)
}

fn service<'a>(sources: &'a Sources, name: &str) -> Option<&'a str> {
    sources
        .services
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

#[derive(Default)]
struct Variables {
    list: Vec<(String, String)>,
}

impl Variables {
    fn set(&mut self, name: String, value: String) {
        match self.list.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.list.push((name, value)),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.list
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

fn referred(
    pod: &Pod,
    container: &Container,
    variable: &str,
    from: &EnvVarSource,
    namespace: &str,
    sources: &Sources,
) -> Result<Option<String>, EnvError> {
    let field = |path: &str| EnvError::Field {
        variable: variable.to_owned(),
        path: path.to_owned(),
    };
    if let Some(reference) = &from.field_ref {
        let path = &reference.field_path;
        return field_value(pod, path, sources).map(Some).ok_or_else(|| field(path));
    }
    if let Some(reference) = &from.resource_field_ref {
        return resource_value(pod, Some(container), reference, sources)
            .map(Some)
            .ok_or_else(|| field(&reference.resource));
    }
    if let Some(reference) = &from.file_key_ref {
        let place = (reference.volume_name.clone(), reference.path.clone());
        return files::value(reference, sources.files.get(&place)).map_err(EnvError::File);
    }
    let (small, kind, name, key, optional, found) = if let Some(reference) = &from.config_map_key_ref {
        let found = sources.config_maps.get(&reference.name);
        (
            "configmap",
            "ConfigMap",
            &reference.name,
            &reference.key,
            reference.optional,
            found,
        )
    } else if let Some(reference) = &from.secret_key_ref {
        (
            "secret",
            "Secret",
            &reference.name,
            &reference.key,
            reference.optional,
            sources.secrets.get(&reference.name),
        )
    } else {
        return Err(field("this kind of valueFrom"));
    };
    let optional = optional == Some(true);
    let Some(data) = found else {
        return if optional {
            Ok(None)
        } else {
            Err(EnvError::NoObject {
                kind: small,
                name: name.clone(),
            })
        };
    };
    match data.get(key) {
        Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        None if optional => Ok(None),
        None => Err(EnvError::NoKey {
            key: key.clone(),
            kind,
            namespace: namespace.to_owned(),
            name: name.clone(),
        }),
    }
}

/// Returns the value of a field of a pod that variables and downwardAPI volumes may refer to.
pub fn field_value(pod: &Pod, path: &str, sources: &Sources) -> Option<String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let keyed = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix("']").map(str::to_owned);
    if let Some(key) = keyed("metadata.labels['") {
        return Some(
            meta.labels
                .as_ref()
                .and_then(|labels| labels.get(&key))
                .cloned()
                .unwrap_or_default(),
        );
    }
    if let Some(key) = keyed("metadata.annotations['") {
        return Some(
            meta.annotations
                .as_ref()
                .and_then(|annotations| annotations.get(&key))
                .cloned()
                .unwrap_or_default(),
        );
    }
    let text = |value: Option<&String>| Some(value.cloned().unwrap_or_default());
    match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => Some(pairs(meta.labels.as_ref())),
        "metadata.annotations" => Some(pairs(meta.annotations.as_ref())),
        "spec.nodeName" => text(spec.and_then(|spec| spec.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "status.podIP" => text(sources.pod_ips.first()),
        "status.podIPs" => Some(sources.pod_ips.join(",")),
        "status.hostIP" => text(sources.host_ips.first()),
        "status.hostIPs" => Some(sources.host_ips.join(",")),
        _ => None,
    }
}

fn pairs(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", go_quote(value)))
        .collect();
    lines.join("\n")
}

/// Quotes as Go's `%q` does, which is what Kubernetes writes into downwardAPI files.
fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Returns a container's request or limit in units of the divisor, rounded up; where there is no limit, what the node has.
pub fn resource_value(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    sources: &Sources,
) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .find(|container| container.name == name)?,
        None => own?,
    };
    let (which, name) = selector.resource.split_once('.')?;
    let node = match name {
        "cpu" => sources.node_cpu_millis,
        "memory" => i128::from(sources.node_memory) * 1000,
        "ephemeral-storage" => i128::from(sources.node_storage) * 1000,
        _ => return None,
    };
    let resources = container.resources.as_ref();
    let value = match which {
        "limits" => resources::limit(resources, name)
            .filter(|value| *value > 0)
            .unwrap_or(node),
        "requests" => resources::request(resources, name).unwrap_or(0),
        _ => return None,
    };
    let divisor = match &selector.divisor {
        Some(divisor) if divisor.0 != "0" && !divisor.0.is_empty() => resources::millis(&divisor.0)?,
        _ => 1000,
    };
    (divisor > 0).then(|| ((value + divisor - 1) / divisor).to_string())
}

/// Replaces `$(NAME)` where the name is known; `$$` is a dollar sign, everything else stays as it is.
pub fn expand<'a>(text: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(next) = after.strip_prefix('$') {
            out.push('$');
            rest = next;
        } else if let Some((name, next)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&rest[at..at + name.len() + 3]),
            }
            rest = next;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Expands a list of words by a list of variables.
pub fn expand_all(words: Option<&Vec<String>>, variables: &[(String, String)]) -> Option<Vec<String>> {
    let lookup = |name: &str| {
        variables
            .iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    let words = words.filter(|words| !words.is_empty())?;
    Some(words.iter().map(|word| expand(word, lookup)).collect())
}

/// Makes the variables that tell a pod of services, as Docker links did: of its own namespace if it wants them, and of the API always.
pub fn service_variables(services: &[Service], namespace: &str, links: bool) -> Vec<(String, String)> {
    let mut out = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let home = service.metadata.namespace.as_deref().unwrap_or_default();
        let is_api = home == "default" && name == "kubernetes";
        if !(is_api || links && home == namespace) {
            continue;
        }
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else {
            continue;
        };
        let prefix = name.to_uppercase().replace('-', "_");
        let ports = spec.ports.as_deref().unwrap_or_default();
        let Some(first) = ports.first() else { continue };
        out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
        out.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
        for port in ports {
            if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                let key = format!("{prefix}_SERVICE_PORT_{}", port_name.to_uppercase().replace('-', "_"));
                out.insert(key, port.port.to_string());
            }
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let lower = protocol.to_lowercase();
            let url = format!("{lower}://{}:{}", bracketed(ip), port.port);
            let stem = format!("{prefix}_PORT_{}_{protocol}", port.port);
            if std::ptr::eq(port, first) {
                out.insert(format!("{prefix}_PORT"), url.clone());
            }
            out.insert(format!("{stem}_PROTO"), lower);
            out.insert(format!("{stem}_PORT"), port.port.to_string());
            out.insert(format!("{stem}_ADDR"), ip.to_owned());
            out.insert(stem, url);
        }
    }
    out.into_iter().collect()
}

fn bracketed(ip: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    }
}

#[cfg(test)]
mod tests;
