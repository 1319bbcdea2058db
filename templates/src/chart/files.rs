//! Where a chart's files come from.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Gives the files of a chart.
pub trait FileSource {
    /// Lists the files with paths relative to the chart, separated by `/`.
    ///
    /// # Errors
    /// What cannot be read.
    fn files(&self) -> std::io::Result<BTreeMap<String, Vec<u8>>>;
}

/// Files in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles(pub BTreeMap<String, Vec<u8>>);

impl FileSource for MemoryFiles {
    fn files(&self) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
        Ok(self.0.clone())
    }
}

/// A folder on disk. Symbolic links are followed only to what lies within it.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

/// How much a chart may hold.
const SIZE_LIMIT: u64 = 256 << 20;
const COUNT_LIMIT: usize = 50_000;
const DEPTH_LIMIT: usize = 64;

impl FileSource for Folder {
    fn files(&self) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
        let root = self.0.canonicalize()?;
        let mut found = BTreeMap::new();
        let (mut total, mut count) = (0, 0);
        let mut open = vec![(self.0.clone(), String::new(), 0)];
        while let Some((folder, prefix, depth)) = open.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let path = format!("{prefix}{name}");
                let named = |what: &str| std::io::Error::other(format!("{path} {what}"));
                count += 1;
                if count > COUNT_LIMIT {
                    return Err(named("is one file too many"));
                }
                if entry.file_type()?.is_symlink() {
                    let target = entry.path().canonicalize().map_err(|_| named("is a link to nothing"))?;
                    if !target.starts_with(&root) {
                        return Err(named("is a link that leads out of the folder"));
                    }
                }
                let kind = std::fs::metadata(entry.path())?;
                if kind.is_dir() {
                    if depth >= DEPTH_LIMIT {
                        return Err(named("lies too deep"));
                    }
                    open.push((entry.path(), format!("{path}/"), depth + 1));
                } else if kind.is_file() {
                    total += kind.len();
                    if total > SIZE_LIMIT {
                        return Err(named("makes the folder too large"));
                    }
                    found.insert(path, std::fs::read(entry.path())?);
                }
            }
        }
        Ok(found)
    }
}
