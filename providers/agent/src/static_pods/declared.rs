//! What the folder says: each file holds one pod or several, in YAML or JSON.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Key, MIRROR};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// How many pods a folder may hold.
const MOST: usize = 250;

/// A static pod as its file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// What tells it from any other, 32 hexadecimal digits: of the file's name and all that it says.
    pub hash: String,
    /// The file's name.
    pub file: String,
    /// The pod as it is to be mirrored, but for its owner.
    pub pod: Pod,
}

/// Why a file of the folder is no static pod.
#[derive(Debug, thiserror::Error)]
pub enum InvalidStaticPod {
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// It is not well formed.
    #[error("it is neither YAML nor JSON")]
    Parse(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It holds something else.
    #[error("it holds a {kind:?}; a static pod is of apiVersion v1 and kind Pod")]
    Kind {
        /// The kind.
        kind: String,
    },
    /// It is no well formed Pod.
    #[error("its Pod is not well formed")]
    Structure(#[source] serde_json::Error),
    /// The pod has no name.
    #[error("its Pod has no metadata.name")]
    Nameless,
    /// Another file has a pod of that name.
    #[error("another file has the pod {namespace}/{name}, too")]
    Twice {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
    },
    /// There are too many.
    #[error("it is left out: a node takes at most {MOST} static pods")]
    TooMany,
}

/// Reads the folder; one that is not there is empty. Files whose name begins with a dot are left out, as the kubelet does.
///
/// # Errors
/// The folder cannot be listed. What is wrong with single files is returned beside the pods of the others.
#[allow(clippy::type_complexity, reason = "pods, and faults by the file's name")]
pub(super) fn read(folder: &Path, node: &str) -> io::Result<(HashMap<Key, Declared>, Vec<(String, InvalidStaticPod)>)> {
    let (mut pods, mut faults) = (HashMap::new(), Vec::new());
    let mut names = Vec::new();
    match fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                names.push(entry?.file_name());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    names.sort();
    for name in names {
        let path = folder.join(&name);
        let name = name.to_string_lossy().into_owned();
        // Reading a pipe would wait for who writes.
        if name.starts_with('.') || !path.metadata().is_ok_and(|found| found.is_file()) {
            continue;
        }
        if let Err(fault) = read_file(&path, &name, node, &mut pods) {
            faults.push((name, fault));
        }
    }
    Ok((pods, faults))
}

fn read_file(path: &Path, name: &str, node: &str, pods: &mut HashMap<Key, Declared>) -> Result<(), InvalidStaticPod> {
    let mut text = String::new();
    let file = fs::File::open(path).map_err(InvalidStaticPod::Read)?;
    let read = file
        .take(LARGEST + 1)
        .read_to_string(&mut text)
        .map_err(InvalidStaticPod::Read)?;
    if read as u64 > LARGEST {
        let error = io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB");
        return Err(InvalidStaticPod::Read(error));
    }
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).map_err(|error| InvalidStaticPod::Parse(error.into()))?;
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        let declared = declared(document, name, node)?;
        let key = super::key(&declared.pod).ok_or(InvalidStaticPod::Nameless)?;
        if pods.len() >= MOST {
            return Err(InvalidStaticPod::TooMany);
        }
        if pods.contains_key(&key) {
            let (namespace, name) = key;
            return Err(InvalidStaticPod::Twice { namespace, name });
        }
        pods.insert(key, declared);
    }
    Ok(())
}

fn declared(document: Value, file: &str, node: &str) -> Result<Declared, InvalidStaticPod> {
    let kind = document["kind"].as_str().unwrap_or_default();
    if document["apiVersion"] != "v1" || kind != "Pod" {
        return Err(InvalidStaticPod::Kind { kind: kind.to_owned() });
    }
    let digest = Sha256::new()
        .chain_update(file)
        .chain_update([0])
        .chain_update(node)
        .chain_update([0])
        .chain_update(document.to_string())
        .finalize();
    let hash: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let mut pod = Pod::deserialize(document).map_err(InvalidStaticPod::Structure)?;
    let meta = &mut pod.metadata;
    let name = meta.name.take().filter(|name| !name.is_empty());
    let name = name.ok_or(InvalidStaticPod::Nameless)?;
    // As the kubelet names them: nodes may have files of one name.
    meta.name = Some(format!("{name}-{}", node.to_lowercase()));
    meta.namespace.get_or_insert_with(|| "default".to_owned());
    (meta.uid, meta.generate_name, meta.owner_references) = (None, None, None);
    let annotations = meta.annotations.get_or_insert_default();
    for (name, value) in [
        ("kubernetes.io/config.hash", hash.as_str()),
        ("kubernetes.io/config.source", "file"),
        (MIRROR, hash.as_str()),
    ] {
        annotations.insert(name.to_owned(), value.to_owned());
    }
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    // What the node is told to run, no taint keeps away.
    let tolerations = spec.tolerations.get_or_insert_default();
    tolerations.push(k8s_openapi::api::core::v1::Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Default::default()
    });
    pod.status = None;
    let file = file.to_owned();
    Ok(Declared { hash, file, pod })
}
