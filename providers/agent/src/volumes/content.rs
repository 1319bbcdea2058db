//! Volumes made from objects: what files they hold (pure), and writing them in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccountTokenProjection, Volume};

use super::{VolumeError, ownership};
use crate::env::{self, Data, Sources};

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadFile {
    /// Its bytes.
    pub content: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// The files of a volume by relative path.
pub type Payload = BTreeMap<PathBuf, PayloadFile>;

/// Tokens of service accounts by volume and path.
pub type Tokens = BTreeMap<(String, String), String>;

/// Kubernetes' default of `defaultMode`.
const DEFAULT_MODE: i32 = 0o644;

/// Returns the tokens that a pod's volumes need.
pub fn token_requests(pod: &Pod) -> Vec<(String, ServiceAccountTokenProjection)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .flat_map(|volume| {
            let sources = volume
                .projected
                .iter()
                .flat_map(|projected| projected.sources.iter().flatten());
            sources.filter_map(|source| Some((volume.name.clone(), source.service_account_token.clone()?)))
        })
        .collect()
}

/// Returns the files of a volume that is made from objects.
pub fn payload(pod: &Pod, volume: &Volume, sources: &Sources, tokens: &Tokens) -> Result<Payload, VolumeError> {
    let mut maker = Maker {
        pod,
        volume: &volume.name,
        sources,
        payload: Payload::new(),
    };
    if let Some(map) = &volume.config_map {
        let mode = map.default_mode.unwrap_or(DEFAULT_MODE);
        maker.object(
            "configmap",
            &map.name,
            &sources.config_maps,
            map.items.as_deref(),
            mode,
            map.optional,
        )?;
    } else if let Some(secret) = &volume.secret {
        let name = secret.secret_name.clone().unwrap_or_default();
        let mode = secret.default_mode.unwrap_or(DEFAULT_MODE);
        maker.object(
            "secret",
            &name,
            &sources.secrets,
            secret.items.as_deref(),
            mode,
            secret.optional,
        )?;
    } else if let Some(downward) = &volume.downward_api {
        maker.downward(
            downward.items.as_deref().unwrap_or_default(),
            downward.default_mode.unwrap_or(DEFAULT_MODE),
        )?;
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        for source in projected.sources.iter().flatten() {
            if let Some(map) = &source.config_map {
                maker.object(
                    "configmap",
                    &map.name,
                    &sources.config_maps,
                    map.items.as_deref(),
                    mode,
                    map.optional,
                )?;
            } else if let Some(secret) = &source.secret {
                maker.object(
                    "secret",
                    &secret.name,
                    &sources.secrets,
                    secret.items.as_deref(),
                    mode,
                    secret.optional,
                )?;
            } else if let Some(downward) = &source.downward_api {
                maker.downward(downward.items.as_deref().unwrap_or_default(), mode)?;
            } else if let Some(token) = &source.service_account_token {
                let found = tokens.get(&(volume.name.clone(), token.path.clone()));
                let text =
                    found.ok_or_else(|| maker.missing("the service account's token could not be had".to_owned()))?;
                // A token is its reader's only: everyone's bits go, as Kubernetes does when a group or user is set.
                let mode = if group(pod).is_some() { 0o600 } else { mode };
                maker.add(&token.path, text.clone().into_bytes(), mode)?;
            } else {
                return Err(VolumeError::Unsupported {
                    volume: volume.name.clone(),
                });
            }
        }
    } else {
        return Err(VolumeError::Unsupported {
            volume: volume.name.clone(),
        });
    }
    Ok(maker.payload)
}

fn group(pod: &Pod) -> Option<i64> {
    pod.spec.as_ref()?.security_context.as_ref()?.fs_group
}

struct Maker<'a> {
    pod: &'a Pod,
    volume: &'a str,
    sources: &'a Sources,
    payload: Payload,
}

