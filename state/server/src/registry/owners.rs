//! References to owners that say the same twice.

use serde_json::Value;
use setpoint_api::meta;

/// When the duplicates were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// In what the client sent.
    InBody,
    /// Once everything was done to the object.
    AfterAdmission,
}

/// Drops each reference that is there already, and warns of those: some clients of long ago send them.
pub(super) fn drop_duplicates(object: &mut Value, found: Found, warnings: &mut Vec<String>) {
    let all = meta::owner_references(object);
    let repeated = |at: usize| all[..at].contains(&all[at]);
    let uids: Vec<&str> = (0..all.len())
        .filter(|at| repeated(*at))
        .map(|at| meta::str_at(&all[at], &["uid"]))
        .collect();
    if uids.is_empty() {
        return;
    }
    let when = match found {
        Found::InBody => "",
        Found::AfterAdmission => " after mutating admission happens",
    };
    warnings.push(format!(
        ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        uids.join(", ")
    ));
    let left: Vec<Value> = (0..all.len())
        .filter(|at| !repeated(*at))
        .map(|at| all[at].clone())
        .collect();
    meta::set(object, "ownerReferences", left);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reference_stays_once_and_one_that_differs_stays_beside_it() {
        let owner = |uid: &str, name: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
        let mut object = json!({"metadata": {"ownerReferences": [
            owner("1", "a"), owner("2", "b"), owner("1", "a"), owner("1", "c"), owner("2", "b"),
        ]}});
        let mut warnings = Vec::new();
        drop_duplicates(&mut object, Found::InBody, &mut warnings);
        assert_eq!(
            object["metadata"]["ownerReferences"],
            json!([owner("1", "a"), owner("2", "b"), owner("1", "c")])
        );
        assert_eq!(
            warnings,
            [
                ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: 1, 2"
            ]
        );
        drop_duplicates(&mut object, Found::AfterAdmission, &mut warnings);
        assert_eq!(warnings.len(), 1);
    }
}
