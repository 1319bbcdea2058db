//! One watcher for the refs of all repositories on disk.
//!
//! An event only wakes: whoever is woken reads the ref again and compares commits. Each repository has its git folder watched (HEAD),
//! its common folder (packed-refs) and everything below `refs`: branches nest, and for a new nested one often only the creation of its
//! folder is told. Objects are not watched and reflogs not relied on (bare repositories have none). The folder around the repository is
//! watched where that is possible: whoever moves a work tree away and puts another one in its place changes nothing inside.
//!
//! An event wakes at once, and again when 50 ms have passed without another: a write may come between an event and the moment when the
//! kernel watches a folder that is new. While events go on, there is one wake in 50 ms.
//!
//! Lock order: `notify` before `state`; never is notify called under `state`, which its thread takes when an event comes.

mod debounce;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;

use super::{GitPaths, SourceError};
use debounce::Signal;

/// The files of a git folder whose change may move a branch.
const POINTERS: [&str; 2] = ["HEAD", "packed-refs"];

/// Wakes when refs of a watched repository may have moved.
pub struct Watcher {
    notify: Mutex<RecommendedWatcher>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    keys: HashMap<String, GitPaths>,
    /// Who is woken by what happens in a folder that notify watches, and whether everything below is watched too.
    folders: HashMap<PathBuf, Folder>,
    /// Folders that are gone although keys wanted them; notify may still hold them.
    lost: BTreeSet<PathBuf>,
}

struct Folder {
    recursive: bool,
    /// Whom it concerns, and which of the names in it.
    keys: BTreeMap<String, BTreeSet<OsString>>,
}

/// A folder that a repository needs watched.
struct Wanted {
    folder: PathBuf,
    recursive: bool,
    /// The names in it that matter; all where it is recursive.
    names: Vec<OsString>,
    /// Whether the repository is not watched without it.
    needed: bool,
}

impl Watcher {
    /// Starts watching nothing. `wake` is called with a repository's key, on a thread of the watcher's own; it must neither block nor
    /// panic. Nothing is called any more soon after the watcher is dropped.
    pub fn new(wake: impl Fn(&str) + Send + Sync + 'static) -> Result<Self, SourceError> {
        let state = Arc::new(Mutex::new(State::default()));
        let signals = debounce::start(wake).map_err(|source| SourceError::Disk {
            operation: "start a thread to watch",
            path: PathBuf::from("repositories"),
            source,
        })?;
        let seen = Arc::clone(&state);
        let handler = move |event: notify::Result<Event>| handle(&seen, &signals, event);
        let notify = notify::recommended_watcher(handler).map_err(|error| explain(error, Path::new("any folder")))?;
        Ok(Self {
            notify: Mutex::new(notify),
            state,
        })
    }

    /// Watches a repository under a key. Again with the same paths: watches anew what vanished meanwhile, and does nothing else; with
    /// other paths: watches these instead. Blocking for a moment.
    pub fn watch(&self, key: &str, paths: &GitPaths) -> Result<(), SourceError> {
        let mut notify = self.notify.lock();
        let known = self.state.lock().keys.get(key) == Some(paths);
        if known {
            return Ok(());
        }
        self.drop_key(&mut notify, key);
        self.sweep(&mut notify);
        for wanted in wanted(paths) {
            let folder = &wanted.folder;
            let already = {
                let mut state = self.state.lock();
                let entry = state.folders.entry(folder.clone()).or_insert_with(|| Folder {
                    recursive: wanted.recursive,
                    keys: BTreeMap::new(),
                });
                let already = !entry.keys.is_empty();
                entry.keys.entry(key.to_owned()).or_default().extend(wanted.names);
                already
            };
            let mode = if wanted.recursive {
                RecursiveMode::Recursive
            } else {
                RecursiveMode::NonRecursive
            };
            if already {
                continue;
            }
            match notify.watch(folder, mode) {
                Ok(()) => {}
                Err(error) if wanted.needed => {
                    let error = explain(error, folder);
                    self.drop_key(&mut notify, key);
                    return Err(error);
                }
                Err(error) => {
                    tracing::debug!(folder = %folder.display(), %error, "what is put in the place of a repository is not heard of");
                    self.state.lock().folders.remove(folder);
                }
            }
        }
        let mut state = self.state.lock();
        let is_watched = |folder: &Path| {
            state
                .folders
                .get(folder)
                .is_some_and(|entry| entry.keys.contains_key(key))
        };
        // What vanished while it was being watched counts as lost, not as watched.
        if wanted(paths)
            .iter()
            .all(|wanted| !wanted.needed || is_watched(&wanted.folder))
        {
            state.keys.insert(key.to_owned(), paths.clone());
        }
        Ok(())
    }

    /// Stops watching; a wake that is under way may still come.
    pub fn unwatch(&self, key: &str) {
        let mut notify = self.notify.lock();
        self.drop_key(&mut notify, key);
        self.sweep(&mut notify);
    }

    /// Says whether a key is watched; false also after one of its folders vanished, which woke it.
    pub fn watches(&self, key: &str) -> bool {
        self.state.lock().keys.contains_key(key)
    }

