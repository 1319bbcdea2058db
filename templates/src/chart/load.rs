//! Files to charts.

use std::collections::BTreeMap;
use std::io::Read as _;

use serde_json::{Map, Value};

use super::coalesce::merge_maps;
use super::files::FileSource;
use super::ignore::Rules;
use super::metadata::Metadata;
use crate::yaml;
use crate::yaml::node::YamlError;

/// How deep charts may lie within charts.
const DEPTH_LIMIT: usize = 20;
/// What the archives of a chart may grow to, in bytes, those within archives included.
const ARCHIVE_LIMIT: u64 = 100 << 20;

/// Why a chart cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// The files cannot be read.
    #[error("cannot read the chart's files")]
    Read(#[source] std::io::Error),
    /// The chart is wrong; the words are Helm's.
    #[error("{0}")]
    Invalid(String),
}

/// A chart with its dependencies.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// What it says about itself.
    pub metadata: Metadata,
    /// Its default values, in which every number is a `float64` as in Go.
    pub values: Map<String, Value>,
    /// The same with integers as they are written.
    pub exact_values: Map<String, Value>,
    /// The schema of its values, if it has one.
    pub schema: Option<Vec<u8>>,
    /// The files under `templates/`, by path.
    pub templates: BTreeMap<String, Vec<u8>>,
    /// The other files, by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The charts that it carries.
    pub dependencies: Vec<Self>,
}

impl Chart {
    /// Loads a chart and those that it carries.
    ///
    /// # Errors
    /// Files that cannot be read and charts that are wrong.
    pub fn load(source: &dyn FileSource) -> Result<Self, ChartError> {
        let mut files = source.files().map_err(ChartError::Read)?;
        let ignore = files
            .get(".helmignore")
            .map(|data| String::from_utf8_lossy(data).into_owned());
        let rules = Rules::parse(&ignore.unwrap_or_default()).map_err(ChartError::Invalid)?;
        files.retain(|path, _| !rules.ignores(path));
        let mut left = ARCHIVE_LIMIT;
        Self::from_files(files, 0, &mut left).map_err(ChartError::Invalid)
    }

    /// Loads a packed chart.
    ///
    /// # Errors
    /// Archives that are broken or too large, and charts that are wrong.
    pub fn load_archive(data: &[u8]) -> Result<Self, ChartError> {
        let mut left = ARCHIVE_LIMIT;
        archive(data, &mut left)
            .and_then(|files| Self::from_files(files, 0, &mut left))
            .map_err(ChartError::Invalid)
    }

