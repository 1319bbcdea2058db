//! The verdict on the pods of a roll-out.

use super::image::{self, Cause};
use super::{Baseline, ContainerFacts, Failure, PodFacts, Waiting};
use crate::text::brief;

/// So many crashes of one container, or failed pods, and nobody believes in the next.
const CRASHES: u32 = 3;
/// Of what others said no more characters are quoted than this.
const QUOTED: usize = 300;

/// Tells whether the pods of a roll-out cannot get well, and why. A cause that will not pass comes before one that may.
///
/// `pods` are those of the newest revision; `baseline` is how they were when the sync began, empty where they came with it.
pub fn verdict(pods: &[PodFacts], baseline: &Baseline) -> Option<Failure> {
    let mut living: Vec<&PodFacts> = pods.iter().filter(|pod| !pod.deleting).collect();
    living.sort_by(|a, b| a.name.cmp(&b.name));
    let mut passing = None;
    for pod in living.iter().filter(|pod| !pod.ready) {
        for container in pod.containers.iter().filter(|container| !container.ready) {
            match judge(pod, container, baseline) {
                Some(failure) if !failure.passing => return Some(failure),
                found => passing = passing.or(found),
            }
        }
    }
    if let Some(failure) = failed(&living, baseline) {
        return Some(failure);
    }
    passing.or_else(|| living.iter().find_map(|pod| unschedulable(pod)))
}

fn lasting(reason: String) -> Option<Failure> {
    Some(Failure { reason, passing: false })
}

fn may_pass(reason: String) -> Option<Failure> {
    Some(Failure { reason, passing: true })
}

fn who(container: &ContainerFacts) -> String {
    let sort = if container.init { "init container" } else { "container" };
    format!("{sort} {}", container.name)
}

fn judge(pod: &PodFacts, container: &ContainerFacts, baseline: &Baseline) -> Option<Failure> {
    if let Some(waiting) = &container.waiting
        && let Some(failure) = judge_waiting(container, waiting)
    {
        // The deadline decides about what waited before.
        let passing = failure.passing || baseline.waited(pod, container);
        return Some(Failure { passing, ..failure });
    }
    // The crash after which it was not started again yet counts as well.
    let down = container.terminated.is_some()
        || container
            .waiting
            .as_ref()
            .is_some_and(|waiting| waiting.reason == "CrashLoopBackOff");
    let crashes = baseline.restarts_since(pod, container) + u32::from(down && !pod.restart_never);
    if crashes >= CRASHES {
        return lasting(crashed(pod, container, crashes));
    }
    None
}

fn judge_waiting(container: &ContainerFacts, waiting: &Waiting) -> Option<Failure> {
    let (who, image) = (who(container), &container.image);
    let message = brief(&waiting.message, QUOTED);
    match waiting.reason.as_str() {
        "InvalidImageName" => lasting(format!(
            "{who}: `{image}` cannot be used as an image ({message}); correct its name"
        )),
        "ErrImageNeverPull" => lasting(format!(
            "{who}: image {image} is not on the node, and its imagePullPolicy Never forbids to fetch it; load the image into the node or change the policy"
        )),
        "ErrImagePull"
        | "ImagePullBackOff"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => judge_image(&who, image, &waiting.message),
        "CreateContainerConfigError" => judge_configuration(&who, &waiting.message),
        // Our agent says here which volume cannot be made.
        "ContainerCreating" | "PodInitializing" if waiting.message.starts_with("MountVolume") => {
            judge_configuration(&who, &waiting.message)
        }
        _ => None,
    }
}

