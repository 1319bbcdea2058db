//! What a container finally runs with: its spec over its image's configuration.

use std::path::{Component, Path, PathBuf};

use crate::error::{RuntimeError, StartStage};
use crate::images::Image;
use crate::init;
use crate::protocol::ContainerRequest;
use crate::spec::{ContainerSpec, SandboxSpec};

/// How many volumes an image may declare.
const MOST_VOLUMES: usize = 128;

/// Merges a spec with its image.
pub(super) fn resolve(
    sandbox: &SandboxSpec,
    spec: ContainerSpec,
    image: &Image,
) -> Result<ContainerRequest, RuntimeError> {
    let refused = |message: String| RuntimeError::Start {
        stage: StartStage::Config,
        message,
        code: 128,
    };
    if !is_name(&spec.name) {
        return Err(RuntimeError::Invalid(format!(
            "{:?} cannot be a container's name",
            spec.name
        )));
    }
    let config = &image.config;
    let user = config.user.clone().unwrap_or_default();
    init::check_non_root(sandbox, &spec.name, &user, &spec.security).map_err(refused)?;
    let allowed = init::allowed(&spec.security).map_err(|name| refused(format!("unknown capability {name:?}")))?;
    init::check_seccomp(&spec.security, allowed).map_err(refused)?;

    let (mut args, image_args) = match &spec.command {
        Some(command) => (command.clone(), &[][..]),
        None => (config.entrypoint.clone(), config.cmd.as_slice()),
    };
    args.extend_from_slice(spec.args.as_deref().unwrap_or(image_args));
    if args.is_empty() {
        let message = "no command specified".to_owned();
        return Err(RuntimeError::Start {
            stage: StartStage::Create,
            message,
            code: 128,
        });
    }

    let mut env: Vec<(String, String)> = vec![("PATH".to_owned(), init::DEFAULT_PATH.to_owned())];
    if !sandbox.hostname.is_empty() {
        env.push(("HOSTNAME".to_owned(), sandbox.hostname.clone()));
    }
    let from_image = config.env.iter().map(|text| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    });
    for (name, value) in from_image.chain(spec.env.iter().cloned()) {
        match env.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => env.push((name, value)),
        }
    }
    let cwd = [spec.working_dir.as_ref(), config.working_dir.as_ref()];
    let cwd = cwd
        .into_iter()
        .flatten()
        .find(|cwd| !cwd.is_empty())
        .map_or("/", String::as_str)
        .to_owned();
    let stop_signal = match spec.stop_signal.as_ref().or(config.stop_signal.as_ref()) {
        Some(name) if !name.is_empty() => {
            signal_number(name).ok_or_else(|| refused(format!("the stop signal {name:?} is unknown")))?
        }
        _ => libc::SIGTERM,
    };
    let volumes = volumes(&config.volumes, &spec).map_err(refused)?;
    Ok(ContainerRequest {
        volumes,
        args,
        env,
        cwd,
        user,
        stop_signal,
        layers: image.layers.clone(),
        fault: crate::fault::Fault::armed(),
        spec,
    })
}

/// Returns the volumes of an image that nothing is mounted on.
fn volumes(declared: &[String], spec: &ContainerSpec) -> Result<Vec<PathBuf>, String> {
    if declared.len() > MOST_VOLUMES {
        return Err(format!("the image declares more than {MOST_VOLUMES} volumes"));
    }
    let mounted: Vec<PathBuf> = spec.mounts.iter().map(|mount| clean(&mount.target)).collect();
    let mut volumes: Vec<PathBuf> = declared.iter().map(|path| clean(Path::new(path))).collect();
    volumes.sort();
    volumes.dedup();
    volumes.retain(|path| !mounted.contains(path));
    Ok(volumes)
}

/// Makes a path absolute and short, by its text alone, as containerd compares them.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Whether a text can be part of paths and cgroups' names.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !text.is_empty() && text.len() <= 128 && text.bytes().all(allowed) && text.as_bytes()[0].is_ascii_alphanumeric()
}

