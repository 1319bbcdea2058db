//! How a node is configured: the file `node.toml` in the instance's data directory (or the one that `setpoint up --node-config` names).
//!
//! Each table is a struct of its own with a default for every field; a name that is not known is an error with its place. To add a setting, add a
//! field with its default here and a row in docs/node-toml.md.

use std::fs;
use std::io;
use std::path::Path;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, de};
use setpoint_runtime::spec::LogLimits;

use crate::resources::millis;

/// The file's name in the data directory.
pub const FILE: &str = "node.toml";

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// What a node is told beside what the API says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `[reserved]`: what pods do not get.
    pub reserved: Reserved,
    /// `[pods]`: bounds of pods.
    pub pods: PodSettings,
    /// `[images]`: when images are removed.
    pub images: ImageSettings,
    /// `[network]`: what pods are reached by.
    pub network: NetworkSettings,
}

/// What pods and services are reached by.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSettings {
    /// Whether they have addresses of IPv6 beside those of IPv4, where the kernel has it.
    pub ipv6: bool,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self { ipv6: true }
    }
}

/// What is kept from pods: for the system and for this program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reserved {
    /// CPU in thousandths of a core; `None` is by the number of cores: see [`Reserved::of`].
    #[serde(deserialize_with = "cpu")]
    pub cpu: Option<u64>,
    /// Memory in bytes; `None` is by the machine's size: see [`Reserved::of`].
    #[serde(deserialize_with = "bytes")]
    pub memory: Option<u64>,
    /// Disk space in bytes.
    #[serde(deserialize_with = "bytes", rename = "ephemeral_storage")]
    pub storage: Option<u64>,
}

/// Bounds of pods.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PodSettings {
    /// How many the node takes.
    pub max: u32,
    /// How many processes a pod may have; `None` for any number, as Kubernetes has it unless told otherwise (`podPidsLimit`).
    #[serde(deserialize_with = "pids")]
    pub pids_limit: Option<u64>,
    /// Kernel parameters that pods may set besides the safe ones: names, or prefixes that end with `*` (`allowedUnsafeSysctls`).
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Whether containers that name no seccomp profile have the runtime's own (`seccompDefault`); else they have none.
    pub seccomp_default: bool,
    /// The size in bytes from which on the file that a container's log is written to is put aside (`containerLogMaxSize`).
    #[serde(deserialize_with = "log_size")]
    pub log_max_size: u64,
    /// How many files a container's log has at most, the one that is written included (`containerLogMaxFiles`).
    #[serde(deserialize_with = "log_files")]
    pub log_max_files: u32,
}

/// The least size of a log's file: less would be moved about more than written, in bytes.
const LEAST_LOG: u64 = 1 << 10;

/// How many files a log may have: all of them are moved whenever one is put aside.
const MOST_LOG_FILES: u32 = 1000;

/// How many processes a pod may have unless told otherwise: enough for any honest program, and too few to take the machine's.
const PIDS_LIMIT: u64 = 16_384;

impl Default for PodSettings {
    fn default() -> Self {
        Self {
            max: 110,
            pids_limit: Some(PIDS_LIMIT),
            allowed_unsafe_sysctls: Vec::new(),
            seccomp_default: true,
            log_max_size: LogLimits::default().size,
            log_max_files: LogLimits::default().files,
        }
    }
}

/// When images that nothing uses are removed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageSettings {
    /// The share of the disk in percent from which on they are; 100 is never (`imageGCHighThresholdPercent`).
    pub gc_high: u8,
    /// The share that is aimed at then (`imageGCLowThresholdPercent`).
    pub gc_low: u8,
    /// How long an image stays at least (`imageMinimumGCAge`).
    #[serde(deserialize_with = "duration")]
    pub gc_min_age: SignedDuration,
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self {
            gc_high: 85,
            gc_low: 80,
            gc_min_age: SignedDuration::from_mins(2),
        }
    }
}

impl Reserved {
    /// Returns what is kept of a machine with so many thousandths of cores and bytes of memory and disk.
    ///
    /// Unless told otherwise: 5 % of a core and 1 % of each further one; of the memory 100 MiB, as the kubelet's eviction threshold, and 5 % for
    /// the system and this program (at most 1 GiB); of the disk 10 %, as the kubelet's threshold. Never more than half of what there is.
    pub fn of(&self, cpu: u64, memory: u64, storage: u64) -> (u64, u64, u64) {
        let cores = cpu / 1000;
        (
            self.cpu.unwrap_or(50 + cores.saturating_sub(1) * 10).min(cpu / 2),
            self.memory
                .unwrap_or((100 << 20) + (memory / 20).min(1 << 30))
                .min(memory / 2),
            self.storage.unwrap_or(storage / 10).min(storage / 2),
        )
    }
}

/// Why a file of settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It says something that is not understood.
    #[error("{path} is not right; docs/node-toml.md says what it may say")]
    Parse {
        /// The file.
        path: String,
        /// What and where.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The thresholds of images do not fit each other.
    #[error("{path}: images.gc_low ({low}) has to be less than images.gc_high ({high}), and that at most 100")]
    Thresholds {
        /// The file.
        path: String,
        /// `gc_low`.
        low: u8,
        /// `gc_high`.
        high: u8,
    },
}

