//! What the runtime is asked for: a pod's sandbox, its files and its containers, made from the object and what the API says at the moment.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Container as ContainerDef, Pod};
use setpoint_net::AddressPair;
use setpoint_runtime::spec::{ContainerSpec, ContainerState, LogLimits, Resources, SandboxSpec, Seccomp};
use tokio::io::AsyncReadExt;

use super::Shared;
use super::operations::StartFailure;
use crate::containers::{ReadyImage, RuntimeFailure, chain};
use crate::env::files;
use crate::events::Severity;
use crate::sources::{self, References};
use crate::streams::LogRequest;
use crate::{env, pod_files, resources, security, sysctls, volumes};

/// How large a seccomp profile may be, in bytes.
const PROFILE_LIMIT: u64 = 1 << 20;
/// How much of a container's last words is kept.
const LAST_WORDS: usize = 4096;
/// How much of a log stands in for missing last words.
const LAST_LOG: usize = 2048;
/// How long reading them may take: a status of the pod waits for it.
const WORDS_LIMIT: Duration = Duration::from_secs(10);

fn texts(addresses: AddressPair) -> Vec<String> {
    addresses.all().map(|ip| ip.to_string()).collect()
}

pub(super) fn node_sources(shared: &Shared) -> env::Sources {
    let capacity = shared.allocations.capacity();
    env::Sources {
        host_ips: texts(shared.node_ip),
        node_cpu_millis: capacity.cpu_millis,
        node_memory: u64::try_from(capacity.memory).unwrap_or(0),
        node_storage: shared.allocations.storage(),
        ..env::Sources::default()
    }
}

pub(super) fn sandbox_spec(
    shared: &Shared,
    pod: &Pod,
    uid: &str,
    addresses: Option<AddressPair>,
) -> Result<SandboxSpec, RuntimeFailure> {
    let spec = pod.spec.clone().unwrap_or_default();
    let sysctls = spec
        .security_context
        .iter()
        .flat_map(|security| security.sysctls.iter().flatten());
    let name = pod.metadata.name.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let hostname = pod_files::sandbox_hostname(pod, &shared.cluster_domain).map_err(RuntimeFailure::new)?;
    Ok(SandboxSpec {
        id: uid.to_owned(),
        labels: [
            ("namespace".to_owned(), namespace.clone()),
            ("name".to_owned(), name.clone()),
        ]
        .into(),
        namespace,
        name,
        // A pod on the host's network has the host's name, too.
        hostname: if spec.host_network == Some(true) {
            String::new()
        } else {
            hostname
        },
        ip: addresses.map(|addresses| addresses.ipv4),
        ipv6: addresses.and_then(|addresses| addresses.ipv6),
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        share_process_namespace: spec.share_process_namespace == Some(true),
        sysctls: sysctls
            .map(|sysctl| (sysctls::with_dots(&sysctl.name), sysctl.value.clone()))
            .collect(),
        resources: Resources {
            pids_limit: shared.pods.pids_limit,
            ..resources::of_pod(&spec)
        },
    })
}

