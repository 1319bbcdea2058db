//! The check on writes of users' Secrets: nobody makes a user that they may not be.

use std::sync::{Arc, OnceLock};

use serde_json::Value;
use setpoint_api::{FieldError, Status, meta};

use super::{NAMESPACE, SECRET_TYPE, User};
use crate::admission::{Admission, AdmissionRequest, Operation};
use crate::authz::{Attributes, Authorizer};

/// Admits users' Secrets. Until the authorizer is there only the server itself writes.
pub(crate) struct Guard {
    authorizer: Arc<OnceLock<Authorizer>>,
}

impl Guard {
    /// A check that asks the authorizer in the cell, once it is there.
    pub(crate) fn new(authorizer: Arc<OnceLock<Authorizer>>) -> Guard {
        Guard { authorizer }
    }
}

impl Admission for Guard {
    fn admit(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut Value,
        _warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        let resource = request.resource;
        let is_user = resource.group.is_empty()
            && resource.plural == "secrets"
            && request.operation != Operation::Delete
            && object["type"] == SECRET_TYPE
            && meta::namespace(object) == NAMESPACE;
        if !is_user {
            return Ok(());
        }
        let name = meta::name(object);
        let user = User::from_secret(object).map_err(|error| {
            let error = FieldError::invalid("data", "", error.to_string());
            Status::invalid("", "Secret", name, &[error])
        })?;
        if User::secret_name(&user.name) != name {
            let detail = format!(
                "the Secret of user {:?} is called {}",
                user.name,
                User::secret_name(&user.name)
            );
            let error = FieldError::invalid("metadata.name", name, detail);
            return Err(Status::invalid("", "Secret", name, &[error]));
        }
        let (false, Some(authorizer)) = (request.user.is_master(), self.authorizer.get()) else {
            return Ok(());
        };
        let names = std::iter::once(("users", user.name.as_str()))
            .chain(user.groups.iter().map(|group| ("groups", group.as_str())));
        for (resource, wanted) in names {
            let impersonate = Attributes {
                verb: "impersonate",
                resource,
                name: wanted,
                ..Attributes::default()
            };
            if !authorizer.allows(request.user, &impersonate) {
                let why = format!(
                    "user {:?} may not give somebody the rights of {resource} {wanted:?}: this takes the right to impersonate",
                    request.user.name
                );
                return Err(Status::forbidden("", "secrets", name, &why));
            }
        }
        Ok(())
    }
}
