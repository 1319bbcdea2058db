//! Variables from files in a pod's volumes (`fileKeyRef`): what a file may say, and how it is read.
//!
//! A file is the small part of a shell's language that the kubelet takes: lines of `NAME='value'`, blank lines and comments; a value may go over
//! several lines and is taken as it is. The file belongs to the pod, so it is read with bounds, and no link leads out of its volume.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, FileKeySelector, Pod, Volume};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// The longest name of a variable in a file, in bytes, as the kubelet has it.
const LONGEST_KEY: usize = 128;
/// The longest value, in bytes, as the kubelet has it.
const LONGEST_VALUE: usize = 32 << 10;

/// Where a file is: its volume and its path there.
pub type Place = (String, String);

/// What a file says, `None` when it is not there, or why it cannot be read.
pub type Text = Result<Option<String>, String>;

/// Returns the files that a container's variables refer to.
pub fn referred(container: &Container) -> Vec<Place> {
    let sources = container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref());
    let references = sources.filter_map(|source| source.file_key_ref.as_ref());
    let mut places: Vec<Place> = references
        .map(|reference| (reference.volume_name.clone(), reference.path.clone()))
        .collect();
    places.sort();
    places.dedup();
    places
}

/// Reads a file of a pod. Blocking. `folder` says where a volume lies.
pub fn read(pod: &Pod, place: &Place, folder: impl Fn(&Volume) -> PathBuf) -> Text {
    let (name, path) = place;
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let volume = volumes.into_iter().find(|volume| volume.name == *name);
    let Some(volume) = volume.filter(|volume| volume.empty_dir.is_some()) else {
        return Err(format!("cannot find the volume {name:?} referenced by FileKeyRef"));
    };
    match text(&folder(volume), Path::new(path)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!(
            "couldn't parse env file: cannot read {path} of volume {name}: {error}"
        )),
    }
}

fn text(root: &Path, path: &Path) -> io::Result<String> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // Only found, and opened when it is known what it is: the pod can make devices there, and to open one does something.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    // As for a program whose root the volume is: `..` and links end there.
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(&root, path, flags, Mode::empty(), how)?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Returns a variable's value; `None` when it is not there and need not be. The error says what is wrong, for people.
pub(super) fn value(reference: &FileKeySelector, text: Option<&Text>) -> Result<Option<String>, String> {
    let FileKeySelector {
        key, path, volume_name, ..
    } = reference;
    if key.len() > LONGEST_KEY {
        return Err(format!(
            "environment variable key {key:?} exceeds maximum length of {LONGEST_KEY} characters"
        ));
    }
    let text = text.ok_or_else(|| format!("cannot find the volume {volume_name:?} referenced by FileKeyRef"))?;
    let found = match text.as_ref().map_err(Clone::clone)? {
        Some(text) => find(text, key).map_err(|error| format!("couldn't parse env file: {path}: {error}"))?,
        None => None,
    };
    match found {
        Some(value) if value.len() > LONGEST_VALUE => Err(format!(
            "environment variable value for key {key:?} exceeds maximum size of 32KB"
        )),
        // An empty value is taken for none.
        Some(value) if !value.is_empty() => Ok(Some(value)),
        _ if reference.optional == Some(true) => Ok(None),
        _ => Err(format!("environment variable key {key:?} not found in file {path:?}")),
    }
}

