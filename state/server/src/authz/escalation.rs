//! Nobody grants what they do not have, unless they hold `escalate` or `bind`.

use std::sync::{Arc, OnceLock};

use serde_json::Value;
use setpoint_api::validate::field::quote;
use setpoint_api::{Status, meta};

use super::rules::{TooMany, compact, uncovered};
use super::{Attributes, Authorizer, Rule};
use crate::admission::{Admission, AdmissionRequest, Operation};
use crate::request::UserInfo;

const GROUP: &str = "rbac.authorization.k8s.io";

/// The check on writes of roles and bindings. It takes part in the chain before the authorizer exists; until then only
/// the server itself writes.
#[derive(Default)]
pub(crate) struct Escalation {
    authorizer: Arc<OnceLock<Authorizer>>,
}

impl Escalation {
    /// A check that asks the authorizer in the cell, once it is there.
    pub(crate) fn new(authorizer: Arc<OnceLock<Authorizer>>) -> Escalation {
        Escalation { authorizer }
    }
}

impl Admission for Escalation {
    fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut Value,
        _warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || request.resource.group != GROUP || request.user.is_master() {
            return Ok(());
        }
        let Some(authorizer) = self.authorizer.get() else {
            return Ok(());
        };
        let resource: &str = &request.resource.plural;
        match resource {
            // An update that leaves these as they are grants nothing.
            "roles" | "clusterroles" if unchanged(request, object, ["rules", "aggregationRule"]) => Ok(()),
            "rolebindings" | "clusterrolebindings" if unchanged(request, object, ["roleRef", "subjects"]) => Ok(()),
            "roles" | "clusterroles" => role(authorizer, request.user, resource, object, request.old),
            "rolebindings" | "clusterrolebindings" => binding(authorizer, request.user, resource, object),
            _ => Ok(()),
        }
    }
}

fn unchanged(request: &AdmissionRequest<'_>, object: &Value, keys: [&str; 2]) -> bool {
    request
        .old
        .is_some_and(|old| keys.iter().all(|key| old[key] == object[key]))
}

fn role(
    authorizer: &Authorizer,
    user: &UserInfo,
    resource: &str,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let namespace = text(object, "namespace");
    let name = text(object, "name");
    let escalate = Attributes {
        verb: "escalate",
        group: GROUP,
        resource,
        namespace,
        name,
        ..Attributes::default()
    };
    if authorizer.allows(user, &escalate) {
        return Ok(());
    }
    refuse_uncovered(authorizer, user, namespace, &Rule::read_all(object), resource, name)?;
    // Whoever may aggregate may take in any rule that anybody adds later, and whoever ends it keeps what was taken in.
    let aggregates = |role: &Value| !meta::list_at(role, &["aggregationRule", "clusterRoleSelectors"]).is_empty();
    if (aggregates(object) || old.is_some_and(aggregates))
        && refuse_uncovered(authorizer, user, namespace, &everything(), resource, name).is_err()
    {
        return Err(Status::forbidden(
            GROUP,
            resource,
            name,
            "must have cluster-admin privileges to use the aggregationRule",
        ));
    }
    Ok(())
}

fn everything() -> [Rule; 2] {
    let all = || vec!["*".to_owned()];
    [
        Rule {
            verbs: all(),
            groups: all(),
            resources: all(),
            ..Rule::default()
        },
        Rule {
            verbs: all(),
            paths: all(),
            ..Rule::default()
        },
    ]
}

fn binding(authorizer: &Authorizer, user: &UserInfo, resource: &str, object: &Value) -> Result<(), Status> {
    let namespace = text(object, "namespace");
    let role_ref = &object["roleRef"];
    let role_resource = match role_ref["kind"].as_str() {
        Some("ClusterRole") => "clusterroles",
        _ => "roles",
    };
    let role_name = role_ref["name"].as_str().unwrap_or_default();
    let bind = Attributes {
        verb: "bind",
        group: GROUP,
        resource: role_resource,
        namespace,
        name: role_name,
        ..Attributes::default()
    };
    if authorizer.allows(user, &bind) {
        return Ok(());
    }
    match authorizer.index().referenced(role_ref, namespace) {
        Some(rules) => refuse_uncovered(authorizer, user, namespace, &rules, resource, text(object, "name")),
        None => Err(Status::not_found(GROUP, role_resource, role_name)),
    }
}

fn refuse_uncovered(
    authorizer: &Authorizer,
    user: &UserInfo,
    namespace: &str,
    wanted: &[Rule],
    resource: &str,
    name: &str,
) -> Result<(), Status> {
    let index = authorizer.index();
    let held: Vec<Rule> = index.rules(user, namespace).cloned().collect();
    let why = match uncovered(&held, wanted) {
        Ok(missing) if missing.is_empty() => return Ok(()),
        Ok(missing) => {
            let mut rules: Vec<String> = compact(missing).iter().map(describe).collect();
            rules.sort();
            rules.dedup();
            format!(
                "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
                quote(&user.name),
                quoted(&user.groups),
                rules.join("\n")
            )
        }
        Err(TooMany) => format!(
            "user {} is attempting to grant RBAC permissions that are too many combinations to be checked; use fewer verbs, \
             groups, resources and names to a rule",
            quote(&user.name)
        ),
    };
    Err(Status::forbidden(GROUP, resource, name, &why))
}

fn describe(rule: &Rule) -> String {
    let lists = [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.paths),
        ("ResourceNames", &rule.names),
        ("Verbs", &rule.verbs),
    ];
    let parts: Vec<String> = lists
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(key, list)| format!("{key}:{}", quoted(list)))
        .collect();
    format!("{{{}}}", parts.join(", "))
}

/// A list of texts as Go prints it with `%q`.
fn quoted(list: &[String]) -> String {
    let items: Vec<String> = list.iter().map(|item| quote(item)).collect();
    format!("[{}]", items.join(" "))
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"][key].as_str().unwrap_or_default()
}