    fn drop_key(&self, notify: &mut RecommendedWatcher, key: &str) {
        let mut unused = Vec::new();
        {
            let mut state = self.state.lock();
            state.keys.remove(key);
            state.folders.retain(|path, folder| {
                if folder.keys.remove(key).is_some() && folder.keys.is_empty() {
                    unused.push(path.clone());
                }
                !folder.keys.is_empty()
            });
        }
        for folder in unused {
            release(notify, &folder);
        }
    }

    /// Lets notify forget folders that are gone, so that new ones at their paths can be watched.
    fn sweep(&self, notify: &mut RecommendedWatcher) {
        let lost = std::mem::take(&mut self.state.lock().lost);
        for folder in lost {
            release(notify, &folder);
        }
    }
}

/// Notify forgets a folder by itself when it was deleted, and says here that it does not know it.
fn release(notify: &mut RecommendedWatcher, folder: &Path) {
    if let Err(error) = notify.unwatch(folder) {
        tracing::debug!(folder = %folder.display(), %error, "a folder was no longer watched");
    }
}

fn wanted(paths: &GitPaths) -> Vec<Wanted> {
    // Without a slash at the end: that is how notify names them.
    let plain = |path: &Path| path.components().collect::<PathBuf>();
    let pointers = |folder: PathBuf| Wanted {
        folder,
        recursive: false,
        names: POINTERS.map(OsString::from).to_vec(),
        needed: true,
    };
    let (git, common, root) = (plain(&paths.git_dir), plain(&paths.common_dir), plain(&paths.root));
    let mut folders = vec![
        pointers(common.clone()),
        Wanted {
            folder: common.join("refs"),
            recursive: true,
            names: Vec::new(),
            needed: true,
        },
    ];
    if git != common {
        folders.push(pointers(git));
    }
    if let (Some(around), Some(name)) = (root.parent(), root.file_name()) {
        folders.push(Wanted {
            folder: around.to_path_buf(),
            recursive: false,
            names: vec![name.to_owned()],
            needed: false,
        });
    }
    folders
}

fn handle(state: &Mutex<State>, signals: &Sender<Signal>, event: notify::Result<Event>) {
    let mut state = state.lock();
    let mut woken = BTreeSet::new();
    let mut folder_made = false;
    match event {
        Ok(event) if !event.need_rescan() => {
            if !matters(event.kind) {
                return;
            }
            folder_made = event.kind == EventKind::Create(CreateKind::Folder);
            for path in &event.paths {
                let gone = matches!(
                    event.kind,
                    EventKind::Remove(RemoveKind::Folder | RemoveKind::Other)
                        | EventKind::Modify(ModifyKind::Name(RenameMode::From))
                );
                if gone && let Some(folder) = state.folders.remove(path) {
                    state.lost.insert(path.clone());
                    for key in folder.keys.into_keys() {
                        state.keys.remove(&key);
                        woken.insert(key);
                    }
                }
                state.concerned(path, &mut woken);
            }
        }
        // Events were lost, or a new folder could not be watched: everybody looks.
        other => {
            if let Err(error) = other {
                tracing::warn!(%error, "a folder with branches cannot be watched; all repositories are looked at");
            }
            woken = state
                .folders
                .values()
                .flat_map(|folder| folder.keys.keys().cloned())
                .collect();
        }
    }
    drop(state);
    for key in woken {
        // The other end is gone only when the watcher itself is being dropped.
        signals.send(Signal { key, folder_made }).ok();
    }
}

/// Reading a ref makes events too (open, close): they must not wake, or a wake would lead to the next.
fn matters(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

impl State {
    /// Collects who is concerned by a change of `path`.
    fn concerned(&self, path: &Path, woken: &mut BTreeSet<String>) {
        // Every update goes through a lock, whose coming and going means nothing; no ref may be named so.
        if path.extension().is_some_and(|extension| extension == "lock") {
            return;
        }
        for (distance, ancestor) in path.ancestors().enumerate() {
            let Some(folder) = self.folders.get(ancestor) else {
                continue;
            };
            let name = path.file_name().filter(|_| distance == 1);
            let concerned = folder
                .keys
                .iter()
                .filter(|(_, names)| folder.recursive || name.is_some_and(|name| names.contains(name)));
            woken.extend(concerned.map(|(key, _)| key.clone()));
        }
    }
}

fn explain(error: notify::Error, path: &Path) -> SourceError {
    const TOO_MANY_FILES: i32 = 24;
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => SourceError::WatchLimit {
            what: "watches",
            sysctl: "fs.inotify.max_user_watches",
            suggestion: 524_288,
        },
        notify::ErrorKind::Io(cause) if cause.raw_os_error() == Some(TOO_MANY_FILES) => SourceError::WatchLimit {
            what: "instances",
            sysctl: "fs.inotify.max_user_instances",
            suggestion: 1_024,
        },
        notify::ErrorKind::PathNotFound => SourceError::Missing {
            path: path.to_path_buf(),
        },
        _ => SourceError::Watch {
            path: path.to_path_buf(),
            source: error,
        },
    }
}