impl Settings {
    /// Reads a file; one that is not there gives the defaults.
    ///
    /// # Errors
    /// One that cannot be read, is larger than 1 MiB, or says what is not understood.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let failed = |source| SettingsError::Read {
            path: path.display().to_string(),
            source,
        };
        let text = match fs::metadata(path) {
            Ok(found) if found.len() > LARGEST => {
                return Err(failed(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    "it is larger than 1 MiB",
                )));
            }
            Ok(_) => fs::read_to_string(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
        };
        let settings: Settings = toml::from_str(&text).map_err(|source| SettingsError::Parse {
            path: path.display().to_string(),
            source: Box::new(source),
        })?;
        let ImageSettings { gc_high, gc_low, .. } = settings.images;
        if gc_high > 100 || gc_low >= gc_high {
            return Err(SettingsError::Thresholds {
                path: path.display().to_string(),
                low: gc_low,
                high: gc_high,
            });
        }
        Ok(settings)
    }
}

/// Reads a quantity such as `100m` or `0.5`, in thousandths.
fn cpu<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let amount = millis(&text).and_then(|amount| u64::try_from(amount).ok());
    match amount {
        Some(amount) => Ok(Some(amount)),
        None => Err(de::Error::custom(format!(
            "{text:?} is no amount of CPU such as \"100m\""
        ))),
    }
}

/// Reads a number of processes; -1 is any number.
fn pids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match i64::deserialize(deserializer)? {
        -1 => Ok(None),
        number => match u64::try_from(number) {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(de::Error::custom(format!(
                "{number} is no number of processes; -1 is any number"
            ))),
        },
    }
}

/// Reads the size of a log's file, such as `10Mi`, in bytes.
fn log_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = bytes(deserializer)?;
    size.filter(|size| *size >= LEAST_LOG)
        .ok_or_else(|| de::Error::custom("a log's file takes at least 1Ki"))
}

/// Reads how many files a log has.
fn log_files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let files = i64::deserialize(deserializer)?;
    u32::try_from(files)
        .ok()
        .filter(|files| (2..=MOST_LOG_FILES).contains(files))
        .ok_or_else(|| de::Error::custom(format!("{files} is not from 2 to {MOST_LOG_FILES}, the files of a log")))
}

/// Reads a quantity such as `256Mi`, in bytes.
fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let amount = millis(&text).and_then(|amount| u64::try_from(amount / 1000).ok());
    match amount {
        Some(amount) => Ok(Some(amount)),
        None => Err(de::Error::custom(format!(
            "{text:?} is no amount of bytes such as \"256Mi\""
        ))),
    }
}

/// Reads a length of time such as `90s`, `2m` or `1h30m`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SignedDuration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let length: Option<SignedDuration> = text.parse().ok();
    match length.filter(|length| !length.is_negative()) {
        Some(length) => Ok(length),
        None => Err(de::Error::custom(format!(
            "{text:?} is no length of time such as \"2m\""
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_has_its_default() {
        let settings: Settings = toml::from_str("[reserved]\nmemory = \"1Gi\"\n").expect("settings");
        assert_eq!(settings.reserved.memory, Some(1 << 30));
        assert_eq!(settings.pods, PodSettings::default());
        let settings: Settings = toml::from_str("[pods]\nseccomp_default = false\n").expect("settings");
        assert!(!settings.pods.seccomp_default && PodSettings::default().seccomp_default);
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(
            Settings::read(&folder.path().join(FILE)).expect("none"),
            Settings::default()
        );
    }

    #[test]
    fn what_is_not_known_is_an_error_with_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        for (text, said) in [
            ("[reserved]\nmemroy = \"1Gi\"\n", "memroy"),
            ("[reserved]\nmemory = \"much\"\n", "\"much\" is no amount of bytes"),
            ("[reserved]\ncpu = \"-1\"\n", "\"-1\" is no amount of CPU"),
            ("[pods]\nmax = -1\n", "line 2"),
            ("[pods]\nseccomp_default = \"no\"\n", "line 2"),
            ("[pods]\npids_limit = 0\n", "0 is no number of processes"),
            ("[pods]\nlog_max_size = \"100\"\n", "a log's file takes at least 1Ki"),
            ("[pods]\nlog_max_files = 1\n", "1 is not from 2 to 1000"),
            ("[images]\ngc_min_age = \"soon\"\n", "\"soon\" is no length of time"),
            (
                "[images]\ngc_low = 90\n",
                "images.gc_low (90) has to be less than images.gc_high (85)",
            ),
        ] {
            fs::write(&path, text).expect("written");
            let error = Settings::read(&path).expect_err(text);
            let said_all = crate::containers::chain(&error);
            assert!(said_all.contains(said) && said_all.contains("node.toml"), "{said_all}");
        }
    }

    #[test]
    fn pods_keep_at_least_half_of_a_small_machine() {
        let reserved = Reserved::default();
        assert_eq!(reserved.of(2000, 4 << 30, 0), (60, (100 << 20) + (4 << 30) / 20, 0));
        assert_eq!(reserved.of(1000, 128 << 20, 10), (50, 64 << 20, 1));
        assert_eq!(reserved.of(64_000, 256 << 30, 0).1, (100 << 20) + (1 << 30));
    }
}
