//! The rows of the built-in kinds, in the order of discovery: a file per family of groups.

mod admission;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod cluster;
mod core;
mod events;
mod metrics;
mod networking;
mod policy;
mod rbac;
mod reviews;
mod scheduling;
mod storage;
mod writing;

use super::{
    ALL_VERBS, Conversion, Part, Resource, Rules, ScalePaths, SelectableField, Subresource, SubresourceAction,
};
use crate::table;
use crate::validate::metadata::NameRule;

const STATUS_VERBS: &[&str] = &["get", "patch", "update"];
const CREATE: &[&str] = &["create"];
const CONNECT: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Makes all built-in rows.
pub fn rows() -> Vec<Resource> {
    [
        core::core(),
        apps::apps(),
        rbac::rbac(),
        autoscaling::autoscaling(),
        policy::policy(),
        storage::storage(),
        cluster::cluster(),
        events::events(),
        reviews::reviews(),
        metrics::metrics(),
        batch::batch(),
        networking::networking(),
        scheduling::scheduling(),
        certificates::certificates(),
        admission::admission(),
    ]
    .concat()
}

/// Makes a namespaced kind with all verbs and nothing special.
pub(super) fn plain(group: &str, kind: &str, plural: &str) -> Resource {
    let (columns, row) = table::created_at();
    Resource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        storage_group: group.to_owned(),
        conversion: None,
        storage_version: "v1".to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced: true,
        verbs: ALL_VERBS.to_vec(),
        creates: None,
        subresources: Vec::new(),
        has_status: false,
        status_resets: &[&["spec"]],
        status_on_create: false,
        has_generation: false,
        heartbeat: &[],
        columns,
        row,
        selectable_fields: Vec::new(),
        name_rule: NameRule::Subdomain,
        rules: Rules::NONE,
        deprecation: None,
        unattended: None,
        schema: None,
        custom: false,
        writing: writing::of(group, plural),
    }
}

impl Resource {
    pub(super) fn short(mut self, names: &[&str]) -> Resource {
        self.short_names = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    pub(super) fn deprecated(mut self, warning: &str) -> Resource {
        self.deprecation = Some(warning.to_owned());
        self
    }

    /// Says what does not happen to objects of this kind, because nothing in this program attends to them.
    pub(super) fn unattended(mut self, what: &str) -> Resource {
        self.unattended = Some(what.to_owned());
        self
    }

    pub(super) fn all(self) -> Resource {
        self.category("all")
    }

    pub(super) fn category(mut self, category: &str) -> Resource {
        self.categories.push(category.to_owned());
        self
    }

    pub(super) fn cluster(mut self) -> Resource {
        self.namespaced = false;
        self
    }

    pub(super) fn names(mut self, rule: NameRule) -> Resource {
        self.name_rule = rule;
        self
    }

    pub(super) fn without(mut self, verb: &str) -> Resource {
        self.verbs.retain(|found| *found != verb);
        self
    }

    /// Adds a status that is written through its subresource only.
    pub(super) fn status(mut self) -> Resource {
        self.has_status = true;
        let (group, version, kind) = (self.group.clone(), self.version.clone(), self.kind.clone());
        self.sub(
            "status",
            (&group, &version, &kind),
            STATUS_VERBS,
            SubresourceAction::Status,
        )
    }

    /// Says what a write through `status` may not change, where that is not the spec alone.
    pub(super) fn status_resets(mut self, fields: &'static [&'static [&'static str]]) -> Resource {
        self.status_resets = fields;
        self
    }

    pub(super) fn status_on_create(mut self) -> Resource {
        self.status_on_create = true;
        self
    }

    /// Counts changes in `metadata.generation`.
    pub(super) fn generation(mut self) -> Resource {
        self.has_generation = true;
        self
    }

    pub(super) fn heartbeat(mut self, fields: &'static [&'static [&'static str]]) -> Resource {
        self.heartbeat = fields;
        self
    }

    pub(super) fn scaled(self) -> Resource {
        let path = |first: &str, last: &str| vec![first.to_owned(), last.to_owned()];
        let paths = ScalePaths {
            spec_replicas: path("spec", "replicas"),
            status_replicas: path("status", "replicas"),
            selector: Some(path("spec", "selector")),
        };
        self.scale_at(paths)
    }

    /// Adds the scale subresource.
    pub(super) fn scale_at(self, paths: ScalePaths) -> Resource {
        self.sub(
            "scale",
            ("autoscaling", "v1", "Scale"),
            STATUS_VERBS,
            SubresourceAction::Scale(paths),
        )
    }

    pub(super) fn sub(
        mut self,
        name: &str,
        (group, version, kind): (&str, &str, &str),
        verbs: &'static [&'static str],
        action: SubresourceAction,
    ) -> Resource {
        self.subresources.push(Subresource {
            name: name.to_owned(),
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            verbs,
            action,
        });
        self
    }

    /// Says that objects are stored as objects of another group or version.
    pub(super) fn stored_as(mut self, group: &str, version: &str, conversion: Conversion) -> Resource {
        group.clone_into(&mut self.storage_group);
        version.clone_into(&mut self.storage_version);
        self.conversion = Some(conversion);
        self
    }

    /// Checks changes of the status.
    pub(super) fn status_validated(
        mut self,
        status: fn(&serde_json::Value, &serde_json::Value) -> Vec<crate::FieldError>,
    ) -> Resource {
        self.rules.validate_status = status;
        self
    }

    /// Adds a path by which a part of the object is written.
    pub(super) fn part(self, part: Part) -> Resource {
        let (group, version, kind) = (self.group.clone(), self.version.clone(), self.kind.clone());
        self.sub(
            part.name,
            (&group, &version, &kind),
            STATUS_VERBS,
            SubresourceAction::Part(part),
        )
    }

    pub(super) fn table(mut self, (columns, row): (Vec<table::Column>, table::Row)) -> Resource {
        (self.columns, self.row) = (columns, row);
        self
    }

    pub(super) fn selectable(mut self, names: &[&str]) -> Resource {
        self.selectable_fields
            .extend(names.iter().map(|name| SelectableField::new(name)));
        self
    }

    pub(super) fn selectable_at(mut self, name: &str, path: &str, absent: &'static str) -> Resource {
        self.selectable_fields.push(SelectableField {
            name: name.to_owned(),
            absent,
            ..SelectableField::new(path)
        });
        self
    }

    pub(super) fn defaulted(mut self, default: fn(&mut serde_json::Value)) -> Resource {
        self.rules.default = default;
        self
    }

    pub(super) fn validated(
        mut self,
        create: fn(&serde_json::Value) -> Vec<crate::FieldError>,
        update: fn(&serde_json::Value, &serde_json::Value) -> Vec<crate::FieldError>,
    ) -> Resource {
        self.rules.validate_create = create;
        self.rules.validate_update = update;
        self
    }

    pub(super) fn prepared(
        mut self,
        create: fn(&mut serde_json::Value),
        update: fn(&mut serde_json::Value, &serde_json::Value),
    ) -> Resource {
        self.rules.prepare_create = create;
        self.rules.prepare_update = update;
        self
    }
}

#[cfg(test)]
mod tests;
