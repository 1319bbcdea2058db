//! Which image a container runs: pull policies, what failed and how it is said.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Container;

use crate::containers::{Containers, ImageFailure, ReadyImage};

/// How long a pull may take.
const PULL_LIMIT: Duration = Duration::from_secs(30 * 60);

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
    let without_digest = reference.split('@').next().unwrap_or(reference);
    let slash = without_digest.rfind('/').map_or(0, |at| at + 1);
    let end = without_digest[slash..]
        .find(':')
        .map_or(without_digest.len(), |at| slash + at);
    format!("{}@{}", &without_digest[..end], image.digest)
}

/// Finds or fetches a container's image. `pulling` is called before a fetch begins.
pub async fn find(
    containers: &Arc<dyn Containers>,
    container: &Container,
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
        match containers.resolve_image(reference).await {
            Ok(Some(image)) => return Ok((image, Found::Present)),
            Ok(None) if policy == "Never" => {
                let message = format!("Container image \"{reference}\" is not present with pull policy of Never");
                return Err(ImageProblem {
                    reason: "ErrImageNeverPull",
                    message,
                });
            }
            Ok(None) => {}
            Err((failure, message)) => return Err(problem(reference, failure, message)),
        }
    }
    pulling();
    // How long it took is only said, so the system's own stopwatch is good enough.
    let begun = Instant::now();
    match tokio::time::timeout(PULL_LIMIT, containers.pull_image(reference)).await {
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