/// Reads `15`, `TERM`, `SIGTERM`, `SIGRTMIN+3`, and Kubernetes' `SIGRTMINPLUS3`.
fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let plain = name.replace("PLUS", "+").replace("MINUS", "-");
    let name = plain.as_str();
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let offset: i32 = if rest.is_empty() {
            0
        } else {
            rest.strip_prefix('+')?.parse().ok()?
        };
        return (0..=30).contains(&offset).then(|| libc::SIGRTMIN() + offset);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        let offset: i32 = if rest.is_empty() {
            0
        } else {
            rest.strip_prefix('-')?.parse().ok()?
        };
        return (0..=30).contains(&offset).then(|| libc::SIGRTMAX() - offset);
    }
    format!("SIG{name}")
        .parse::<nix::sys::signal::Signal>()
        .ok()
        .map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::ImageConfig;

    fn image() -> Image {
        Image {
            id: "sha256:0".to_owned(),
            digest: "sha256:1".to_owned(),
            config: ImageConfig {
                entrypoint: vec!["/entry".to_owned()],
                cmd: vec!["serve".to_owned()],
                env: vec!["A=image".to_owned(), "B=image".to_owned()],
                working_dir: Some("/app".to_owned()),
                user: None,
                stop_signal: Some("SIGQUIT".to_owned()),
                ..ImageConfig::default()
            },
            ..Image::default()
        }
    }

    fn spec() -> ContainerSpec {
        ContainerSpec {
            name: "app".to_owned(),
            ..ContainerSpec::default()
        }
    }

    #[test]
    fn the_image_says_what_the_spec_does_not() {
        let request = resolve(&SandboxSpec::default(), spec(), &image()).unwrap();
        assert_eq!(request.args, ["/entry", "serve"]);
        assert_eq!((request.cwd.as_str(), request.stop_signal), ("/app", libc::SIGQUIT));
    }

    #[test]
    fn volumes_of_the_image_are_those_that_nothing_is_mounted_on() {
        let mut image = image();
        let paths = ["/data/", "cache", "/var/../srv", "/srv", "/taken", "/a/b"];
        image.config.volumes = paths.map(str::to_owned).to_vec();
        let mut spec = spec();
        for target in ["/taken/", "/a"] {
            spec.mounts.push(crate::spec::Mount {
                target: target.into(),
                source: crate::spec::MountSource::Tmpfs { size: None },
                read_only: false,
            });
        }
        let request = resolve(&SandboxSpec::default(), spec.clone(), &image).unwrap();
        let expected: Vec<PathBuf> = ["/a/b", "/cache", "/data", "/srv"].map(PathBuf::from).to_vec();
        assert_eq!(request.volumes, expected);
        image.config.volumes = (0..200).map(|at| format!("/{at}")).collect();
        assert!(resolve(&SandboxSpec::default(), spec, &image).is_err());
    }

    #[test]
    fn a_command_replaces_the_images_arguments_too() {
        let spec = ContainerSpec {
            command: Some(vec!["sh".to_owned()]),
            ..spec()
        };
        assert_eq!(resolve(&SandboxSpec::default(), spec, &image()).unwrap().args, ["sh"]);
    }

    #[test]
    fn arguments_go_to_the_images_entrypoint() {
        let spec = ContainerSpec {
            args: Some(vec!["help".to_owned()]),
            ..spec()
        };
        assert_eq!(
            resolve(&SandboxSpec::default(), spec, &image()).unwrap().args,
            ["/entry", "help"]
        );
    }

    #[test]
    fn variables_of_the_spec_win() {
        let spec = ContainerSpec {
            env: vec![("A".to_owned(), "spec".to_owned())],
            ..spec()
        };
        let request = resolve(&SandboxSpec::default(), spec, &image()).unwrap();
        let get = |name: &str| request.env.iter().find(|(known, _)| known == name).unwrap().1.clone();
        assert_eq!((get("A"), get("B")), ("spec".to_owned(), "image".to_owned()));
        assert!(get("PATH").contains("/bin"));
    }

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for name in ["", "..", "a/b", ".hidden", "_shims"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name("0b2c-web.1"));
    }

    #[test]
    fn stop_signals_are_read_in_all_spellings() {
        assert_eq!(signal_number("9"), Some(9));
        assert_eq!(signal_number("term"), Some(15));
        assert_eq!(signal_number("SIGRTMIN+3"), Some(libc::SIGRTMIN() + 3));
        assert_eq!(signal_number("SIGNOTHING"), None);
    }
}
