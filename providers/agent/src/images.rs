//! Which image a container runs: pull policies, what failed and how it is said. [`secrets`] reads what a pod shows to registries.

pub mod secrets;

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Container;

use setpoint_runtime::images::Keyring;

use crate::containers::{Containers, ImageFailure, ReadyImage};

/// How long a pull may take in all. A registry that says nothing is given up long before, by who speaks with it; large images over slow lines come.
const PULL_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);

/// How an image came to be there, for the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was there.
    Present,
    /// It was fetched, in so long.
    Pulled(Duration),
}

/// Why a container has no image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageProblem {
    /// `ErrImagePull`, `ErrImageNeverPull` or `InvalidImageName`.
    pub reason: &'static str,
    /// The cause.
    pub message: String,
}

/// Returns the policy by which a container's image is looked for, as Kubernetes defaults it.
pub fn pull_policy(container: &Container) -> &str {
    if let Some(policy) = container
        .image_pull_policy
        .as_deref()
        .filter(|policy| !policy.is_empty())
    {
        return policy;
    }
    let image = container.image.as_deref().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let latest = !image.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    if latest { "Always" } else { "IfNotPresent" }
}

/// Returns an image's id as the API shows it: the repository with the digest where that is known.
pub fn image_id(reference: &str, image: &ReadyImage) -> String {
    if image.digest.is_empty() {
        return image.id.clone();
    }
    by_digest(reference, &image.digest)
}

/// Returns a reference's repository with a digest.
pub fn by_digest(reference: &str, digest: &str) -> String {
    let without_digest = reference.split('@').next().unwrap_or(reference);
    let slash = without_digest.rfind('/').map_or(0, |at| at + 1);
    let end = without_digest[slash..]
        .find(':')
        .map_or(without_digest.len(), |at| slash + at);
    format!("{}@{digest}", &without_digest[..end])
}

/// Writes a duration as Go does, to the millisecond: `393ms`, `1.2s`, `1m2.3s`.
pub fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let mut seconds = format!("{}.{:03}", millis / 1000 % 60, millis % 1000);
    seconds.truncate(seconds.trim_end_matches('0').trim_end_matches('.').len());
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Returns what the event of a fetch says, in the kubelet's words.
pub fn pulled(reference: &str, took: Duration, image: &ReadyImage) -> String {
    let (took, size) = (go_duration(took), image.size);
    format!("Successfully pulled image \"{reference}\" in {took} ({took} including waiting). Image size: {size} bytes.")
}

/// Finds or fetches a container's image for a pod that holds these credentials. `pulling` is called before a fetch begins.
pub async fn find(
    containers: &Arc<dyn Containers>,
    container: &Container,
    secrets: Keyring,
    pulling: impl FnOnce() + Send,
) -> Result<(ReadyImage, Found), ImageProblem> {
    let reference = container.image.as_deref().unwrap_or_default();
    if reference.is_empty() {
        return Err(ImageProblem {
            reason: "InvalidImageName",
            message: "the container names no image".to_owned(),
        });
    }
    let policy = pull_policy(container);
    // A digest means one image for ever: there is nothing to ask a registry about.
    if policy != "Always" || reference.contains('@') {
        let failed = |(failure, message)| problem(reference, failure, message);
        let found = containers.resolve_image(reference).await.map_err(failed)?;
        let never = |why: &str| ImageProblem {
            reason: "ErrImageNeverPull",
            message: format!("Container image \"{reference}\" {why}"),
        };
        match found {
            Some(image) => {
                let allowed = containers.may_use_image(reference, &image.id, &secrets).await;
                if allowed.map_err(failed)? {
                    return Ok((image, Found::Present));
                }
                // Whoever fetched it had credentials: this pod shows its own to the registry.
                if policy == "Never" {
                    return Err(never(
                        "is present with pull policy of Never but does not have the proper credentials to be used",
                    ));
                }
            }
            None if policy == "Never" => return Err(never("is not present with pull policy of Never")),
            None => {}
        }
    }
    pulling();
    // How long it took is only said, so the system's own stopwatch is good enough.
    let begun = Instant::now();
    match tokio::time::timeout(PULL_LIMIT, containers.pull_image(reference, secrets)).await {
        Ok(Ok(image)) => Ok((image, Found::Pulled(begun.elapsed()))),
        Ok(Err((failure, message))) => Err(problem(reference, failure, message)),
        Err(_) => Err(problem(
            reference,
            ImageFailure::Pull,
            format!("no answer within {} s", PULL_LIMIT.as_secs()),
        )),
    }
}

fn problem(reference: &str, failure: ImageFailure, message: String) -> ImageProblem {
    match failure {
        ImageFailure::InvalidName => {
            let message = format!("Failed to apply default image tag \"{reference}\": {message}");
            ImageProblem {
                reason: "InvalidImageName",
                message,
            }
        }
        ImageFailure::Pull => ImageProblem {
            reason: "ErrImagePull",
            message: format!("failed to pull image \"{reference}\": {message}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_defaults_by_the_tag() {
        let policy = |image: &str| {
            let container = Container {
                image: Some(image.to_owned()),
                ..Container::default()
            };
            pull_policy(&container).to_owned()
        };
        assert_eq!(policy("nginx"), "Always");
        assert_eq!(policy("nginx:latest"), "Always");
        assert_eq!(policy("host:5000/nginx"), "Always");
        assert_eq!(policy("host:5000/nginx:1"), "IfNotPresent");
        assert_eq!(policy("nginx@sha256:aa"), "IfNotPresent");
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (millis, expected) in [
            (0, "0s"),
            (393, "393ms"),
            (1000, "1s"),
            (1200, "1.2s"),
            (12_034, "12.034s"),
            (62_300, "1m2.3s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn an_image_id_is_repository_and_digest() {
        let image = ReadyImage {
            id: "sha256:c".to_owned(),
            digest: "sha256:d".to_owned(),
            user: None,
            size: 0,
        };
        assert_eq!(image_id("host:5000/a/nginx:1", &image), "host:5000/a/nginx@sha256:d");
        assert_eq!(image_id("nginx", &image), "nginx@sha256:d");
        let unknown = ReadyImage {
            digest: String::new(),
            ..image
        };
        assert_eq!(image_id("nginx", &unknown), "sha256:c");
    }
}
