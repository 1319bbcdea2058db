//! Namespaces: they stay, terminating, until everything in them is gone.

use serde_json::Value;
use setpoint_api::{Status, meta};

use super::{Removal, Scene, Strategy};
use crate::registry::{DeleteOptions, mark};

/// Namespaces that a cluster cannot be without.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];
const LABEL: &str = "kubernetes.io/metadata.name";

pub(crate) struct Namespaces;

impl Strategy for Namespaces {
    fn create(&self, _: &Scene<'_>, object: &mut Value, _: &mut Vec<String>) -> Result<(), Status> {
        let name = meta::name(object).to_owned();
        meta::set_label(object, LABEL, &name);
        Ok(())
    }

    fn delete(&self, scene: &Scene<'_>, object: &mut Value, _: &DeleteOptions) -> Result<Removal, Status> {
        let name = meta::name(object);
        if IMMORTAL.contains(&name) {
            return Err(Status::forbidden(
                "",
                "namespaces",
                name,
                "this namespace may not be deleted",
            ));
        }
        if self.may_go(object) {
            return Ok(Removal::Now);
        }
        if meta::is_being_deleted(object) {
            return Ok(Removal::Pending);
        }
        mark(object, scene.now, 0);
        meta::map_mut(meta::map_of(object), "status").insert("phase".into(), "Terminating".into());
        Ok(Removal::Later)
    }

    fn may_go(&self, object: &Value) -> bool {
        meta::list_at(object, &["spec", "finalizers"]).is_empty()
    }
}