/// Writes hosts, hostname and resolv.conf. Blocking.
pub(super) fn write_pod_files(
    shared: &Shared,
    pod: &Pod,
    uid: &str,
    addresses: Option<AddressPair>,
    on_host: bool,
) -> io::Result<()> {
    // On the host's network only a missing file is taken for an empty one, as a host may have none.
    let host_file = |path: &str| match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        result => result,
    };
    let hosts = if on_host {
        format!("{}{}", host_file("/etc/hosts")?, pod_files::host_aliases(pod))
    } else {
        pod_files::hosts(pod, addresses, &shared.cluster_domain)
    };
    let host_resolv = match host_file("/etc/resolv.conf")? {
        text if on_host => text,
        text => pod_files::host_servers_for_pods(&text, shared.dns),
    };
    let (resolv, omitted) = pod_files::resolv_conf(pod, &host_resolv, shared.dns, &shared.cluster_domain);
    for said in omitted {
        shared
            .events
            .note(pod, None, Severity::Warning, "DNSConfigForming", said);
    }
    let hostname = if on_host {
        host_file("/proc/sys/kernel/hostname")?
    } else {
        format!("{}\n", pod_files::hostname(pod))
    };
    for (name, text) in [("hosts", hosts), ("resolv.conf", resolv), ("hostname", hostname)] {
        let path = shared.places.file(uid, name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

pub(super) async fn container_spec(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    uid: &str,
    definition: &ContainerDef,
    attempt: u32,
    image: ReadyImage,
    addresses: AddressPair,
) -> Result<ContainerSpec, StartFailure> {
    let config = |message: String| StartFailure::Config("CreateContainerConfigError", message);
    let spec = pod.spec.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let mut security = security::of(&spec, definition, shared.pods.seccomp_default);
    if let Some(profile) = security::localhost_profile(&spec, definition).filter(|_| !security.privileged) {
        let text = seccomp_profile(&shared.seccomp.join(profile)).await;
        security.seccomp = text
            .map(Seccomp::Profile)
            .map_err(|message| StartFailure::Config("CreateContainerError", message))?;
    }
    if let Some(refused) = security::refuses_root(&security, image.user.as_deref()) {
        return Err(config(refused));
    }
    let mut sources = env::Sources {
        pod_ips: texts(addresses),
        ..node_sources(shared)
    };
    let references = References::of_env(definition);
    let links = spec.enable_service_links.unwrap_or(true);
    sources::read(&shared.client, &namespace, &references, &mut sources)
        .await
        .map_err(|error| config(error.to_string()))?;
    sources.services = sources::read_services(&shared.client, &namespace, links)
        .await
        .map_err(|error| config(error.to_string()))?;
    sources.files = env_files(shared, pod, uid, definition).await.map_err(config)?;
    let mut variables = env::build(pod, definition, &sources).map_err(|error| config(error.to_string()))?;
    let named = |name: &str| variables.iter().any(|(known, _)| known == name);
    if !named("HOSTNAME") {
        let name = if spec.host_network == Some(true) {
            let read = tokio::fs::read_to_string("/proc/sys/kernel/hostname").await;
            let own = read.map_err(|error| config(format!("cannot read the host's name: {error}")))?;
            own.trim().to_owned()
        } else {
            pod_files::hostname(pod)
        };
        variables.insert(0, ("HOSTNAME".to_owned(), name));
    }
    let termination = shared.places.termination_log(uid, &definition.name, attempt);
    let mounts = {
        let (shared, pod, definition, variables) = (shared.clone(), pod.clone(), definition.clone(), variables.clone());
        let termination = termination.clone();
        tokio::task::spawn_blocking(move || {
            make_termination_log(&termination)
                .map_err(|error| format!("cannot create {}: {error}", termination.display()))?;
            volumes::container_mounts(&shared.places, &pod, &definition, &variables, &termination)
                .map_err(|error| chain(&error))
        })
    };
    let mounts = match mounts.await {
        Ok(result) => result.map_err(config)?,
        Err(error) => return Err(config(format!("preparing the mounts broke off: {error}"))),
    };
    let memory = shared.facts.memory;
    Ok(ContainerSpec {
        name: definition.name.clone(),
        attempt,
        image: image.id,
        command: env::expand_all(definition.command.as_ref(), &variables),
        args: env::expand_all(definition.args.as_ref(), &variables),
        env: variables,
        stop_signal: definition
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.stop_signal.clone()),
        working_dir: definition.working_dir.clone().filter(|dir| !dir.is_empty()),
        mounts,
        security,
        resources: resources::of_container(definition),
        oom_score_adj: resources::oom_score_adj(&spec, definition, memory),
        stdin: definition.stdin == Some(true),
        stdin_once: definition.stdin == Some(true) && definition.stdin_once == Some(true),
        tty: definition.tty == Some(true),
        target: None,
        log: LogLimits {
            size: shared.pods.log_max_size,
            files: shared.pods.log_max_files,
        },
    })
}

/// Reads the files that a container's variables refer to.
async fn env_files(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    uid: &str,
    definition: &ContainerDef,
) -> Result<BTreeMap<files::Place, files::Text>, String> {
    let referred = files::referred(definition);
    if referred.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (shared, pod, uid) = (shared.clone(), pod.clone(), uid.to_owned());
    let read = move |place: files::Place| {
        let text = files::read(&pod, &place, |volume| shared.places.volume(&uid, volume));
        (place, text)
    };
    let reading = tokio::task::spawn_blocking(move || referred.into_iter().map(read).collect());
    reading
        .await
        .map_err(|error| format!("reading the files of variables broke off: {error}"))
}

/// Reads a seccomp profile; the error is fit for an event.
async fn seccomp_profile(path: &Path) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot load seccomp profile {:?}: {error}", path.display());
    let read = async {
        let file = tokio::fs::File::open(path).await?;
        let mut text = String::new();
        file.take(PROFILE_LIMIT + 1).read_to_string(&mut text).await?;
        io::Result::Ok(text)
    };
    match tokio::time::timeout(Duration::from_secs(5), read).await {
        Ok(Ok(text)) if text.len() as u64 > PROFILE_LIMIT => Err(failed(&"it is larger than 1 MiB")),
        Ok(result) => result.map_err(|error| failed(&error)),
        Err(_) => Err(failed(&"it could not be read within 5 s")),
    }
}

fn make_termination_log(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, b"")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}

/// Returns what a container that ended left as its last words: its termination log, or the end of its log where it asks for that.
pub(super) async fn last_words(
    shared: &Shared,
    uid: &str,
    definition: &ContainerDef,
    state: &ContainerState,
) -> String {
    let path = shared.places.termination_log(uid, &definition.name, state.attempt);
    let read = async {
        let mut bytes = Vec::new();
        let file = tokio::fs::File::open(&path).await?;
        file.take(LAST_WORDS as u64).read_to_end(&mut bytes).await?;
        io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let said = match tokio::time::timeout(WORDS_LIMIT, read).await {
        Ok(Ok(said)) => said,
        // Removed with its pod's folder: no last words are no fault.
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Ok(Err(error)) => unheard(uid, state, &error.to_string()),
        Err(_) => unheard(uid, state, "the disk did not answer in time"),
    };
    let failed = state.exit.as_ref().is_some_and(|exit| exit.code != 0);
    if !said.is_empty() || !failed || definition.termination_message_policy.as_deref() != Some("FallbackToLogsOnError")
    {
        return said;
    }
    let request = LogRequest {
        tail_lines: Some(80),
        ..LogRequest::default()
    };
    let log = async {
        let mut stream = shared
            .containers
            .logs(uid, &definition.name, state.attempt, request)
            .await
            .ok()?;
        let mut all = Vec::new();
        while let Some(Ok(bytes)) = stream.next().await {
            all.extend_from_slice(&bytes);
            all.drain(..all.len().saturating_sub(LAST_LOG));
        }
        Some(String::from_utf8_lossy(&all).into_owned())
    };
    tokio::time::timeout(WORDS_LIMIT, log)
        .await
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Says that last words are lost: the status will show none.
fn unheard(uid: &str, state: &ContainerState, why: &str) -> String {
    tracing::warn!(
        pod = uid,
        container = state.name,
        attempt = state.attempt,
        why,
        "the termination message could not be read; the status shows none"
    );
    String::new()
}