/// Looks for a variable; what stands after it is not looked at.
fn find(text: &str, key: &str) -> Result<Option<String>, String> {
    let mut rest = text;
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let wrong = |why: &str| format!("invalid environment variable format at line {number}{why}");
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let line = line.trim_start_matches([' ', '\t']);
        if line.trim_end().is_empty() || line.starts_with('#') {
            rest = after;
            continue;
        }
        let (name, _) = line.split_once('=').ok_or_else(|| wrong(""))?;
        if name.is_empty() {
            return Err(wrong(""));
        }
        if name.ends_with([' ', '\t']) {
            return Err(wrong(": whitespace before '=' is not allowed"));
        }
        // A value may go beyond the line.
        let value = rest.trim_start_matches([' ', '\t']);
        let value = value.get(name.len() + 1..).unwrap_or_default();
        let value = value
            .strip_prefix('\'')
            .ok_or_else(|| wrong(": value must be enclosed in single quotes"))?;
        let (value, after) = value.split_once('\'').ok_or_else(|| wrong(": unclosed single quote"))?;
        let (left, after) = after.split_once('\n').unwrap_or((after, ""));
        let left = left.trim();
        if !left.is_empty() && !left.starts_with('#') {
            return Err(wrong(": unexpected content after closing quote"));
        }
        if name == key {
            return Ok(Some(value.to_owned()));
        }
        number += value.matches('\n').count();
        rest = after;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, key: &str) -> Option<String> {
        find(text, key).expect(text)
    }

    #[test]
    fn a_file_is_read_as_a_shell_reads_it() {
        let text = "# said by another\n\n  A='one'\n\tB='#no = \"comment\" $HOME \\n' # one\nC='over\n\n  lines '\nD=''\nE='é'";
        assert_eq!(found(text, "A").as_deref(), Some("one"));
        assert_eq!(found(text, "B").as_deref(), Some("#no = \"comment\" $HOME \\n"));
        assert_eq!(found(text, "C").as_deref(), Some("over\n\n  lines "));
        assert_eq!(found(text, "D").as_deref(), Some(""));
        assert_eq!(found(text, "E").as_deref(), Some("é"));
        assert_eq!(found(text, "F"), None);
        assert_eq!(found("", "A"), None);
    }

    #[test]
    fn what_is_no_variable_is_an_error_with_its_line() {
        for (text, said) in [
            ("A='1'\nnothing\n", "at line 2"),
            ("='1'", "at line 1"),
            ("A='1\n2'\nB ='x'", "at line 3: whitespace before '=' is not allowed"),
            ("A=   'x'", "value must be enclosed in single quotes"),
            ("A=x", "value must be enclosed in single quotes"),
            ("A=\"x\"", "value must be enclosed in single quotes"),
            ("A='x''y'", "unexpected content after closing quote"),
            ("A='x\nB='y'\n", "unexpected content after closing quote"),
            ("A='x", "unclosed single quote"),
        ] {
            let error = find(text, "Z").expect_err(text);
            assert!(error.contains(said), "{text:?}: {error}");
        }
        // What comes after is nobody's matter.
        assert_eq!(found("A='x'\nnothing", "A").as_deref(), Some("x"));
    }

    #[test]
    fn only_a_regular_file_inside_the_volume_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("volume");
        std::fs::create_dir(&root).expect("a folder");
        std::fs::write(folder.path().join("secret"), "A='outside'").expect("written");
        std::fs::write(root.join("vars"), "A='inside'").expect("written");
        std::os::unix::fs::symlink("../secret", root.join("link")).expect("a link");
        std::os::unix::fs::symlink("/vars", root.join("own")).expect("a link");
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), Mode::from(0o600)).expect("a pipe");
        assert_eq!(text(&root, Path::new("vars")).expect("the file"), "A='inside'");
        assert_eq!(text(&root, Path::new("own")).expect("the file"), "A='inside'");
        let missing = text(&root, Path::new("link")).expect_err("it leads out");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(text(&root, Path::new("pipe")).is_err());
        let sparse = std::fs::File::create(root.join("large")).expect("a file");
        sparse.set_len(LARGEST + 1).expect("large");
        assert!(text(&root, Path::new("large")).is_err());
    }

    #[test]
    fn what_need_not_be_there_is_left_out() {
        let mut reference = FileKeySelector {
            key: "A".to_owned(),
            path: "vars".to_owned(),
            volume_name: "own".to_owned(),
            optional: Some(false),
        };
        let said = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(value(&reference, Some(&said("A='x'"))), Ok(Some("x".to_owned())));
        let missing = "environment variable key \"A\" not found in file \"vars\"";
        for text in [Ok(None), said("B='x'"), said("A=''")] {
            reference.optional = Some(false);
            assert_eq!(value(&reference, Some(&text)), Err(missing.to_owned()));
            reference.optional = Some(true);
            assert_eq!(value(&reference, Some(&text)), Ok(None));
        }
        assert!(value(&reference, Some(&said("nothing"))).is_err());
    }
}
