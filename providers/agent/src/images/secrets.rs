//! The credentials that a pod shows to registries: its `imagePullSecrets`, to which those of its service account were added when it was made.
//!
//! A Secret that is not there or cannot be read is told of and passed over, as the kubelet does: the image may be had without it.

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client};
use setpoint_runtime::images::{Keyring, Origin, credentials_from_secret};

use crate::sources::REQUEST_LIMIT;

/// The types of Secrets that hold credentials of registries.
const TYPES: [&str; 2] = ["kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"];

/// Reads a pod's credentials; returns them with messages for events about what could not be read.
pub async fn read(client: &Client, pod: &Pod) -> (Keyring, Vec<String>) {
    let mut keyring = Keyring::default();
    let (mut missing, mut messages) = (Vec::new(), Vec::new());
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let references = pod
        .spec
        .iter()
        .flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    for name in references
        .map(|reference| &reference.name)
        .filter(|name| !name.is_empty())
    {
        match tokio::time::timeout(REQUEST_LIMIT, api.get_opt(name)).await {
            Ok(Ok(Some(secret))) => {
                if let Err(why) = add(&namespace, name, &secret, &mut keyring) {
                    messages.push(format!(
                        "Unable to use image pull secret {name}: {why}; attempting to pull the image may not succeed."
                    ));
                }
            }
            Ok(Ok(None) | Err(_)) | Err(_) => missing.push(name.as_str()),
        }
    }
    if !missing.is_empty() {
        messages.push(format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        ));
    }
    (keyring, messages)
}

fn add(namespace: &str, name: &str, secret: &Secret, keyring: &mut Keyring) -> Result<(), String> {
    let kind = secret.type_.as_deref().unwrap_or("Opaque");
    if !TYPES.contains(&kind) {
        return Err(format!("its type is {kind}, not {}", TYPES.join(" or ")));
    }
    let origin = Origin::Secret {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: secret.metadata.uid.clone().unwrap_or_default(),
    };
    let data = secret.data.iter().flatten();
    let data = data.map(|(key, value)| (key.as_str(), value.0.as_slice()));
    credentials_from_secret(data, &origin, keyring).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn a_secret_is_read_by_its_type_and_a_bad_one_says_why_without_its_content() {
        let secret = |kind: &str, key: &str, text: &str| Secret {
            type_: Some(kind.to_owned()),
            data: Some([(key.to_owned(), ByteString(text.as_bytes().to_vec()))].into()),
            ..Secret::default()
        };
        let good = r#"{"auths": {"r.example": {"username": "ann", "password": "p"}}}"#;
        let mut keyring = Keyring::default();
        add(
            "shop",
            "pull",
            &secret(TYPES[0], ".dockerconfigjson", good),
            &mut keyring,
        )
        .unwrap();
        assert_eq!(keyring.lookup("r.example/app")[0].user, "ann");
        for (bad, part) in [
            (secret("Opaque", ".dockerconfigjson", good), "Opaque"),
            (secret(TYPES[0], ".dockerconfigjson", "{\"auths\": hidden"), "not JSON"),
        ] {
            let why = add("shop", "pull", &bad, &mut keyring).unwrap_err();
            assert!(why.contains(part) && !why.contains("hidden"), "{why}");
        }
    }
}
