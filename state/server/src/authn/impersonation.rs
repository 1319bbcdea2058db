//! Acting as somebody else: `Impersonate-User` and its companions, as far as RBAC's `impersonate` allows.

use http::HeaderMap;
use setpoint_api::Status;

use crate::authz::{Attributes, Authorizer};
use crate::request::{ANONYMOUS, UserInfo};

/// The user that the headers ask for, when they ask for one and `user` may be them.
pub(crate) fn impersonate(
    user: &UserInfo,
    headers: &HeaderMap,
    authorizer: &Authorizer,
) -> Result<Option<UserInfo>, Status> {
    let text = |name: &str| -> Option<String> {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
    };
    let name = text("impersonate-user");
    let groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|value| value.to_str().ok().map(str::to_owned))
        .collect();
    let uid = text("impersonate-uid");
    let extra: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(key, value)| {
            let key = key.as_str().strip_prefix("impersonate-extra-")?;
            Some((crate::request::decode(key), value.to_str().ok()?.to_owned()))
        })
        .collect();
    let Some(name) = name else {
        if groups.is_empty() && uid.is_none() && extra.is_empty() {
            return Ok(None);
        }
        return Err(Status::bad_request(
            "requested impersonation of groups, a uid or extra fields without impersonating a user",
        ));
    };
    let may = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        authorizer.check(
            user,
            &Attributes {
                verb: "impersonate",
                group,
                resource,
                subresource,
                namespace,
                name,
                path: None,
                fields: None,
            },
        )
    };
    let account = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .filter(|(_, account)| !account.contains(':'));
    let mut other = match account {
        Some((namespace, account)) => {
            may("", "serviceaccounts", "", namespace, account)?;
            if groups.is_empty() {
                UserInfo::service_account(namespace, account, "")
            } else {
                UserInfo {
                    name: name.clone(),
                    ..UserInfo::default()
                }
            }
        }
        None => {
            may("", "users", "", "", &name)?;
            UserInfo {
                name: name.clone(),
                ..UserInfo::default()
            }
        }
    };
    for group in &groups {
        may("", "groups", "", "", group)?;
        other.add_group(group);
    }
    if let Some(uid) = uid {
        may("authentication.k8s.io", "uids", "", "", &uid)?;
        other.uid = uid;
    }
    for (key, value) in extra {
        may("authentication.k8s.io", "userextras", &key, "", &value)?;
        other.extra.entry(key).or_default().push(value);
    }
    other.add_group(if name == ANONYMOUS {
        crate::request::UNAUTHENTICATED
    } else {
        crate::request::AUTHENTICATED
    });
    Ok(Some(other))
}