    fn from_files(files: BTreeMap<String, Vec<u8>>, depth: usize, left: &mut u64) -> Result<Self, String> {
        if depth > DEPTH_LIMIT {
            return Err("charts lie too deep within charts".to_owned());
        }
        let mut chart = Self::default();
        let text =
            |data: &[u8]| String::from_utf8_lossy(data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data)).into_owned();
        let Some(data) = files.get("Chart.yaml") else {
            return Err("Chart.yaml file is missing".to_owned());
        };
        yaml::read_map(&text(data))
            .and_then(|map| chart.metadata.read(&map))
            .map_err(|words| format!("cannot load Chart.yaml: {words}"))?;
        if chart.metadata.api_version.is_empty() {
            "v1".clone_into(&mut chart.metadata.api_version);
        }
        let mut carried: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
        for (path, data) in files {
            match path.as_str() {
                "Chart.yaml" | "Chart.lock" => {}
                "values.yaml" => {
                    let text = text(&data);
                    chart.values = read_values(&text).map_err(|words| format!("cannot load values.yaml: {words}"))?;
                    chart.exact_values = exact_values(&text).unwrap_or_else(|_| chart.values.clone());
                }
                "values.schema.json" => chart.schema = Some(data),
                "requirements.yaml" => {
                    yaml::read_map(&text(&data))
                        .and_then(|map| chart.metadata.read(&map))
                        .map_err(|words| format!("cannot load requirements.yaml: {words}"))?;
                    if chart.metadata.api_version == "v1" {
                        chart.files.insert(path, data);
                    }
                }
                "requirements.lock" => {
                    if chart.metadata.api_version == "v1" {
                        chart.files.insert(path, data);
                    }
                }
                _ if path.starts_with("templates/") => {
                    chart.templates.insert(path, data);
                }
                _ if path.starts_with("charts/") && !path.ends_with(".prov") => {
                    let inner = path["charts/".len()..].to_owned();
                    let name = inner.split('/').next().unwrap_or_default().to_owned();
                    carried.entry(name).or_default().insert(inner, data);
                }
                _ => {
                    chart.files.insert(path, data);
                }
            }
        }
        chart.validate()?;
        for (name, files) in carried {
            if name.starts_with(['_', '.']) {
                continue;
            }
            let inner = if name.ends_with(".tgz") {
                match files.get(&name) {
                    Some(data) => archive(data, left),
                    None => continue,
                }
            } else {
                let prefix = format!("{name}/");
                let files: BTreeMap<_, _> = files
                    .into_iter()
                    .filter_map(|(path, data)| Some((path.strip_prefix(&prefix)?.to_owned(), data)))
                    .collect();
                Ok(files)
            };
            let inner = inner
                .and_then(|files| Self::from_files(files, depth + 1, left))
                .map_err(|words| format!("error unpacking subchart {name} in {}: {words}", chart.metadata.name))?;
            chart.dependencies.push(inner);
        }
        Ok(chart)
    }

    fn validate(&self) -> Result<(), String> {
        let metadata = &self.metadata;
        let missing = |what: &str| Err(format!("validation: chart.metadata.{what} is required"));
        if metadata.name.is_empty() {
            return missing("name");
        }
        if metadata.version.is_empty() {
            return missing("version");
        }
        if crate::functions::Version::parse(&metadata.version).is_err() {
            return Err(format!(
                "validation: chart.metadata.version {} is invalid",
                crate::value::go_quote(metadata.version.as_bytes())
            ));
        }
        if !matches!(metadata.kind.as_str(), "" | "application" | "library") {
            return Err("validation: chart.metadata.type must be application or library".to_owned());
        }
        Ok(())
    }

    /// Lets the default values be as they are written, in all that it carries too.
    #[must_use]
    pub(crate) fn with_exact_values(mut self) -> Self {
        self.values = std::mem::take(&mut self.exact_values);
        self.dependencies = self.dependencies.into_iter().map(Self::with_exact_values).collect();
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// The definitions under `crds/` of it and of what it carries, each with its path.
    pub fn definitions(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        self.add_definitions(self.name(), &mut found);
        found
    }

    fn add_definitions(&self, path: &str, found: &mut Vec<(String, String)>) {
        for (name, data) in &self.files {
            let lower = name.to_ascii_lowercase();
            if name.starts_with("crds/") && [".yaml", ".yml", ".json"].iter().any(|end| lower.ends_with(end)) {
                found.push((format!("{path}/{name}"), String::from_utf8_lossy(data).into_owned()));
            }
        }
        for dependency in &self.dependencies {
            dependency.add_definitions(&format!("{path}/charts/{}", dependency.name()), found);
        }
    }
}

/// Reads values of one or more documents, later ones over earlier ones.
///
/// # Errors
/// Go's words for what does not parse.
pub(super) fn read_values(text: &str) -> Result<Map<String, Value>, String> {
    let mut values = Map::new();
    for document in yaml::documents(text) {
        let map = yaml::read_map(&document).map_err(|words| format!("cannot unmarshal yaml document: {words}"))?;
        values = merge_maps(values, map);
    }
    Ok(values)
}

/// Reads values of one or more documents, later ones over earlier ones, and lets integers be integers.
///
/// # Errors
/// What does not parse, with its place.
pub(crate) fn exact_values(text: &str) -> Result<Map<String, Value>, YamlError> {
    let mut values = Map::new();
    for document in yaml::node::parse(text)? {
        match document.json(&mut Vec::new())? {
            Value::Object(map) => values = merge_maps(values, map),
            Value::Null => {}
            _ => return Err(document.error("values must be a map")),
        }
    }
    Ok(values)
}

fn archive(data: &[u8], left: &mut u64) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut found = BTreeMap::new();
    let mut entries = tar::Archive::new(flate2::read::GzDecoder::new(data));
    for entry in entries.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).replace('\\', "/");
        let Some((_, inner)) = path.split_once('/') else {
            return Err("chart illegally contains content outside the base directory".to_owned());
        };
        let inner = crate::functions::clean_path(inner);
        if inner.starts_with("..") || inner.starts_with('/') {
            return Err("chart illegally references parent directory".to_owned());
        }
        let mut data = Vec::new();
        entry
            .by_ref()
            .take(*left + 1)
            .read_to_end(&mut data)
            .map_err(|error| error.to_string())?;
        *left = left
            .checked_sub(data.len() as u64)
            .ok_or_else(|| format!("decompressed chart is larger than the maximum size {ARCHIVE_LIMIT}"))?;
        found.insert(inner, data);
    }
    if found.is_empty() {
        return Err("no files in chart archive".to_owned());
    }
    Ok(found)
}