fn judge_image(who: &str, image: &str, message: &str) -> Option<Failure> {
    let cause = image::cause(image, message);
    let message = brief(message, QUOTED);
    match cause {
        Cause::Absent => lasting(format!(
            "{who}: image {image} does not exist; push it or correct its name ({message})"
        )),
        Cause::Denied => lasting(format!(
            "{who}: image {image} does not exist or may not be read; check its name and the credentials for its registry ({message})"
        )),
        Cause::Broken => lasting(format!(
            "{who}: image {image} cannot be used; build and push it again ({message})"
        )),
        Cause::Unreachable => may_pass(format!(
            "{who}: image {image} cannot be fetched at the moment; check that its registry can be reached ({message})"
        )),
        Cause::Unsaid => may_pass(format!("{who}: image {image} cannot be fetched ({message})")),
    }
}

fn judge_configuration(who: &str, message: &str) -> Option<Failure> {
    let said = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let quoted = brief(message, QUOTED);
    if says(&[
        "cannot read ",
        "timed out",
        "failed to sync",
        "connection refused",
        "breaking off",
        "broke off",
    ]) {
        return may_pass(format!(
            "{who}: its configuration cannot be read at the moment ({quoted})"
        ));
    }
    if says(&[
        "couldn't find key",
        "non-existent config key",
        "references non-existent",
    ]) {
        return lasting(format!(
            "{who}: a key of its configuration does not exist; add it or mark the reference as optional ({quoted})"
        ));
    }
    if says(&["not found"]) {
        return lasting(format!(
            "{who}: a ConfigMap or Secret that it needs does not exist; add it or mark the reference as optional ({quoted})"
        ));
    }
    if said.starts_with("mountvolume") {
        return may_pass(format!("{who}: a volume cannot be mounted ({quoted})"));
    }
    lasting(format!(
        "{who}: it cannot be configured; correct its definition ({quoted})"
    ))
}

fn crashed(pod: &PodFacts, container: &ContainerFacts, crashes: u32) -> String {
    let who = who(container);
    let logs = format!(
        "kubectl logs -n {} {} -c {} --previous",
        pod.namespace, pod.name, container.name
    );
    let Some(ended) = container.terminated.as_ref().or(container.last.as_ref()) else {
        return format!("{who}: it ended {crashes} times; see `{logs}`");
    };
    let words = if ended.message.is_empty() {
        String::new()
    } else {
        format!(": {}", brief(&ended.message, QUOTED))
    };
    let code = ended.code;
    match ended.reason.as_str() {
        "OOMKilled" => format!(
            "{who}: it was killed {crashes} times for using more memory than its limit; raise resources.limits.memory or look for a leak{words}"
        ),
        "Completed" => format!(
            "{who}: it ended {crashes} times with exit code 0, but it has to keep running; check its command, or make it a Job{words}"
        ),
        "StartError" | "ContainerCannotRun" | "RunContainerError" => format!(
            "{who}: image {} cannot be started ({code}); check its command and arguments{words}",
            container.image
        ),
        _ => format!("{who}: it crashed {crashes} times, last with exit code {code}{words}; see `{logs}`"),
    }
}

/// Pods whose containers are not started again count as a whole.
fn failed(pods: &[&PodFacts], baseline: &Baseline) -> Option<Failure> {
    let failed: Vec<&&PodFacts> = pods
        .iter()
        .filter(|pod| pod.restart_never && pod.has_failed() && !baseline.failed.contains(&pod.uid))
        .collect();
    if failed.len() < CRASHES as usize {
        return None;
    }
    let last = failed.iter().max_by_key(|pod| (pod.created, &pod.name))?;
    let ended = last.containers.iter().find_map(|container| {
        let ended = container.terminated.as_ref().filter(|ended| ended.code != 0)?;
        Some(format!(", last {} with exit code {}", who(container), ended.code))
    });
    lasting(format!(
        "{} pods failed{}; see `kubectl logs -n {} {}`",
        failed.len(),
        ended.unwrap_or_default(),
        last.namespace,
        last.name
    ))
}

fn unschedulable(pod: &PodFacts) -> Option<Failure> {
    let why = pod.unschedulable.as_ref()?;
    let why = if why.is_empty() { "none fits" } else { why };
    may_pass(format!("no node takes pod {}: {}", pod.name, brief(why, QUOTED)))
}