impl Maker<'_> {
    fn missing(&self, message: String) -> VolumeError {
        VolumeError::Missing {
            volume: self.volume.to_owned(),
            message,
        }
    }

    fn add(&mut self, path: &str, content: Vec<u8>, mode: i32) -> Result<(), VolumeError> {
        let relative = Path::new(path);
        let plain = relative
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        if !plain || path.is_empty() || path.starts_with("..") {
            return Err(self.missing(format!(
                "invalid path: {path:?} must be relative and must not leave the volume"
            )));
        }
        let mode = u32::try_from(mode).unwrap_or(0o644) & 0o777;
        self.payload.insert(relative.to_owned(), PayloadFile { content, mode });
        Ok(())
    }

    fn object(
        &mut self,
        kind: &str,
        name: &str,
        objects: &BTreeMap<String, Data>,
        items: Option<&[KeyToPath]>,
        mode: i32,
        optional: Option<bool>,
    ) -> Result<(), VolumeError> {
        let optional = optional == Some(true);
        let Some(data) = objects.get(name) else {
            return if optional {
                Ok(())
            } else {
                Err(self.missing(format!("{kind} \"{name}\" not found")))
            };
        };
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            for (key, value) in data {
                self.add(key, value.clone(), mode)?;
            }
            return Ok(());
        };
        for item in items {
            match data.get(&item.key) {
                Some(value) => self.add(&item.path, value.clone(), item.mode.unwrap_or(mode))?,
                None if optional => {}
                None => {
                    let kind = if kind == "configmap" { "config" } else { kind };
                    return Err(self.missing(format!("references non-existent {kind} key: {}", item.key)));
                }
            }
        }
        Ok(())
    }

    fn downward(&mut self, items: &[DownwardAPIVolumeFile], mode: i32) -> Result<(), VolumeError> {
        for item in items {
            let value = if let Some(field) = &item.field_ref {
                env::field_value(self.pod, &field.field_path, self.sources)
            } else {
                item.resource_field_ref
                    .as_ref()
                    .and_then(|resource| env::resource_value(self.pod, None, resource, self.sources))
            };
            let value =
                value.ok_or_else(|| self.missing(format!("{:?} refers to nothing that is known here", item.path)))?;
            self.add(&item.path, value.into_bytes(), item.mode.unwrap_or(mode))?;
        }
        Ok(())
    }
}

/// Writes a payload into a directory so that it changes from the old to the new content at once; returns whether it changed.
pub fn write(dir: &Path, payload: &Payload, group: Option<u32>, now: Timestamp) -> io::Result<bool> {
    let link = dir.join("..data");
    let old = fs::read_link(&link).ok();
    if let Some(old) = &old
        && holds(&dir.join(old), payload)
    {
        return Ok(false);
    }
    let stamp = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    let mut name = format!("{stamp}.{:09}", now.subsec_nanosecond());
    while dir.join(&name).exists() {
        name.push('0');
    }
    let fresh = dir.join(&name);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (relative, file) in payload {
        let path = fresh.join(relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &file.content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
    }
    if let Some(group) = group {
        ownership::give(&fresh, group, true)?;
    }
    let temporary = dir.join("..data_tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(&name, &temporary)?;
    fs::rename(&temporary, &link)?;
    let tops: BTreeSet<PathBuf> = payload
        .keys()
        .filter_map(|path| path.components().next())
        .map(|top| PathBuf::from(top.as_os_str()))
        .collect();
    for top in &tops {
        let visible = dir.join(top);
        if fs::symlink_metadata(&visible).is_err() {
            symlink(Path::new("..data").join(top), &visible)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let entry_name = PathBuf::from(entry.file_name());
        let stale_link =
            entry.file_type()?.is_symlink() && entry_name != Path::new("..data") && !tops.contains(&entry_name);
        if stale_link {
            fs::remove_file(entry.path())?;
        } else if entry.file_type()?.is_dir() && entry_name != Path::new(&name) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(true)
}

/// Returns whether a directory holds exactly these files.
fn holds(dir: &Path, payload: &Payload) -> bool {
    fn count(dir: &Path) -> io::Result<usize> {
        let mut files = 0;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            files += if entry.file_type()?.is_dir() {
                count(&entry.path())?
            } else {
                1
            };
        }
        Ok(files)
    }
    let same =
        |(path, file): (&PathBuf, &PayloadFile)| fs::read(dir.join(path)).is_ok_and(|content| content == file.content);
    payload.iter().all(same) && count(dir).is_ok_and(|files| files == payload.len())
}
