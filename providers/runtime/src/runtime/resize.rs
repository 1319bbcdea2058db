//! Changing what a running sandbox and its containers may use. It is done in their cgroups from here: no shim takes part, so that those of earlier
//! versions are resized as well.

use super::{Runtime, find};
use crate::cgroup;
use crate::error::RuntimeError;
use crate::spec::Resources;

impl Runtime {
    /// Sets the limits of a sandbox and of containers in it (by `NAME-ATTEMPT`), which must run. What is `None` stays as it is.
    ///
    /// # Errors
    /// A memory limit below what is in use is refused before anything is changed.
    pub async fn resize(
        &self,
        sandbox: &str,
        whole: &Resources,
        containers: &[(String, Resources)],
    ) -> Result<(), RuntimeError> {
        let link = self.inner.link(sandbox)?;
        let (hierarchies, instance) = (&self.inner.hierarchies, &self.inner.config.instance);
        let whole_group = hierarchies.sandbox(instance, sandbox);
        let mut groups = Vec::new();
        for (id, resources) in containers {
            if find(&link, id)?.exit.is_some() {
                return Err(RuntimeError::NotRunning(id.clone()));
            }
            let group = hierarchies.container(instance, sandbox, id);
            groups.push((format!("container {id}"), group, resources));
        }
        let last = (format!("sandbox {sandbox}"), whole_group.clone(), whole);
        for (what, group, resources) in groups.iter().chain([&last]) {
            let used = cgroup::usage(group).memory_bytes;
            if let Some(limit) = resources.memory_limit.filter(|limit| *limit < used) {
                return Err(RuntimeError::Resize {
                    what: what.clone(),
                    source: std::io::Error::other(format!(
                        "attempting to set memory limit ({limit}) below current usage ({used})"
                    )),
                });
            }
        }
        if whole.cpu_quota.is_some() {
            // A group below may not have more than the one above it, not even for a moment.
            let lifted = Resources {
                cpu_quota: Some(-1),
                ..Resources::default()
            };
            groups.insert(0, (last.0.clone(), whole_group, &lifted));
            // Whatever becomes of the others, the pod does not stay without its limit.
            let changed = apply(groups.iter());
            return apply(std::iter::once(&last)).and(changed);
        }
        apply(groups.iter().chain([&last]))
    }
}

fn apply<'a>(changes: impl Iterator<Item = &'a (String, cgroup::Group, &'a Resources)>) -> Result<(), RuntimeError> {
    for (what, group, resources) in changes {
        group.limit(resources).map_err(|source| RuntimeError::Resize {
            what: what.clone(),
            source,
        })?;
    }
    Ok(())
}
